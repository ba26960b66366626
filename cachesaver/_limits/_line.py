"""The line: who waits for a resource, and who is next."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from ._estimate import Cost

if TYPE_CHECKING:
    from anyio import Event

    from ._loops import Loop
    from ._resource import Resource

Order = tuple[float, float, int]


@dataclass(frozen=True, slots=True)
class Ask:
    """What a resource is wanted for."""

    namespace: str = "default"
    model: str | None = None
    cost: Cost = field(default_factory=Cost)
    priority: float = 0.0


class Waiter:
    """One request that waits, and what comes of it: a resource, or an error.

    *order* is its place in the line, once it has one. It may go on when it is *called*.
    """

    __slots__ = ("ask", "called", "error", "event", "gone", "look_at", "loop", "order", "resource")

    def __init__(self, ask: Ask, loop: Loop, order: Order | None = None) -> None:
        self.ask = ask
        self.loop = loop
        self.order = order
        self.resource: Resource | None = None
        self.error: Exception | None = None
        self.event: Event | None = None
        self.look_at = 0.0  # when it wakes by itself
        self.gone = self.called = False

    def __lt__(self, other: Waiter) -> bool:
        return (self.order or ()) < (other.order or ())


class Line:
    """Highest priority first; then namespaces in turn; within a namespace, first come, first served.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of equal size:
    each gets a tag when it comes, one more than that of its namespace's last or of
    the one served last, and the lowest tag is next. There is a queue for each model,
    because one model's limit must not hold up the requests for another.
    """

    def __init__(self) -> None:
        self._lanes: dict[str | None, list[Waiter]] = {}
        self._served = 0.0  # the tag of the last one that was served
        self._last: dict[str, float] = {}  # the tag of each namespace's last one
        self._numbers = count()
        self._waiting = self._gone = 0  # of those that are gone, some are still in a queue

    def __len__(self) -> int:
        return self._waiting

    def join(self, waiter: Waiter) -> None:
        """*waiter* takes its place; one that was served before has it still."""
        ask = waiter.ask
        if waiter.order is None:
            tag = max(self._served, self._last.get(ask.namespace, 0.0)) + 1
            self._last[ask.namespace] = tag
            waiter.order = (-ask.priority, tag, next(self._numbers))
        heapq.heappush(self._lanes.setdefault(ask.model, []), waiter)
        self._waiting += 1

    def heads(self) -> Iterator[Waiter]:
        """The first for each model."""
        for model, lane in list(self._lanes.items()):
            while lane and lane[0].gone:
                heapq.heappop(lane)
            if lane:
                yield lane[0]
            else:
                del self._lanes[model]

    def leave(self, waiter: Waiter) -> None:
        """*waiter* waits no more."""
        waiter.gone = True
        self._waiting -= 1
        self._gone += 1
        if self._gone > self._waiting + 1000:
            self._gone = 0
            for lane in self._lanes.values():
                lane[:] = [each for each in lane if not each.gone]
                heapq.heapify(lane)
        if not self._waiting:
            self._lanes.clear()
            self._last.clear()
        elif len(self._last) > 2 * self._waiting + 1000:  # most of them are of namespaces that wait no more
            self._last = {namespace: tag for namespace, tag in self._last.items() if tag > self._served}

    def serve(self, waiter: Waiter) -> None:
        """The turn of *waiter* has come."""
        assert waiter.order is not None
        self._served = max(self._served, waiter.order[1])
        self.leave(waiter)

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for lane in self._lanes.values() for waiter in lane if not waiter.gone)
