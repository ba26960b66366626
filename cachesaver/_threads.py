"""Waiting in an event loop for a future of a thread: the one place that knows both loops."""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib import import_module
from threading import get_ident, main_thread
from typing import Any, TypeVar

from anyio import Event
from anyio.lowlevel import EventLoopToken, current_token

T = TypeVar("T")
# What is under `signal`, whose own functions look for each handler in an enum: 60 µs for that of asyncio.
_signal: Any = import_module("_signal")

AT_ONCE = 0.0003  #: seconds; about what it costs to have an event loop woken by another thread


def there_soon(future: Future[Any]) -> bool:
    """Whether *future* is done before this loop could be woken for it; the loop is held up for so long."""
    with suppress(TimeoutError):
        future.exception(AT_ONCE)
    return future.done()


async def completed(future: Future[T]) -> T:
    """The result of *future*. The thread is never held up by this loop, nor by its end."""
    if not future.done():
        done = Event()
        wake = waker()
        future.add_done_callback(lambda _: wake(done.set))
        await done.wait()
    return future.result()


def waker() -> Callable[[Callable[[], None]], None]:
    """How another thread has this loop call something soon.

    anyio's own way blocks the calling thread until the loop has answered, and the
    owner of the database must not wait for a loop that may be waiting for it.
    """
    return partial(call_soon, current_token().native_token)


def call_soon(native: Any, callback: Callable[[], None]) -> None:
    """Have the loop of the token *native* call *callback*, unless it has ended: then nobody waits any more."""
    with suppress(RuntimeError):
        if hasattr(native, "call_soon_threadsafe"):
            native.call_soon_threadsafe(callback)
        else:
            native.run_sync_soon(callback)


def runs_here(loop: EventLoopToken) -> bool:
    """Whether *loop* runs in this thread now: what comparing it to `current_token()` says, in a fifth of the time."""
    try:
        return loop.backend_class.current_token() is loop.native_token
    except RuntimeError:  # none of its kind does
        return False


def stands_still(loop: EventLoopToken) -> bool:
    """Whether it is a loop of asyncio between two `run_until_complete`, where nothing in it goes on."""
    native: Any = loop.native_token
    return hasattr(native, "is_running") and not native.is_running() and not native.is_closed()


def unbroken(work: Callable[[T], object], item: T) -> None:
    """Call *work* with *item*; in the main thread, where Ctrl-C strikes anywhere, that waits until it is done.

    For what changes the state of a stack from a caller's thread: half of it done would break the stack.
    """
    handler = _signal.getsignal(signal.SIGINT) if get_ident() == main_thread().ident else None
    if not callable(handler):  # it is not Python that would act on it
        work(item)
        return
    struck: list[int] = []

    def strike(number: int, _: object) -> None:
        struck.append(number)

    _signal.signal(signal.SIGINT, strike)
    try:
        work(item)
    finally:
        _signal.signal(signal.SIGINT, handler)
        if struck:
            signal.raise_signal(signal.SIGINT)
