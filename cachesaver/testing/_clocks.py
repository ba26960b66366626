"""Clocks that jump: when every task sleeps, time skips to the next one that wakes."""

from __future__ import annotations

import asyncio
import selectors
import threading
from functools import partial
from typing import Any

# Waiting for real that long must be for a thread or a socket, not for a timer.
PATIENCE = 0.02


def jumping(backend: str, patience: float = PATIENCE) -> tuple[str, dict[str, Any]]:
    """What `anyio.run(..., backend=..., backend_options=...)` and anyio's pytest plugin take, for virtual time.

    *backend* is "asyncio" or "trio". The clocks wait for worker threads: they jump
    only when nothing has happened for *patience* seconds of real time, so that the
    cache's own thread is idle too. Without threads at work it may be 0.
    """
    if backend == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=patience)}
    return "asyncio", {"loop_factory": partial(JumpingLoop, patience)}


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time; the twin of trio's MockClock with autojump."""

    def __init__(self, patience: float = PATIENCE) -> None:
        super().__init__(_JumpingSelector(self, patience))
        self.skipped = 0.0
        self.owner = threading.get_ident()

    def time(self) -> float:
        return self.skipped


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop, patience: float) -> None:
        super().__init__()
        self._loop = loop
        self._patience = patience

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(self._patience)
        if not events:
            self._loop.skipped += timeout
        return events
