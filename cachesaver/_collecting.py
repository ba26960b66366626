"""Collecting: stores what was bought and who gets it, then answers; hands failures on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ._claim import Claim
from ._errors import CacheError, Closed
from ._keeping import Keeping
from ._purchase import Purchase
from ._records import Answer, Bought, Placed, Record
from ._rejection import Rejection
from ._ticket import Draw, own_error

if TYPE_CHECKING:
    from ._desk import Desk


class Collecting:
    """The last of the Cacher's loops: one call of `settle` for each commit."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.keeping = Keeping(desk)

    async def settle(self, returns: list[Purchase | Claim | Rejection]) -> None:
        """Commit everything in *returns* together; then answer those who wait for it."""
        rejections = [item for item in returns if isinstance(item, Rejection)]
        try:
            await self._settle(returns, rejections)
        except BaseException:  # cut off, or a bug: who rejects may wait outside the block
            refuse(rejections)
            raise

    async def _settle(self, returns: list[Purchase | Claim | Rejection], rejections: list[Rejection]) -> None:
        purchases = [item for item in returns if isinstance(item, Purchase)]
        claims = [item for item in returns if isinstance(item, Claim) and (item.wanted or item.ticket.answered)]
        bought = [sale for purchase in purchases for sale in self._bought(purchase)]
        records = [(claim, record) for claim in claims for record in claim.records()]
        if not self._desk.shared:  # there it is decided when a claim has all its samples
            records += [pair for purchase in purchases for pair in _records(purchase)]
        for claim, record in records:  # before the await: what is given back meanwhile stays reserved for its draw
            claim.recorded(record)
        accounts = self._desk.accounts
        entries = accounts.close() if accounts.due else []
        placed, lost = await self.keeping.commit(bought, [record for _, record in records], rejections, entries)
        self._deal_again([pair for pair in records if pair[1] in lost] if lost else [])
        filled = self._shelve(purchases, placed)
        for purchase in purchases:
            self._hand_on(purchase)
        for claim in claims:
            claim.on_its_way = False  # even if nothing could be written: samples in hand reach their callers
            if not claim.wanted and not self.keeping.behind:  # answered, and now recorded
                claim.fold()
        for claim in dict.fromkeys([*filled, *claims]):
            if claim.wanted and not claim.missing:
                if self.keeping.notice is not None:
                    claim.ticket.caution(self.keeping.notice)
                    self.keeping.notice = None
                self._desk.deliver(claim)

    async def finish(self) -> None:
        """Try once more to store what could not be stored, and enter the accounts."""
        await self.keeping.finish([] if self._desk.offline else self._desk.accounts.close())

    def end(self, unsettled: Sequence[Purchase | Claim | Rejection]) -> None:
        """Nothing is stored any more: what still should be is spilled. *unsettled* came too late to be settled."""
        refuse(item for item in unsettled if isinstance(item, Rejection))
        purchases = (item for item in unsettled if isinstance(item, Purchase))
        self.keeping.end([sale for purchase in purchases for sale in self._bought(purchase)])

    def store_late(self, purchase: Purchase) -> None:
        """Keep what came after the end, when nobody collects any more."""
        self.keeping.store_late(self._bought(purchase))

    # What came

    def _deal_again(self, lost: list[tuple[Claim, Record]]) -> None:
        """Others got there first: these claims are dealt other positions."""
        for claim, record in lost:
            draw = (record.request_id, record.ordinal)
            if draw in claim.drawer.recorded:  # else its position was rejected meanwhile
                claim.drawer.forget(draw)
        for claim in dict.fromkeys(claim for claim, _ in lost):
            self._desk.deal_again(claim)

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
                    if claim in seen:
                        self._fill(purchase, claim, place.position, draw.answer, draw.rank)
                    else:
                        self._fill(purchase, claim, position, answer, draw.rank)
                    filled[claim] = None
        return list(filled)

    def _charge(self, claim: Claim, position: int, draw: Draw) -> None:
        """A sample was bought for *claim*."""
        claim.paid |= {position}
        self._desk.accounts.of(claim.namespace, claim.ticket.prompt).buy(draw.answer, draw.rank)

    def _bought(self, purchase: Purchase) -> list[Bought]:
        price = self._desk.accounts.price(purchase.prompt.model(self._desk.scope))
        return purchase.bought(self._desk.scope, price)

    def _fill(self, purchase: Purchase, claim: Claim, position: int, answer: Answer, rank: int) -> None:
        own = claim in purchase.buyers
        duplicated = not own or (rank > 0 and claim is not purchase.buyers[0])
        claim.fill(position, Draw(answer, position, duplicated=duplicated))

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


def refuse(rejections: Iterable[Rejection]) -> None:
    """These will not be stored, unless they were."""
    for rejection in rejections:
        rejection.settle((), CacheError("the stack was stopped before this was stored; reject it again in a new run"))


def _records(purchase: Purchase) -> list[tuple[Claim, Record]]:
    """Who will get what *purchase* brought."""
    waiting: dict[Claim, list[int]] = {}
    for position, _ in purchase.sold():
        for claim in purchase.shelf.on_order[position]:
            waiting.setdefault(claim, []).append(position)
    return [
        (claim, record) for claim, positions in waiting.items() if claim.wanted for record in claim.records(positions)
    ]
