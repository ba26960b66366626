"""A scripted provider: hidden limits, refusals as SDKs raise them, and a record of what arrived."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anyio import current_time, sleep


class APIStatusError(Exception):
    """As SDKs raise it."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, body: Any = None) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.headers = headers or {}
        self.body = body


@dataclass
class Bucket:
    """So many a second, *depth* at once after a rest; where it is *strict*, refused ones count too, as OpenAI's do."""

    rate: float
    depth: float
    strict: bool = False
    level: float = field(init=False)
    at: float = field(init=False, default=-math.inf)

    def __post_init__(self) -> None:
        self.level = self.depth

    def take(self, now: float, cost: float = 1.0) -> float | None:
        """None if it lets *cost* in, else in how many seconds it would."""
        self.level = min(self.depth, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= min(cost, self.depth) - 1e-9:
            self.level -= cost
            return None
        if self.strict:
            self.level = max(self.level - cost, -self.depth)
        return (min(cost, self.depth) - self.level) / self.rate

    def headers(self, name: str) -> dict[str, str]:
        """What OpenAI would say of it."""
        reset = (self.depth - self.level) / self.rate
        return {
            f"x-ratelimit-limit-{name}": f"{self.depth:.0f}",
            f"x-ratelimit-remaining-{name}": f"{max(0.0, math.floor(self.level)):.0f}",
            f"x-ratelimit-reset-{name}": f"{reset * 1000:.0f}ms",
        }


@dataclass
class Window:
    """So many in each period that begins at a whole multiple of it."""

    most: int
    period: float
    number: int = -1
    used: int = 0

    def take(self, now: float) -> float | None:
        number = math.floor(now / self.period)
        if number != self.number:
            self.number, self.used = number, 0
        if self.used < self.most:
            self.used += 1
            return None
        return (number + 1) * self.period - now


class Provider:
    """Answers after *seconds*; refuses what is above its limits, for each key on its own, and sooner.

    Requests take *late* seconds until they are there.
    """

    def __init__(
        self,
        limit: Callable[[], Any] | None = None,
        *,
        at_once: float = math.inf,
        seconds: Callable[[], float] = lambda: 1.0,
        retry_after: bool = True,
        announces: bool = False,
        refuses_after: float = 0.05,
        late: Callable[[], float] | None = None,
    ) -> None:
        self._make = limit
        self._limits: dict[Any, Any] = {}
        self._at_once = at_once
        self._seconds = seconds
        self._retry_after = retry_after
        self._announces = announces
        self._refuses_after = refuses_after
        self._late = late
        self.in_use: dict[Any, int] = {}
        self.peak: dict[Any, int] = {}
        self.accepted: list[tuple[float, Any]] = []  # when, and with which key
        self.refused: list[tuple[float, Any]] = []

    async def answer(self, resource: Any) -> dict[str, str]:
        """The headers of an answer."""
        if self._late is not None:
            await sleep(self._late())
        key, now = resource.data, current_time()
        limit = self._limits.setdefault(key, self._make() if self._make else None)
        busy = self.in_use.get(key, 0)
        wait = 0.0 if busy >= self._at_once else limit.take(now) if limit else None
        headers = limit.headers("requests") if self._announces else {}
        if wait is not None:
            self.refused.append((now, key))
            if self._retry_after:
                headers = {**headers, "retry-after": f"{wait:.3f}"}
            await sleep(self._refuses_after)
            raise APIStatusError(429, headers)
        self.accepted.append((now, key))
        self.in_use[key] = busy + 1
        self.peak[key] = max(self.peak.get(key, 0), busy + 1)
        try:
            await sleep(self._seconds())
        finally:
            self.in_use[key] -= 1
        resource.announced(headers)
        return headers


def excess(starts: list[tuple[float, float]], rate: float) -> float:
    """By how much the costliest window of *starts*, (when, cost), is above *rate* times its length."""
    worst, total, lowest = -math.inf, 0.0, math.inf
    for at, cost in sorted(starts):
        lowest = min(lowest, total - rate * at)
        total += cost
        worst = max(worst, total - rate * at - lowest)
    return worst
