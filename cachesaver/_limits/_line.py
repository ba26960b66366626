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

    __slots__ = ("ask", "called", "error", "event", "gone", "look_at", "loop", "order", "parked", "resource")

    def __init__(self, ask: Ask, loop: Loop, order: Order | None = None) -> None:
        self.ask = ask
        self.loop = loop
        self.order = order
        self.resource: Resource | None = None
        self.error: Exception | None = None
        self.event: Event | None = None
        self.look_at = 0.0  # when it wakes by itself
        self.gone = self.called = self.parked = False

    @property
    def waits(self) -> bool:
        """Whether it stands in line."""
        return self.order is not None and self.error is None and not (self.gone or self.parked)

    def __lt__(self, other: Waiter) -> bool:
        return (self.order or ()) < (other.order or ())


class Turns:
    """The turns that namespaces of one priority take."""

    def __init__(self) -> None:
        self.served = 0.0  #: the tag of the last one that was served
        self.last: dict[str, tuple[float, int]] = {}  #: of each namespace that waits, the tag of its last, and how many

    def join(self, namespace: str) -> float:
        """The tag of one more."""
        last, waiting = self.last.get(namespace, (0.0, 0))
        tag = max(self.served, last) + 1
        self.last[namespace] = tag, waiting + 1
        return tag

    def leave(self, namespace: str) -> None:
        """One less; a namespace of which nobody waits starts anew."""
        last, waiting = self.last.get(namespace, (0.0, 1))
        if waiting > 1:
            self.last[namespace] = last, waiting - 1
        else:
            self.last.pop(namespace, None)


class Line:
    """Highest priority first; then namespaces in turn; within a namespace, first come, first served.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996) with requests of equal size:
    each gets a tag when it comes, one more than that of its namespace's last or of
    the one served last, and the lowest tag is next. There is a queue for each model,
    because one model's limit must not hold up the requests for another.
    """

    def __init__(self) -> None:
        self._lanes: dict[str | None, list[Waiter]] = {}
        self._turns: dict[float, Turns] = {}
        self._numbers = count()
        self._waiting = self._gone = 0  # of those that are gone, some are still in a queue

    def __len__(self) -> int:
        return self._waiting

    def __iter__(self) -> Iterator[Waiter]:
        return (waiter for lane in self._lanes.values() for waiter in lane if not waiter.gone)

    def join(self, waiter: Waiter) -> None:
        """*waiter* takes its place; one that has had one has it still."""
        ask = waiter.ask
        tag = self._turns.setdefault(ask.priority, Turns()).join(ask.namespace)
        if waiter.order is None:
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
        self._turns[waiter.ask.priority].leave(waiter.ask.namespace)
        self._gone += 1
        if not self._waiting:
            self._gone = 0
            self._lanes.clear()
        elif self._gone > self._waiting + 1000:
            self._gone = 0
            for lane in self._lanes.values():
                lane[:] = [each for each in lane if not each.gone]
                heapq.heapify(lane)

    def park(self, waiter: Waiter) -> None:
        """The head *waiter* steps aside, and may join again."""
        heapq.heappop(self._lanes[waiter.ask.model])
        self._waiting -= 1
        self._turns[waiter.ask.priority].leave(waiter.ask.namespace)

    def serve(self, waiter: Waiter) -> None:
        """The turn of *waiter* has come."""
        assert waiter.order is not None
        turns = self._turns[waiter.ask.priority]
        turns.served = max(turns.served, waiter.order[1])
        self.leave(waiter)
