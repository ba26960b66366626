"""Resource: what a limiter lends to one request, an API key say, and what that request tells of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ._estimate import MOST
from ._pushback import lowered

if TYPE_CHECKING:
    from ._key import Key
    from ._loops import Loop
    from ._pool import Pool
    from ._quota import Quota, Start


class Resource:
    """`data` is what `add_resource` was given. Any thread may call the methods."""

    __slots__ = ("_pool", "data", "key", "loop", "quota", "start")

    def __init__(self, pool: Pool, key: Key, quota: Quota, start: Start, loop: Loop) -> None:
        self.data: Any = key.data
        self.key = key
        self.quota = quota
        self.start = start
        self.loop = loop
        self._pool = pool

    def __repr__(self) -> str:
        # Never shows the data: it is a key.
        capacity = "" if self.capacity is None else f" of {self.capacity}"
        return f"<Resource {self.in_use}{capacity} in use>"

    @property
    def capacity(self) -> int | None:
        """How many requests it carries at once; None: as many as its provider does."""
        return self.key.capacity

    @property
    def in_use(self) -> int:
        """How many requests it carries."""
        return self.key.in_use

    def rest(self, seconds: float) -> None:
        """Lend it to nobody for so long, nor what shares its quota; who has it keeps it."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"a resource rests for a number of seconds, 0 or more, not {seconds!r}")
        self._pool.change(self.loop.now, lambda now: self.quota.rest(seconds, now))

    def used(self, *, tokens: float) -> None:
        """The tokens that this request has used, in place of what was reserved for it."""
        if not 0 <= tokens < MOST:
            raise ValueError(f"tokens must be a number, 0 or more, not {tokens!r}")
        self._pool.change(self.loop.now, lambda _: self.quota.used(self.start, tokens))

    def announced(self, headers: Any) -> None:
        """Take up what the *headers* of an answer, a mapping or pairs, say of limits."""
        told = lowered(headers)
        self._pool.change(self.loop.now, lambda now: self.quota.announced(self.start, told, now))

    def unused(self) -> None:
        """Nothing was sent with it: it has spent nothing."""
        self._pool.change(self.loop.now, lambda _: self.quota.unsent(self.start))

    def retire(self, reason: str) -> None:
        """Lend it never again; *reason* is for whoever finds that none is left."""
        self._pool.change(self.loop.now, lambda _: self._pool.retire([self.key], reason))
