"""Resources (API keys) lent in turn: never more at once on one than it can carry."""

from __future__ import annotations

from collections import deque
from typing import Any

from anyio import CapacityLimiter, get_current_task
from anyio.lowlevel import RunVar


class Resource:
    """Something to be lent, an API key say, that carries *capacity* requests at once."""

    def __init__(self, data: Any, capacity: int) -> None:
        self.data = data
        self.capacity = capacity
        self.in_use = 0

    def __repr__(self) -> str:
        # Never shows the data: it is a key.
        return f"<Resource {self.in_use} of {self.capacity} in use>"


class _Loans:
    """Who holds what, in one event loop."""

    def __init__(self, capacity: int) -> None:
        self.limiter = CapacityLimiter(capacity)
        self.held: dict[int, list[tuple[object, Resource]]] = {}


class RoundRobinLimiter:
    """`async with limiter as resource`: the next free resource in turn, first come, first served.

    Many tasks may share one limiter, and a task may hold several resources. A
    resource comes back whatever happens to the request that used it.
    """

    def __init__(self) -> None:
        self._turn: deque[Resource] = deque()
        self._loans: RunVar[_Loans] = RunVar("cachesaver_loans")

    def add_resource(self, data: Any, capacity: int = 1) -> Resource:
        """Lend *data* as well, to at most *capacity* requests at once."""
        if type(capacity) is not int or capacity < 1:
            raise ValueError(f"capacity must be an integer of at least 1, not {capacity!r}")
        resource = Resource(data, capacity)
        self._turn.append(resource)
        loans = self._loans.get(None)
        if loans is not None:
            loans.limiter.total_tokens += capacity
        return resource

    async def __aenter__(self) -> Resource:
        if not self._turn:
            raise RuntimeError("this limiter has no resources: call add_resource(key) first")
        loans = self._current()
        loan = object()  # a token belongs to its borrower, and one task may borrow twice
        await loans.limiter.acquire_on_behalf_of(loan)
        resource = self._next()
        resource.in_use += 1
        loans.held.setdefault(get_current_task().id, []).append((loan, resource))
        return resource

    async def __aexit__(self, *exc_info: object) -> None:
        loans = self._current()
        task = get_current_task().id
        loan, resource = loans.held[task].pop()
        if not loans.held[task]:
            del loans.held[task]
        resource.in_use -= 1
        loans.limiter.release_on_behalf_of(loan)

    def _next(self) -> Resource:
        """The next in turn that has room; the limiter has seen to it that one has."""
        for _ in range(len(self._turn)):
            resource = self._turn[0]
            self._turn.rotate(-1)
            if resource.in_use < resource.capacity:
                return resource
        raise AssertionError("more was lent than there is")

    def _current(self) -> _Loans:
        loans = self._loans.get(None)
        if loans is None:
            loans = _Loans(sum(resource.capacity for resource in self._turn))
            self._loans.set(loans)
        return loans


class UnlimitedLimiter:
    """Lends the same *data* to everybody at once."""

    def __init__(self, data: Any = None) -> None:
        self.data = data

    async def __aenter__(self) -> Resource:
        return Resource(self.data, 1)

    async def __aexit__(self, *exc_info: object) -> None:
        pass


AsyncRoundRobinLimiter = RoundRobinLimiter  #: the name in the system that this one descends from
