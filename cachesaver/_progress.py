"""Showing: takes the figures of a `map` while it runs, and has them shown."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from anyio import current_time, sleep

from ._display import display_here
from ._figures import Figures
from ._pace import Pace

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._door import Door

UNSEEN = (OSError, ValueError)  #: what a stream raises that is closed, or whose terminal has gone; the map goes on
VIRTUAL = 0.05  #: seconds by which a sleep may differ from the same sleep on the real clock


class Counted(Protocol):
    """What is asked in a map."""

    asked: int

    @property
    def in_flight(self) -> int: ...


class Showing:
    """Shows how far *requests* are, as long as its block; a task of *tasks* redraws, and ends with the others."""

    def __init__(self, door: Door, requests: Counted, tasks: TaskGroup, *, name: str, total: int | None) -> None:
        self._door = door
        self._requests = requests
        self._tasks = tasks
        self._name = name
        self._total = total
        self._display = display_here()
        self._pace = Pace()
        self._start = current_time()
        self._before = door.stats
        self._ended = False

    def __enter__(self) -> None:
        self._tasks.start_soon(self._redraw)

    def __exit__(self, *_: object) -> None:
        self._ended = True
        try:
            self._show()
        finally:
            with suppress(*UNSEEN):
                self._display.stop()

    async def _redraw(self) -> None:
        pause = self._display.period
        while True:
            drift = current_time() - monotonic()
            await sleep(pause)
            if self._ended:
                return
            # A clock of a test, which jumps to whatever is next, would stop here all the time.
            virtual = abs(current_time() - monotonic() - drift) > VIRTUAL
            pause = 2 * pause if virtual else max(self._display.period, 0.9 * pause)
            self._show()

    def _show(self) -> None:
        with suppress(*UNSEEN):
            self._display.show(self.figures())

    def figures(self) -> Figures:
        """Those of this moment."""
        seconds = current_time() - self._start
        in_flight = self._requests.in_flight
        done = self._requests.asked - in_flight
        self._pace.note(seconds, done)
        total = None if self._total is None else max(self._total, done)
        return Figures(
            done=done,
            total=total,
            in_flight=in_flight,
            stats=self._door.stats.since(self._before),
            resting=tuple(self._door.resting.values()),
            seconds_left=self._pace.seconds_left(seconds, done, total) if not self._ended else None,
            name=self._name,
        )
