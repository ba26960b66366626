"""Limiters: resources (API keys) lent in turn, never more at once on one than it can carry."""

from __future__ import annotations

from collections import deque
from typing import Any

from anyio import CancelScope, CapacityLimiter, Event, Lock, current_time, get_current_task
from anyio.lowlevel import RunVar

from ._rate import LeakyBucket
from ._resource import Resource


class RoundRobinLimiter:
    """`async with limiter as resource`: the next free resource in turn, first come, first served.

    Many tasks may share one limiter, and a task may hold several resources. A
    resource comes back whatever happens to the request that used it.
    """

    def __init__(self) -> None:
        self._added: list[tuple[Any, int, LeakyBucket | None]] = []
        self._lenders: RunVar[_Lender] = RunVar("cachesaver_lender")

    def add_resource(self, data: Any, capacity: int = 1, rate: LeakyBucket | None = None) -> None:
        """Lend *data* as well, to at most *capacity* requests at once, no faster than *rate*."""
        if type(capacity) is not int or capacity < 1:
            raise ValueError(f"capacity must be an integer of at least 1, not {capacity!r}")
        if rate is not None and not isinstance(rate, LeakyBucket):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"rate must be a LeakyBucket, not {type(rate).__name__}")
        self._added.append((data, capacity, rate))

    async def __aenter__(self) -> Resource:
        if not self._added:
            raise RuntimeError("this limiter has no resources: call add_resource(key) first")
        return await self._lender().lend()

    async def __aexit__(self, *exc_info: object) -> None:
        self._lender().take_back()

    def _lender(self) -> _Lender:
        """The one of this event loop, with all that was added by now."""
        lender = self._lenders.get(None)
        if lender is None:
            lender = _Lender()
            self._lenders.set(lender)
        for data, capacity, rate in self._added[lender.known :]:
            lender.add(Resource(data, capacity, rate))
        return lender


class _Lender:
    """The resources in one event loop: the next in turn, and who holds what."""

    def __init__(self) -> None:
        self.known = 0
        self._turn: deque[Resource] = deque()
        self._room: CapacityLimiter | None = None
        # Only the head of the queue waits for room, a rate or a rest: of two that
        # are woken at the same moment, trio may run the later one first.
        self._queue = Lock()
        self._returned = Event()
        self._held: dict[int, list[tuple[object, Resource]]] = {}

    def add(self, resource: Resource) -> None:
        self.known += 1
        self._turn.append(resource)
        self._returned.set()  # whoever waits for another one to rest may take it
        if self._room is None:
            self._room = CapacityLimiter(resource.capacity)
        else:
            self._room.total_tokens += resource.capacity

    async def lend(self) -> Resource:
        assert self._room is not None
        loan = object()  # a token belongs to its borrower, and one task may borrow twice
        async with self._queue:
            await self._room.acquire_on_behalf_of(loan)
            try:
                resource = await self._next()
            except BaseException:
                self._room.release_on_behalf_of(loan)
                raise
        self._held.setdefault(get_current_task().id, []).append((loan, resource))
        return resource

    def take_back(self) -> None:
        assert self._room is not None
        task = get_current_task().id
        loan, resource = self._held[task].pop()
        if not self._held[task]:
            del self._held[task]
        resource.in_use -= 1
        self._returned.set()
        self._room.release_on_behalf_of(loan)

    async def _next(self) -> Resource:
        """Take the next in turn; there is room in one, but it may have to rest first."""
        while not (resource := self._take()):
            self._returned = Event()
            with CancelScope(deadline=min(each.ready_at for each in self._turn if each.has_room)):
                await self._returned.wait()
        return resource

    def _take(self) -> Resource | None:
        now = current_time()
        for _ in range(len(self._turn)):
            resource = self._turn[0]
            self._turn.rotate(-1)
            if resource.has_room and resource.ready_at <= now:
                resource.lend()
                return resource
        return None


class UnlimitedLimiter:
    """Lends the same *data* to everybody at once."""

    def __init__(self, data: Any = None) -> None:
        self.data = data

    async def __aenter__(self) -> Resource:
        return Resource(self.data)

    async def __aexit__(self, *exc_info: object) -> None:
        pass


AsyncRoundRobinLimiter = RoundRobinLimiter  #: the name in the system that this one descends from
