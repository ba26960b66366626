"""Key: what a limiter was given to lend; and Group: the keys that share their limits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ._quota import Meters, Quota
from ._rate import LeakyBucket

Rate = LeakyBucket | Mapping[str, LeakyBucket] | None


class Group:
    """Keys that share their quotas: one for each model."""

    def __init__(self, rate: Rate, *, learns: bool) -> None:
        self.rate = rate
        self.adapts = False
        self.keys: list[Key] = []
        self._learns = learns
        self._quotas: dict[str | None, Quota] = {}
        self._meters = Meters(rate if isinstance(rate, LeakyBucket) else None)

    def adapt(self) -> None:
        """From now on find out what the provider takes, of every model."""
        self.adapts = True
        for quota in self._quotas.values():
            quota.adapt()

    @property
    def rested_at(self) -> float:
        """When it will have rested, whatever model it is asked for."""
        return max((quota.rested_at for quota in self._quotas.values()), default=-math.inf)

    def quota(self, model: str | None) -> Quota:
        """The one for *model*."""
        quota = self._quotas.get(model)
        if quota is None:
            own = self.rate.get(model) if isinstance(self.rate, Mapping) and model is not None else None
            meters = self._meters if own is None else Meters(own)
            quota = self._quotas[model] = Quota(meters, learns=self._learns, adapts=self.adapts)
        return quota


class Key:
    """What is lent, and to how many."""

    def __init__(self, data: Any, capacity: int | None, group: Group, name: str) -> None:
        self.data = data
        self.capacity = capacity
        self.group = group
        self.name = name
        self.in_use = 0
        self.retired: str | None = None  # why

    @property
    def has_room(self) -> bool:
        return self.retired is None and (self.capacity is None or self.in_use < self.capacity)
