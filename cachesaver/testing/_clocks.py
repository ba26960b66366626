"""Clocks that jump: when every task sleeps, time skips to the next one that wakes."""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import Any

# Waiting for real that long must be for a thread or a socket, not for a timer.
PATIENCE = 0.02


def jumping(backend: str) -> tuple[str, dict[str, Any]]:
    """What `anyio.run(..., backend=..., backend_options=...)` and anyio's pytest plugin take, for virtual time.

    *backend* is "asyncio" or "trio". The clocks wait for worker threads: they jump
    only when the cache's own thread is idle too.
    """
    if backend == "trio":
        from trio.testing import MockClock

        return "trio", {"clock": MockClock(autojump_threshold=PATIENCE)}
    return "asyncio", {"loop_factory": JumpingLoop}


class JumpingLoop(asyncio.SelectorEventLoop):
    """An asyncio loop in virtual time; the twin of trio's MockClock with autojump."""

    def __init__(self) -> None:
        super().__init__(_JumpingSelector(self))
        self.skipped = 0.0
        self.owner = threading.get_ident()

    def time(self) -> float:
        return self.skipped


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(PATIENCE)
        if not events:
            self._loop.skipped += timeout
        return events
