"""Rejection: samples that shall be given to nobody any more, on their way into the cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from anyio import Event

from ._errors import CacheError
from ._records import Rejected


class Rejection:
    """Positions of one prompt, in which namespace they are refused, and why; then the outcome."""

    def __init__(self, namespace: str, key: bytes, positions: Sequence[int], reason: str) -> None:
        self.namespace = namespace
        self.key = key
        self.positions = positions
        self.marks = [Rejected(key, position, reason) for position in positions]  # what is to be stored
        self._error: CacheError | None = None
        self._settled = Event()

    def settle(self, unknown: Collection[Rejected], failure: CacheError | None = None) -> None:
        """It is stored, but for what is *unknown* in the cache file; or there was a *failure*."""
        if self._settled.is_set():
            return
        strays = [mark.position for mark in self.marks if mark in unknown]
        if failure is not None:
            self._error = CacheError(f"nothing was rejected: {failure}")
        elif strays:
            self._error = CacheError(
                f"the cache holds no sample {', '.join(map(str, strays))} of this prompt: nothing to reject"
            )
        self._settled.set()

    async def result(self) -> None:
        """Wait until it is stored. Raises `CacheError` for what could not be."""
        await self._settled.wait()
        if self._error is not None:
            raise self._error
