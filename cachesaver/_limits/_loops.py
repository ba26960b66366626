"""Loop: an event loop as a limiter sees it; many may use one limiter, each with a clock of its own."""

from __future__ import annotations

from time import monotonic
from typing import Any
from weakref import ref

from anyio import Event, NoEventLoopError, current_time
from anyio.lowlevel import RunVar, current_token

from .._threads import call_soon


class Loop:
    """Tells the time that all of them share, and wakes what waits in it from wherever."""

    def __init__(self) -> None:
        self._native = ref(current_token().native_token)  # it is kept with the loop, and must not keep it alive
        self._behind = monotonic() - current_time()

    @property
    def now(self) -> float:
        """Seconds, on the clock that all loops share: the monotonic one, unless this loop's time is virtual."""
        return current_time() + self._behind if _running() is self else monotonic()

    def deadline(self, time: float) -> float:
        """*time* on this loop's own clock."""
        return time - self._behind

    @property
    def stands_still(self) -> bool:
        """Whether it is between two runs, or has ended, so that nothing in it goes on."""
        native: Any = self._native()
        return native is None or (hasattr(native, "is_running") and not native.is_running())

    def set(self, event: Event) -> None:
        """Set *event*, which something in this loop waits for."""
        native: Any = self._native()
        if _running() is self:
            event.set()
        elif native is not None:
            call_soon(native, event.set)


_loop: RunVar[Loop] = RunVar("cachesaver_loop")


def loop_here() -> Loop:
    """The running event loop."""
    loop = _loop.get(None)
    if loop is None:
        loop = Loop()
        _loop.set(loop)
    return loop


def shared_time() -> float:
    """Seconds, on the clock that all loops share, inside of a loop or not."""
    loop = _running()
    return monotonic() if loop is None else loop.now


def _running() -> Loop | None:
    try:
        return _loop.get(None)
    except NoEventLoopError:
        return None
