"""Loop: an event loop as a limiter sees it; many may use one limiter, each with a clock of its own."""

from __future__ import annotations

from time import monotonic

from anyio import Event, NoEventLoopError, current_time
from anyio.lowlevel import RunVar

from .._threads import waker


class Loop:
    """Tells the time that all of them share, and wakes what waits in it from wherever."""

    def __init__(self) -> None:
        self._wake = waker()
        self._behind = monotonic() - current_time()

    @property
    def now(self) -> float:
        """Seconds, on the clock that all loops share: the monotonic one, unless this loop's time is virtual."""
        return current_time() + self._behind if _running() is self else monotonic()

    def deadline(self, time: float) -> float:
        """*time* on this loop's own clock."""
        return time - self._behind

    def set(self, event: Event) -> None:
        """Set *event*, which something in this loop waits for."""
        if _running() is self:
            event.set()
        else:
            self._wake(event.set)


_loop: RunVar[Loop] = RunVar("cachesaver_loop")


def loop_here() -> Loop:
    """The running event loop."""
    loop = _loop.get(None)
    if loop is None:
        loop = Loop()
        _loop.set(loop)
    return loop


def _running() -> Loop | None:
    try:
        return _loop.get(None)
    except NoEventLoopError:
        return None
