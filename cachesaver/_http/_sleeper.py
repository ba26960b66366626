"""An event loop that can be caught asleep: the one place of the library that knows asyncio."""

from __future__ import annotations

import asyncio
import socket
from selectors import DefaultSelector, SelectorKey
from threading import Lock
from typing import Any

from anyio import to_thread
from anyio.lowlevel import EventLoopToken


class Sleeper(DefaultSelector):
    """The selector of a loop whose thread holds *lock* but while it sleeps.

    Who takes the lock in another thread knows that nothing of the loop runs, and may
    do there what takes no await. It saves a hit two switches of threads, which cost
    several times what the hit does.
    """

    def __init__(self, lock: Lock) -> None:
        super().__init__()
        self._lock = lock

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Sleep until something is ready."""
        self._lock.release()
        try:
            return super().select(timeout)
        finally:
            self._lock.acquire()


class _Loop(asyncio.SelectorEventLoop):
    """Looks up hosts until the program's very end: the threads of an executor do not once the main thread has ended."""

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        """The same as `socket.getaddrinfo`."""
        return await to_thread.run_sync(lambda: socket.getaddrinfo(host, port, **options), abandon_on_cancel=True)


def sleeping_loop(lock: Lock) -> asyncio.AbstractEventLoop:
    """A loop with a `Sleeper`. Its thread must hold *lock* when it starts."""
    return _Loop(Sleeper(lock))


def debugs(token: EventLoopToken) -> bool:
    """Whether the loop is in debug mode, where it takes nothing from another thread, asleep or not."""
    loop: Any = token.native_token
    return loop.get_debug()
