"""Pace: how fast a `map` has been going lately, and so how long it will take."""

from __future__ import annotations

from collections import deque

RECENT = 10.0  #: seconds that count at least
PART = 3  #: and at least this part of the time so far, so that an answer a minute is a pace too
POINTS = 50  #: kept of those


class Pace:
    """The requests answered in the last third of the time, or in the last ten seconds.

    Not since the start: the samples that an earlier run has bought come in the first
    second, and say nothing about those that are bought now.
    """

    def __init__(self) -> None:
        self._points: deque[tuple[float, int]] = deque([(0.0, 0)])

    def note(self, seconds: float, done: int) -> None:
        """After so many *seconds* so many requests are *done*."""
        recent = max(RECENT, seconds / PART)
        points = self._points
        while len(points) > 1 and points[1][0] <= seconds - recent and points[1][1] < done:
            points.popleft()
        if seconds - points[-1][0] >= recent / POINTS:
            points.append((seconds, done))

    def seconds_left(self, seconds: float, done: int, total: int | None) -> float | None:
        """Until *total* are; None where nobody knows."""
        since, before = self._points[0]
        if total is None or done <= before or seconds <= since:
            return None
        return max(0, total - done) * (seconds - since) / (done - before)
