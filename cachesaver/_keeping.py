"""Keeping: the way into the cache file of what was bought and who got it. What cannot be written is not lost."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._errors import CacheError
from ._records import Bought, Entry, Placed, Record, Settled
from ._rejection import Rejection
from ._threads import completed

if TYPE_CHECKING:
    from ._desk import Desk


class Keeping:
    """What failed to be written stays here and is tried again with each commit; at the end it is spilled."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._unstored: list[Bought] = []  # bought and handed out, but their writing failed
        self._unrecorded: list[Record] = []  # the same, of who got them
        self._unentered: list[Entry] = []  # and lines of the ledger
        self.notice: str | None = None  #: for the next caller that gets an answer

    @property
    def behind(self) -> bool:
        """Whether assignments wait to be recorded."""
        return bool(self._unrecorded)

    async def commit(
        self, bought: list[Bought], records: list[Record], rejections: list[Rejection], entries: list[Entry]
    ) -> tuple[list[Placed], list[Record]]:
        """Write to the cache: where *bought* was kept, and which records other processes made impossible."""
        sales, records = [*self._unstored, *bought], [*self._unrecorded, *records]
        entries = [*self._unentered, *entries]
        if not (sales or records or rejections):
            self._unentered = entries
            return [], []
        failure: CacheError | None = None
        try:
            settled = await self._settled(sales, records, rejections, entries)
        except CacheError as error:
            failure, settled = error, Settled([error] * len(sales), [], [])
        for rejection in rejections:
            self._rejected(rejection, settled, failure)
        placed = settled.placed
        self._unentered = entries if failure else []
        self._unrecorded = records if failure else _of_failed(records, sales, placed)
        self._unstored = self._failed(sales, placed)
        self._caution(
            (failure if sales or records else None)
            or next((place for place in placed if isinstance(place, CacheError)), None)
        )
        wanted = zip(sales, placed, strict=True)
        kept = [Placed(sale.position, None) if isinstance(place, CacheError) else place for sale, place in wanted]
        return kept[len(sales) - len(bought) :], settled.lost

    async def finish(self, entries: list[Entry]) -> None:
        """Try once more to store what could not be stored, and enter the accounts."""
        if self._unstored or self._unrecorded:
            await self.commit([], [], [], entries)
        else:
            await self.enter([*self._unentered, *entries])

    async def enter(self, entries: list[Entry]) -> None:
        """Add lines to the ledger, by a commit of their own."""
        if entries:
            with suppress(CacheError):  # read-only, perhaps: nothing that was paid for is lost
                await completed(self._desk.cache.settle([], [], entries=entries, sole=False))

    def end(self, sales: list[Bought]) -> None:
        """Nothing is stored any more: what still should be, and *sales*, is spilled."""
        self._unstored += sales
        if self._unstored or self._unrecorded:
            self.notice = self._spilled(self._unstored, self._unrecorded)
        if self.notice is not None:  # nobody is left to tell
            self._desk.stage.notices.append(self.notice)

    def store_late(self, sales: list[Bought]) -> None:
        """Keep what came after the end, when nobody collects any more."""
        try:
            self._spill_if_it_fails(self._desk.cache.commit(sales, []), sales, [])
        except CacheError:  # it is closed
            self._spilled(sales, [])

    async def _settled(
        self, sales: list[Bought], records: list[Record], rejections: list[Rejection], entries: list[Entry]
    ) -> Settled:
        rejected = [mark for rejection in rejections for mark in rejection.marks]
        committing: Future[Settled] | None = None
        try:
            committing = self._desk.cache.settle(sales, records, rejected, entries, sole=self._desk.shared)
            return await completed(committing)
        except CacheError:
            raise
        except BaseException:  # cut off, and the thread goes on
            self._unstored, self._unrecorded = [], []
            if committing is not None:
                self._spill_if_it_fails(committing, sales, records)
            raise

    def _rejected(self, rejection: Rejection, settled: Settled, failure: CacheError | None) -> None:
        if failure is None:
            marked = [mark.position for mark in rejection.marks if mark not in settled.unknown]
            self._desk.shelves.reject(rejection.namespace, rejection.key, marked)
        rejection.settle(settled.unknown, failure)

    def _failed(self, sales: list[Bought], placed: Sequence[Placed | CacheError]) -> list[Bought]:
        """Those of *sales* that could not be stored, which stay in memory."""
        failed: list[Bought] = []
        for sale, place in zip(sales, placed, strict=True):
            if isinstance(place, CacheError):
                failed.append(sale)
                self._desk.memory.pin((sale.key, sale.position), sale.answer)
            else:
                self._desk.memory.unpin((sale.key, sale.position))
        return failed

    def _caution(self, error: CacheError | None) -> None:
        if error is None:
            return
        lost = f"{len(self._unstored)} bought samples are not in the cache yet; they are tried again with the next"
        state = lost if self._unstored else "only who got which sample could not be recorded"
        self.notice = f"the cache could not be written, callers got their answers all the same. {error} ({state})"

    def _spill_if_it_fails(self, committing: Future[Any], sales: list[Bought], records: list[Record]) -> None:
        committing.add_done_callback(lambda done: done.exception() and self._spilled(sales, records))

    def _spilled(self, sales: list[Bought], records: list[Record]) -> str:
        what = f"{len(sales)} bought samples and {len(records)} assignments could not be stored in the cache"
        try:
            path = self._desk.cache.spill(sales, records)
        except OSError as error:
            return f"{what}, and are lost, since no file could be written either: {error}"
        return f"{what}. They are in {path}: the next opening takes them in from beside the cache file"


def _of_failed(records: list[Record], sales: list[Bought], placed: Sequence[Placed | CacheError]) -> list[Record]:
    """The records of samples that could not be stored."""
    pairs = zip(sales, placed, strict=True)
    failed = {(sale.key, sale.position) for sale, place in pairs if isinstance(place, CacheError)}
    return [record for record in records if (record.key, record.position) in failed] if failed else []
