"""Asking a stack that the user has entered: in its event loop, or from a thread beside it."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from anyio import Event, RunFinishedError, from_thread

from .._errors import Closed
from .._stage import Stage
from .._threads import runs_here, stands_still
from ._exchange import Exchange
from ._reply import reply

OTHER_LOOP = (
    "the stack under this client runs in another event loop; ask in the loop that entered it, or give the client a"
    " folder instead of a stack: then it keeps one in a thread of its own, for every loop"
)
BLOCKED = (
    "a sync call here would block the event loop that has to answer it; use the async client, or"
    " anyio.to_thread.run_sync, or give the client a folder instead of a stack"
)
NOT_RUNNING = "the stack under this client is not running: ask inside its `async with` block"
STILL = (
    "the event loop of the stack under this client stands still, so nobody would answer; ask while it runs, or give"
    " the client a folder instead of a stack"
)


async def ask(stage: Stage, exchange: Exchange) -> Any:
    if stage.loop is None or not runs_here(stage.loop):
        raise Closed(OTHER_LOOP if stage.running else NOT_RUNNING)
    try:
        ticket = exchange.open(stage)
        await stage.submit([ticket])
        if not ticket.answered and exchange.pipe is None:
            ready = Event()
            exchange.when_ready = ready.set
            await ready.wait()
        return reply(exchange)
    except BaseException:
        exchange.leave()
        raise


def ask_from_thread(stage: Stage, exchange: Exchange) -> Any:
    """Ask a stack whose event loop runs in another thread."""
    ready: Future[None] = Future()
    exchange.when_ready = lambda: ready.set_result(None)
    loop = stage.loop
    if loop is None:
        raise Closed(NOT_RUNNING)
    if runs_here(loop):
        raise Closed(BLOCKED)
    if stands_still(loop):
        raise Closed(STILL)
    try:
        from_thread.run(_submit, stage, exchange, token=loop)
        ready.result()
        return reply(exchange)
    except RunFinishedError:
        raise Closed("the event loop of the stack under this client has ended") from None
    except BaseException:
        with suppress(RunFinishedError):
            from_thread.run_sync(exchange.leave, token=loop)
        raise


async def _submit(stage: Stage, exchange: Exchange) -> None:
    await stage.submit([exchange.open(stage)])
