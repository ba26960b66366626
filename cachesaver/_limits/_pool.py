"""Pool: the state of a limiter, changed in one place at a time, whatever thread or event loop it is used from."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from threading import RLock
from time import monotonic
from typing import Any, TypeVar

from .._errors import NoResources
from ._key import Group, Key, Rate
from ._line import Line, Waiter
from ._loops import Loop
from ._pushback import UNKNOWN, Fate, Pushback
from ._resource import Resource

T = TypeVar("T")


class Pool:
    """The keys in turn, and the line of those who wait for one.

    Nothing here waits. Whoever changes something hands out, before it lets go, what can
    be handed out. Of the waiters in each event loop one keeps the time: it
    wakes when the next resource will be ready by itself. Who was served is
    called when the one before has gone on: of two woken at once, trio may run the later first.
    """

    def __init__(self, *, learns: bool) -> None:
        self._learns = learns
        self._lock = RLock()
        self._changing = False
        self._late: deque[tuple[float, Callable[[float], object]]] = deque()
        self._turn: deque[Key] = deque()
        self._groups: dict[Any, Group] = {}
        self._line = Line()
        self._keepers: dict[Loop, Waiter] = {}
        self._served: dict[Loop, dict[Waiter, None]] = {}  # who has not gone on yet
        self._ready_at = math.inf  # when the next resource will be, that somebody waits for

    def __str__(self) -> str:
        keys = tuple(self._turn)  # which any thread may change
        live = sum(key.retired is None for key in keys)
        in_use = sum(key.in_use for key in keys)
        requests = "1 request" if in_use == 1 else f"{in_use} requests"
        return f"{live} of {len(keys)} resources left, {requests} in flight, {len(self._line)} wait"

    def change(self, now: float, action: Callable[[float], T]) -> T | None:
        """What *action* returns, given *now*; then hand out what can be lent.

        In the middle of another change it waits for the end of that, and returns None: the
        garbage collector ends coroutines wherever it runs, and they give back what they hold.
        """
        with self._lock:
            if self._changing:
                self._late.append((now, action))
                return None
            self._changing = True
            try:
                try:
                    return action(now)
                finally:
                    while self._late:
                        late, other = self._late.popleft()
                        other(late)
                    if self._line:
                        self._hand_out(now)
            finally:
                self._changing = False

    # What is lent

    def add(self, data: Any, capacity: int | None, rate: Rate, group: str | None) -> None:
        """One more to lend."""

        def add(_: float) -> None:
            name = object() if group is None else group
            shared = self._groups.get(name)
            if shared is None:
                shared = self._groups[name] = Group(rate, learns=self._learns)
            elif rate is not None and rate != shared.rate:
                raise ValueError(f"all keys of the group {group!r} share one rate: {shared.rate!r}, not {rate!r}")
            if capacity is None and self._learns:
                shared.adapt()
            key = Key(data, capacity, shared, f"number {len(self._turn) + 1}" + (f" ({group})" if group else ""))
            shared.keys.append(key)
            self._turn.append(key)

        self.change(max((waiter.loop.now for waiter in self._line), default=monotonic()), add)

    def give_back(self, resource: Resource, pushback: Pushback | None) -> list[str]:
        """Its request has ended, well or as *pushback* says. Returns what the user should be told."""
        key = resource.key

        def give_back(now: float) -> list[str]:
            key.in_use -= 1
            resource.quota.ended(resource.start, pushback, now)
            if pushback is None or pushback.fate not in (Fate.KEY_INVALID, Fate.QUOTA_GONE):
                return []
            return self.retire([key] if pushback.fate is Fate.KEY_INVALID else key.group.keys, pushback.reason)

        return self.change(resource.loop.now, give_back) or []

    def retire(self, keys: Sequence[Key], reason: str) -> list[str]:
        """Lend *keys* never again. Part of a `change`."""
        retired = [key for key in keys if key.retired is None]
        for key in retired:
            key.retired = reason
        if retired and self.spent is not None:
            for waiter in list(self._line):
                self._line.leave(waiter)
                waiter.error = self.spent
                self._release_keeper(waiter)
                self._call(waiter)
        left = sum(key.retired is None for key in self._turn)
        return [f"resource {key.name} is retired: {reason}; {left} of {len(self._turn)} are left" for key in retired]

    @property
    def spent(self) -> NoResources | None:
        """The error that says why, where all are retired."""
        if any(key.retired is None for key in self._turn):
            return None
        reasons = "; ".join(f"{key.name}: {key.retired}" for key in self._turn)
        return NoResources(f"every resource of this limiter is retired ({reasons}). Add a new one: add_resource(key)")

    # Who waits

    def join(self, waiter: Waiter) -> None:
        """Stand in line, or be served at once."""
        if not self._turn:
            raise RuntimeError("this limiter has no resources: call add_resource(key) first")

        def join(_: float) -> None:
            waiter.parked = False
            waiter.error = self.spent
            if waiter.error is None:
                self._line.join(waiter)
            else:
                self._call(waiter)

        self.change(waiter.loop.now, join)

    def go_on(self, waiter: Waiter) -> None:
        """*waiter* was called, and has what it came for."""
        if waiter.loop in self._served:
            self.change(waiter.loop.now, lambda _: self._call_next(waiter))

    def leave(self, waiter: Waiter) -> None:
        """*waiter* was cancelled: it has spent nothing."""

        def leave(now: float) -> None:
            if waiter.resource is not None:
                waiter.resource.key.in_use -= 1
                waiter.resource.quota.unsent(waiter.resource.start)
                waiter.resource.quota.ended(waiter.resource.start, UNKNOWN, now)
            if waiter.resource is not None or waiter.error is not None:
                self._call_next(waiter)
            elif waiter.waits:
                self._line.leave(waiter)
                self._release_keeper(waiter)

        self.change(waiter.loop.now, leave)

    def look_at(self, waiter: Waiter) -> float:
        """When *waiter* is to wake by itself: it keeps the time if nobody in its loop does."""
        with self._lock:
            waiter.look_at = math.inf
            if waiter.called or waiter.parked:
                waiter.look_at = -math.inf
            elif waiter.waits and self._keepers.setdefault(waiter.loop, waiter) is waiter:
                waiter.look_at = self._ready_at
            return waiter.look_at

    def rested_at(self, model: str | None, now: float) -> float:
        """When one that carries *model* will have rested."""
        with self._lock:
            return min((key.group.quota(model).rested_at for key in self._turn if key.retired is None), default=now)

    def resting(self, now: float) -> dict[str, float]:
        """The keys that rest, by their names, and for how many seconds from *now* on."""
        with self._lock:
            rests = {key.name: key.group.rested_at - now for key in self._turn if key.retired is None}
        return {name: seconds for name, seconds in rests.items() if seconds > 0}

    def _hand_out(self, now: float) -> None:
        while True:
            self._ready_at = math.inf
            first: tuple[Waiter, Key] | None = None
            for waiter in self._line.heads() if any(key.has_room for key in self._turn) else ():
                key = self._next(waiter.ask.model, now)
                if key is not None and (first is None or waiter < first[0]):
                    first = waiter, key
            if first is None:
                break
            if first[0].loop.stands_still:
                self._park(first[0])
            else:
                self._lend(*first, now)
        for keeper in self._keepers.values():
            if self._ready_at < keeper.look_at:
                self._wake(keeper)

    def _next(self, model: str | None, now: float) -> Key | None:
        """The next in turn that can be lent; else notes when one will be."""
        for key in self._turn:
            if key.has_room:
                ready_at = key.group.quota(model).ready_at(now)
                if ready_at <= now:
                    return key
                self._ready_at = min(self._ready_at, ready_at)
        return None

    def _lend(self, waiter: Waiter, key: Key, now: float) -> None:
        self._turn.remove(key)
        self._turn.append(key)
        quota = key.group.quota(waiter.ask.model)
        waiter.resource = Resource(self, key, quota, quota.start(now, waiter.ask.cost), waiter.loop)
        key.in_use += 1
        self._line.serve(waiter)
        self._release_keeper(waiter)
        self._call(waiter)

    def _park(self, waiter: Waiter) -> None:
        """Its loop runs no task now, and a key would lie idle: it stands in line again, in its place, when it does."""
        waiter.parked = True
        self._line.park(waiter)
        self._release_keeper(waiter)
        self._wake(waiter)

    def _call(self, waiter: Waiter) -> None:
        served = self._served.get(waiter.loop)
        if served is None and waiter.event is None:  # it has not waited, and nobody is before it
            waiter.called = True
            return
        if served is None:
            served = self._served[waiter.loop] = {}
        served[waiter] = None
        if len(served) == 1:
            waiter.called = True
            self._wake(waiter)

    def _call_next(self, waiter: Waiter) -> None:
        """*waiter* is out of the way."""
        served = self._served.get(waiter.loop)
        if served is None or waiter not in served:
            return
        del served[waiter]
        if not served:
            del self._served[waiter.loop]
            return
        following = next(iter(served))
        if not following.called:
            following.called = True
            self._wake(following)

    def _release_keeper(self, waiter: Waiter) -> None:
        """Somebody else keeps the time, if *waiter* did."""
        if self._keepers.get(waiter.loop) is waiter:
            del self._keepers[waiter.loop]
            heir = next((other for other in self._line if other.loop is waiter.loop), None)
            if heir is not None:
                self._keepers[waiter.loop] = heir
                self._wake(heir)

    def _wake(self, waiter: Waiter) -> None:
        if waiter.event is not None:
            waiter.loop.set(waiter.event)
