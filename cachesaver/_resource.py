"""Resource: what a limiter lends, an API key say, and when it may be lent next."""

from __future__ import annotations

import math
from typing import Any

from anyio import current_time

from ._rate import LeakyBucket, Meter


class Resource:
    """`data` is what `add_resource` was given; it carries *capacity* requests at once, no faster than *rate*."""

    def __init__(self, data: Any, capacity: int = 1, rate: LeakyBucket | None = None) -> None:
        self.data = data
        self.capacity = capacity
        self.in_use = 0
        self._meter = None if rate is None else Meter(rate)
        self._rests_until = -math.inf

    def __repr__(self) -> str:
        # Never shows the data: it is a key.
        return f"<Resource {self.in_use} of {self.capacity} in use>"

    def rest(self, seconds: float) -> None:
        """Lend it to nobody for so long; who has it keeps it."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a resource rests for a number of seconds, 0 or more, not {seconds!r}")
        self._rests_until = max(self._rests_until, current_time() + seconds)

    def used(self, *, tokens: float) -> None:
        """Charge what an answer has used against the rate."""
        if self._meter is not None:
            self._meter.used(tokens, current_time())

    @property
    def has_room(self) -> bool:
        """Whether it can carry one more request."""
        return self.in_use < self.capacity

    @property
    def ready_at(self) -> float:
        """The earliest time, on the event loop's clock, at which its rate and its rest let it be lent."""
        return self._rests_until if self._meter is None else max(self._rests_until, self._meter.ready_at)

    def lend(self) -> None:
        """A request starts on it now."""
        self.in_use += 1
        if self._meter is not None:
            self._meter.start(current_time())
