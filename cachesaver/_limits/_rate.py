"""LeakyBucket: how many requests and tokens per period; and the meter that keeps to it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeakyBucket:
    """At most so many *requests* and *tokens* per *period* of seconds, evenly.

    After a rest up to *burst* requests may go at once: in no window of W seconds
    start more than burst + requests * W / period. Tokens are reserved by an estimate
    when a request starts, and corrected when its answer tells how many it used.
    """

    requests: float | None = None
    tokens: float | None = None
    period: float = 60.0
    burst: int = 1

    def __post_init__(self) -> None:
        if self.requests is None and self.tokens is None:
            raise ValueError("a LeakyBucket needs requests, tokens, or both")
        for name in ("requests", "tokens", "period"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, not {value!r}")
        if type(self.burst) is not int or self.burst < 1:
            raise ValueError(f"burst must be an integer of at least 1, not {self.burst!r}")
        if self.burst > 1 and self.requests is None:
            raise ValueError("burst counts requests: give requests as well")

    @property
    def parts(self) -> tuple[float | None, float | None, float, float]:
        """Requests, tokens, the period, and how many seconds ahead `burst` lets a request start."""
        ahead = 0.0 if self.requests is None else (self.burst - 1) * self.period / self.requests
        return self.requests, self.tokens, self.period, ahead


class Charge:
    """What one request has poured into a bucket, and when; *open* while it may still be corrected."""

    __slots__ = ("at", "cost", "open")

    def __init__(self, at: float, cost: float) -> None:
        self.at = at
        self.cost = cost
        self.open = True


class Meter:
    """One bucket: the generic cell rate algorithm (GCRA, ITU-T I.371), with charges that are corrected later.

    *amount* of cost leaks in *period* seconds (None: any amount). A request may start
    *ahead* seconds before the bucket has run dry. After a correction the bucket stands
    as if the true cost had been known from the start.
    """

    OPEN = 1024  #: charges kept for correction; of older ones what they reserved stays

    def __init__(self, amount: float | None, period: float, ahead: float = 0.0) -> None:
        self._seconds = 0.0 if amount is None else period / amount  # that one unit of cost takes to leak
        self._ahead = ahead
        self._charges: deque[Charge] = deque()
        self._before = -math.inf  # when the bucket would be dry without those charges
        self._dry = -math.inf

    @property
    def ready_at(self) -> float:
        """The earliest time at which the next request may start."""
        return self._dry - self._ahead

    def charge(self, now: float, cost: float) -> Charge:
        """A request of *cost* starts *now*."""
        charge = Charge(now, cost)
        self._charges.append(charge)
        self._dry = self._poured(self._dry, charge)
        if len(self._charges) > self.OPEN:
            self._forget()
        return charge

    def settle(self, charge: Charge, cost: float) -> None:
        """*charge* was in truth one of *cost*, and stays so; where that comes too late, only a larger one counts."""
        if not charge.open:
            owed = max(0.0, cost - charge.cost) * self._seconds
            self._before += owed
            self._dry += owed
            charge.cost = max(charge.cost, cost)
            return
        charge.open = False
        if cost != charge.cost:
            charge.cost = cost
            self._dry = self._before
            for each in self._charges:
                self._dry = self._poured(self._dry, each)
        while self._charges and not self._charges[0].open:
            self._forget()

    def close(self, charge: Charge) -> None:
        """*charge* stays as it is."""
        if charge.open:
            self.settle(charge, charge.cost)

    def _forget(self) -> None:
        charge = self._charges.popleft()
        charge.open = False
        self._before = self._poured(self._before, charge)

    def _poured(self, dry: float, charge: Charge) -> float:
        return max(dry, charge.at) + charge.cost * self._seconds if charge.cost else dry
