"""Collecting: stores what was bought and who gets it, then answers; hands failures on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ._claim import Claim, given
from ._errors import CacheError, Closed
from ._purchase import NAMESPACE, Purchase
from ._records import Answer, Bought, Entry, Placed, Record, Settled
from ._rejection import Rejection
from ._threads import completed
from ._ticket import Draw, own_error

if TYPE_CHECKING:
    from ._desk import Desk


CUT_OFF = "the stack was stopped before this was stored; reject it again in a new run"


class Collecting:
    """The last of the Cacher's loops: one call of `settle` for each commit."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._unstored: list[Bought] = []  # bought and handed out, but their writing failed
        self._unrecorded: list[Record] = []  # the same, of who got them
        self._unentered: list[Entry] = []  # and lines of the ledger
        self._notice: str | None = None  # for the next caller that gets an answer

    async def settle(self, returns: list[Purchase | Claim | Rejection]) -> None:
        """Commit everything in *returns* together; then answer those who wait for it."""
        purchases = [item for item in returns if isinstance(item, Purchase)]
        claims = [item for item in returns if isinstance(item, Claim) and (item.wanted or item.ticket.answered)]
        rejections = [item for item in returns if isinstance(item, Rejection)]
        bought = [sale for purchase in purchases for sale in self._bought(purchase)]
        records = [(claim, record) for claim in claims for record in claim.records()]
        if not self._desk.shared:  # there it is decided when a claim has all its samples
            records += [pair for purchase in purchases for pair in _records(purchase)]
        for claim, record in records:  # before the await: what is given back meanwhile stays reserved for its draw
            claim.recorded(record)
        accounts = self._desk.accounts
        entries = accounts.close() if accounts.due else []
        placed, lost = await self._commit(bought, [record for _, record in records], rejections, entries)
        self._deal_again([pair for pair in records if pair[1] in lost] if lost else [])
        filled = self._shelve(purchases, placed)
        for purchase in purchases:
            self._hand_on(purchase)
        for claim in claims:
            claim.on_its_way = False  # even if nothing could be written: samples in hand reach their callers
            if not claim.wanted and not self._unrecorded:  # answered, and now recorded
                claim.fold()
        for claim in dict.fromkeys([*filled, *claims]):
            if claim.wanted and not claim.missing:
                if self._notice is not None:
                    claim.ticket.caution(self._notice)
                    self._notice = None
                self._desk.deliver(claim)

    async def finish(self) -> None:
        """Try once more to store what could not be stored, and enter the accounts."""
        entries = [] if self._desk.offline else self._desk.accounts.close()
        if self._unstored or self._unrecorded:
            await self._commit([], [], [], entries)
        else:
            await self.enter([*self._unentered, *entries])

    async def enter(self, entries: list[Entry]) -> None:
        """Add lines to the ledger, by a commit of their own."""
        if entries:
            with suppress(CacheError):  # read-only, perhaps: nothing that was paid for is lost
                await completed(self._desk.cache.settle([], [], entries=entries, sole=False))

    def end(self, unsettled: Sequence[Purchase | Claim | Rejection]) -> None:
        """Nothing is stored any more: what still should be is spilled. *unsettled* came too late to be settled."""
        for item in unsettled:
            if isinstance(item, Purchase):
                self._unstored += self._bought(item)
            elif isinstance(item, Rejection):
                item.settle((), CacheError(CUT_OFF))
        if self._unstored or self._unrecorded:
            self._notice = self._spilled(self._unstored, self._unrecorded)
        if self._notice is not None:  # nobody is left to tell
            self._desk.stage.notices.append(self._notice)

    def store_late(self, purchase: Purchase) -> None:
        """Keep what came after the end, when nobody collects any more."""
        sales = self._bought(purchase)
        try:
            self._spill_if_it_fails(self._desk.cache.commit(sales, []), sales, [])
        except CacheError:  # it is closed
            self._spilled(sales, [])

    def _spill_if_it_fails(self, committing: Future[Any], sales: list[Bought], records: list[Record]) -> None:
        committing.add_done_callback(lambda done: done.exception() and self._spilled(sales, records))

    def _spilled(self, sales: list[Bought], records: list[Record]) -> str:
        what = f"{len(sales)} bought samples and {len(records)} assignments could not be stored in the cache"
        try:
            path = self._desk.cache.spill(sales, records)
        except OSError as error:
            return f"{what}, and are lost, since no file could be written either: {error}"
        return f"{what}. They are in {path}: the next opening takes them in from beside the cache file"

    # What came

    async def _commit(
        self, bought: list[Bought], records: list[Record], rejections: list[Rejection], entries: list[Entry]
    ) -> tuple[list[Placed], list[Record]]:
        """Write to the cache: where *bought* was kept, and which records other processes made impossible.

        What could not be written stays in memory and is tried again with the next commit.
        """
        sales, records, entries = (
            [*self._unstored, *bought],
            [*self._unrecorded, *records],
            [*self._unentered, *entries],
        )
        rejected = [mark for rejection in rejections for mark in rejection.marks]
        if not (sales or records or rejected):
            self._unentered = entries
            return [], []
        failure: CacheError | None = None
        committing: Future[Settled] | None = None
        try:
            committing = self._desk.cache.settle(sales, records, rejected, entries, sole=self._desk.shared)
            settled = await completed(committing)
        except CacheError as error:
            failure, settled = error, Settled([error] * len(sales), [], [])
        except BaseException:  # cut off, and the thread goes on
            self._unstored, self._unrecorded = [], []
            for rejection in rejections:
                rejection.settle((), CacheError(CUT_OFF))
            if committing is not None:
                self._spill_if_it_fails(committing, sales, records)
            raise
        for rejection in rejections:
            if failure is None:
                marked = [mark.position for mark in rejection.marks if mark not in settled.unknown]
                self._desk.shelves.reject(rejection.namespace, rejection.key, marked)
            rejection.settle(settled.unknown, failure)
        self._unstored, placed = [], settled.placed
        self._unentered = entries if failure else []
        self._unrecorded = records if failure else _of_failed(records, sales, placed)
        for sale, place in zip(sales, placed, strict=True):
            if isinstance(place, CacheError):
                self._unstored.append(sale)
                self._desk.memory.pin((sale.key, sale.position), sale.answer)
            else:
                self._desk.memory.unpin((sale.key, sale.position))
        self._caution(
            (failure if sales or records else None)
            or next((place for place in placed if isinstance(place, CacheError)), None)
        )
        wanted = zip(sales, placed, strict=True)
        kept = [Placed(sale.position, None) if isinstance(place, CacheError) else place for sale, place in wanted]
        return kept[len(sales) - len(bought) :], settled.lost

    def _deal_again(self, lost: list[tuple[Claim, Record]]) -> None:
        """Others got there first: these claims are dealt other positions."""
        for claim, record in lost:
            draw = (record.request_id, record.ordinal)
            if draw in claim.drawer.recorded:  # else its position was rejected meanwhile
                claim.drawer.forget(draw)
        for claim in dict.fromkeys(claim for claim, _ in lost):
            self._desk.deal_again(claim)

    def _caution(self, error: CacheError | None) -> None:
        if error is None:
            return
        lost = f"{len(self._unstored)} bought samples are not in the cache yet; they are tried again with the next"
        state = lost if self._unstored else "only who got which sample could not be recorded"
        self._notice = f"the cache could not be written, callers got their answers all the same. {error} ({state})"

    def _shelve(self, purchases: list[Purchase], placed: Sequence[Placed]) -> list[Claim]:
        """Give what was bought to those who wait for it; the claims that got something."""
        filled: dict[Claim, None] = {}
        places = iter(placed)
        for purchase in purchases:
            sold = [(position, draw, next(places)) for position, draw in purchase.sold()]
            moved = {position: place.position for position, _, place in sold if place.position != position}
            seen = [claim for claim in purchase.buyers if claim.ticket.shown] if moved else []
            for claim in seen:
                claim.move(moved)
            for position, draw, place in sold:
                answer = place.stored or draw.answer
                if position in moved:  # another process was first: ours is kept behind
                    purchase.shelf.stocked([place.position])
                    self._desk.memory.put((purchase.shelf.key, place.position), draw.answer)
                self._desk.memory.put((purchase.shelf.key, position), answer)
                waiting = purchase.shelf.on_order.pop(position)
                payer = waiting[0] if waiting else purchase.buyers[0]
                self._charge(payer, place.position if payer in seen else position, draw)
                for claim in waiting:
                    if claim is not payer:
                        self._desk.stage.tally.merge(draw.answer, len(claim.draws))
                    if claim in seen:
                        self._fill(purchase, claim, place.position, draw.answer, draw.rank)
                    else:
                        self._fill(purchase, claim, position, answer, draw.rank)
                    filled[claim] = None
        return list(filled)

    def _charge(self, claim: Claim, position: int, draw: Draw) -> None:
        """A sample was bought for *claim*."""
        claim.paid |= {position}
        if claim.namespace != NAMESPACE:
            account = self._desk.accounts.of(claim.namespace, claim.ticket.prompt)
            self._desk.stage.tally.cost_spent += account.buy(draw.answer, draw.rank)

    def _bought(self, purchase: Purchase) -> list[Bought]:
        price = self._desk.accounts.price(purchase.prompt.model(self._desk.scope))
        return purchase.bought(self._desk.scope, price)

    def _fill(self, purchase: Purchase, claim: Claim, position: int, answer: Answer, rank: int) -> None:
        own = claim in purchase.buyers
        duplicated = not own or (rank > 0 and claim is not purchase.buyers[0])
        claim.fill(position, given(answer, position, duplicated=duplicated))

    # What did not come

    def _hand_on(self, purchase: Purchase) -> None:
        """Fail those who ordered what did not come; others who wait for it take the purchase over (F5)."""
        shelf, positions = purchase.shelf, purchase.unsold()
        if not positions:
            return
        error = purchase.error or Closed("the purchase ended without an answer")
        for claim in {claim: None for position in positions for claim in shelf.on_order[position]}:
            if claim in purchase.buyers:
                claim.fail(own_error(error) or error)
        heirs: dict[Claim, list[int]] = {}
        for position in positions:
            if shelf.on_order[position]:
                heirs.setdefault(shelf.on_order[position][0], []).append(position)
            else:
                del shelf.on_order[position]
                shelf.free(position)
        for claim, inherited in heirs.items():
            self._desk.purchase([claim], inherited)


def _of_failed(records: list[Record], sales: list[Bought], placed: Sequence[Placed | CacheError]) -> list[Record]:
    """The records of samples that could not be stored."""
    pairs = zip(sales, placed, strict=True)
    failed = {(sale.key, sale.position) for sale, place in pairs if isinstance(place, CacheError)}
    return [record for record in records if (record.key, record.position) in failed] if failed else []


def _records(purchase: Purchase) -> list[tuple[Claim, Record]]:
    """Who will get what *purchase* brought."""
    waiting: dict[Claim, list[int]] = {}
    for position, _ in purchase.sold():
        for claim in purchase.shelf.on_order[position]:
            waiting.setdefault(claim, []).append(position)
    return [
        (claim, record) for claim, positions in waiting.items() if claim.wanted for record in claim.records(positions)
    ]
