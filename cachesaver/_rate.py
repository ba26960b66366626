"""LeakyBucket: how many requests and tokens per period; and the clock that keeps to it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeakyBucket:
    """At most so many *requests* and *tokens* per *period* of seconds, evenly.

    After a rest up to *burst* requests may go at once: in no window of W seconds
    start more than burst + requests * W / period. Tokens are charged when the
    answer tells how many it used, and hold back the requests after it.
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


class Meter:
    """One bucket in use: the generic cell rate algorithm (GCRA, ITU-T I.371), for requests and for tokens.

    A request may start `ahead` seconds before the bucket has run dry.
    """

    def __init__(self, rate: LeakyBucket) -> None:
        self._per_request = rate.period / rate.requests if rate.requests else 0.0
        self._per_token = rate.period / rate.tokens if rate.tokens else 0.0
        self._ahead = (rate.burst - 1) * self._per_request
        self._requests_dry = self._tokens_dry = -math.inf  # when the bucket will be empty

    @property
    def ready_at(self) -> float:
        """The earliest time at which the next request may start."""
        return max(self._requests_dry, self._tokens_dry) - self._ahead

    def start(self, now: float) -> None:
        """A request starts *now*."""
        self._requests_dry = max(self._requests_dry, now) + self._per_request

    def used(self, tokens: float, now: float) -> None:
        """An answer has used *tokens*."""
        self._tokens_dry = max(self._tokens_dry, now) + tokens * self._per_token
