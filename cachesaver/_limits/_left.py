"""Left: what a provider says is left of a limit, spread over the time until it is whole again."""

from __future__ import annotations

import math
from dataclasses import dataclass

HORIZON = 120.0  #: seconds; what is left of a longer period (a day's) is used as it comes, not spread


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit as announced: *remaining* of it now, whole again in *reset* seconds."""

    remaining: float
    reset: float


class Left:
    """Paces starts so that what is left lasts until the reset: one rule for both kinds of limit.

    A fixed window is used up just when it ends. A bucket that is refilled at a rate R
    up to L, and has x left, tells a reset in (L - x) / R: so the pace is R * x / (L - x),
    above R while more than half is left and below R after that. It settles at x = L / 2
    and at the full rate, without anybody having told what L, R or the period are.
    """

    def __init__(self) -> None:
        self.started = 0.0  #: the cost of all that was ever started
        self._remaining = math.inf
        self._reset_at = -math.inf
        self._before = -math.inf  # the same, before the last one started
        self.ready_at = -math.inf  #: the earliest time at which the next request may start

    def announce(self, limit: Limit, now: float, counted: float) -> None:
        """What an answer says; *counted* is what had been started when its request was."""
        if limit.reset > HORIZON:
            return
        self._remaining = limit.remaining - (self.started - counted)  # what went out since is not in it
        self._reset_at = now + limit.reset
        self.ready_at = self._reset_at if self._remaining < 1 else min(self.ready_at, self._reset_at)

    def unsent(self, cost: float, counted: float) -> None:
        """The request of *cost*, with which *counted* had been started, was not sent after all."""
        if counted == self.started and self._remaining + cost >= 1:  # nothing has started since
            self.ready_at = self._before
        self.started -= cost
        self._remaining += cost

    def start(self, now: float, cost: float) -> None:
        """A request of *cost* starts *now*."""
        self.started += cost
        if now >= self._reset_at:
            return  # nothing is known; the next answer tells
        self._remaining -= cost
        self._before = self.ready_at
        wait = self._reset_at - now
        if self._remaining > cost:
            wait *= cost / self._remaining
        self.ready_at = now + wait
