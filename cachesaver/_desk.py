"""The Cacher at work in one run: three loops, linked by streams.

*Intake* deals positions and answers what is known, *ordering* passes purchases on
to the stage below, *collecting* stores what comes back and answers those who wait
for it. So a hit never waits behind a purchase, and whatever piles up while one
commit is made is stored together by the next.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from anyio import EndOfStream, WouldBlock, create_memory_object_stream, create_task_group
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from ._claim import Claim, given
from ._errors import CacheCorrupt, CacheError, Closed
from ._ledger import Drawer, Ledger
from ._memory import Memory
from ._miss import cache_miss
from ._purchase import NAMESPACE, Purchase
from ._records import Answer, Bought, Placed, Query, Record
from ._threads import completed
from ._ticket import Ticket, answering, disown, own_error

if TYPE_CHECKING:
    from ._cache import Cache
    from ._stage import Inbox, Stage, Tickets

GROUP = 256  #: tickets that are looked up, or returns that are stored, in one go


class Desk:
    """Deals, orders and collects the samples of one run."""

    def __init__(self, stage: Stage, below: Stage, cache: Cache, *, scope: str, mode: str) -> None:
        self._stage = stage
        self._below = below
        self._cache = cache
        self._scope = scope
        self._offline = mode == "offline"
        self._ledger = Ledger(fresh=mode == "refresh")
        self._memory = Memory()
        self._unstored: list[Bought] = []  # bought, handed out, and not in the cache: its writing failed
        self._outstanding = 0  # purchases and claims that have yet to come through collecting
        self._draining = False
        # No limit of their own: they hold no more than what callers wait for.
        self._orders, self._ordered = create_memory_object_stream[list[Ticket]](math.inf)
        self._returns, self._returned = create_memory_object_stream[Purchase | Claim](math.inf)

    async def serve(self, inbox: Inbox) -> None:
        """Answer everything in *inbox*, until it ends and nothing is on order any more."""
        with self._orders, self._ordered, self._returns, self._returned:
            async with create_task_group() as tasks:
                tasks.start_soon(self._order)
                tasks.start_soon(self._collect)
                async for tickets in inbox:
                    await self._deal(all_waiting(tickets, inbox), tasks)
                self._draining = True
                self._close_if_idle()
        if self._unstored:
            await self._commit([], [])

    # Intake

    async def _deal(self, tickets: Tickets, tasks: TaskGroup) -> None:
        groups = [wanted for ticket in tickets if (wanted := self._owe(ticket))]
        parts = [part for group in groups for part in group]
        keys = {part: part.prompt.key(self._scope) for part in parts}
        with answering(*parts):
            await self._learn(keys)
            claims: list[Claim] = []
            for group in groups:
                claims += self._claim(group, keys[group[0]], tasks)
            await self._read(claims)
            for claim in claims:
                if not claim.missing and claim.wanted:
                    self._deliver(claim)

    def _owe(self, ticket: Ticket) -> list[Ticket]:
        """The callers' own tickets in *ticket*, from here on ours to answer."""
        disown(ticket)
        parts = [part for part in ticket.parts if part.wanted]
        for part in parts:
            part.owner = self._stage
        self._stage.owed.update(parts)
        return parts

    async def _learn(self, keys: dict[Ticket, bytes]) -> None:
        """Load what the cache knows of these prompts, in one go, if the ledger lacks anything."""
        stocks: set[bytes] = set()
        draws: set[tuple[str, bytes]] = set()
        labels: set[tuple[bytes, str, int]] = set()
        for ticket, key in keys.items():
            namespace, label, _ = identity(ticket)
            shelf = self._ledger.shelves.get(key)
            drawer = self._ledger.drawers.get((namespace, key))
            if drawer is None:
                draws.add((namespace, key))
            # Before anything is bought: another process may have stored more.
            if shelf is None or (not self._offline and shelf.known() < ticket.n + (len(drawer.used) if drawer else 0)):
                stocks.add(key)
            if label is not None:
                labels.update(self._unknown(ticket, key, label, drawer))
        if stocks or draws or labels:
            loaded = await completed(self._cache.load(Query(frozenset(stocks), frozenset(draws), frozenset(labels))))
            self._ledger.learn(loaded)
            for key, stock in loaded.stocks.items():
                for position, answer in stock.answers.items():
                    if isinstance(answer, Answer):
                        self._memory.put((key, position), answer)

    def _unknown(self, ticket: Ticket, key: bytes, label: str, drawer: Drawer | None) -> list[tuple[bytes, str, int]]:
        ordinals = range(ticket.n) if drawer is None else drawer.coming(label, ticket.n)
        return [
            (key, label, ordinal) for ordinal in ordinals if drawer is None or (label, ordinal) not in drawer.recorded
        ]

    def _claim(self, group: Sequence[Ticket], key: bytes, tasks: TaskGroup) -> list[Claim]:
        """Put positions aside for equal tickets, and order together what is new."""
        shelf = self._ledger.shelves[key]
        claims: list[Claim] = []
        buyers: list[Claim] = []
        new: list[int] = []
        for ticket in group:
            namespace, label, ordinals = identity(ticket)
            drawer = self._ledger.drawers[namespace, key]
            ordinals = drawer.ordinals(label, ticket.n) if ordinals is None else ordinals
            claim = ticket.claim = Claim(ticket, namespace, label, ordinals, shelf, drawer)
            before = len(new)
            for ordinal in ordinals:
                position = self._ledger.place(shelf, drawer, (label, ordinal))
                if position is None and self._offline:
                    claim.release()
                    tasks.start_soon(self._miss, claim)
                    break
                if position is None:
                    position = shelf.order()
                    new.append(position)
                claim.take(position)
                if label is not None:
                    self._ledger.noted(shelf, (label, ordinal), position)
            else:
                self._await(claim)
                claims.append(claim)
                if len(new) > before:
                    buyers.append(claim)
        if new:
            self._purchase(buyers, new)
        return claims

    def _await(self, claim: Claim) -> None:
        """Line up for what is on order; take what is in memory."""
        for position in claim.positions:
            waiting = claim.shelf.on_order.get(position)
            if waiting is not None:
                waiting.append(claim)
                continue
            answer = self._memory.get((claim.shelf.key, position))
            if answer is not None:
                self._hit(claim, position, answer)

    async def _read(self, claims: list[Claim]) -> None:
        """Fetch the stored samples that are no longer in memory."""
        places = {
            (claim.shelf.key, position): None
            for claim in claims
            for position in claim.positions
            if position not in claim.draws and position not in claim.shelf.on_order
        }
        if not places:
            return
        answers = await completed(self._cache.read(list(places)))
        for claim in claims:
            for position in claim.positions:
                answer = answers.get((claim.shelf.key, position))
                if isinstance(answer, CacheCorrupt):
                    claim.fail(own_error(answer) or answer)
                elif answer is not None and position not in claim.draws:
                    self._memory.put((claim.shelf.key, position), answer)
                    self._hit(claim, position, answer)

    def _hit(self, claim: Claim, position: int, answer: Answer) -> None:
        self._stage.tally.hits += 1
        self._stage.tally.save(answer)
        claim.fill(position, given(answer, position, cached=True))

    def _deliver(self, claim: Claim) -> None:
        """Answer a claim that has all its samples."""
        if self._offline or not claim.records():
            claim.answer()
            return
        if claim.label is None:  # found again by its order of arrival: the record may follow
            claim.answer()
        self._outstanding += 1
        self._returns.send_nowait(claim)

    async def _miss(self, claim: Claim) -> None:
        with answering(claim.ticket):
            claim.ticket.fail(await cache_miss(self._cache, claim.ticket.prompt, self._scope, claim.shelf.known()))

    # Ordering

    def _purchase(self, buyers: list[Claim], positions: list[int]) -> None:
        self._outstanding += 1
        self._orders.send_nowait([Purchase(buyers, buyers[0].shelf, positions, self._returns)])

    async def _order(self) -> None:
        async for purchases in self._ordered:
            await self._below.submit(all_waiting(purchases, self._ordered))

    # Collecting

    async def _collect(self) -> None:
        async for first in self._returned:
            returns = [first]
            while len(returns) < GROUP and self._returned.statistics().current_buffer_used:
                returns.append(self._returned.receive_nowait())
            await self._settle(returns)
            self._outstanding -= len(returns)
            self._close_if_idle()

    async def _settle(self, returns: list[Purchase | Claim]) -> None:
        """Store what was bought and who gets it; then answer, and deal with failures."""
        purchases = [item for item in returns if isinstance(item, Purchase)]
        bought = [sale for purchase in purchases for sale in self._bought(purchase)]
        claims = [item for item in returns if isinstance(item, Claim) and (item.wanted or item.ticket.answered)]
        records = [(claim, record) for claim in claims for record in claim.records()]
        for purchase in purchases:
            sold = purchase.positions[: len(purchase.draws)]
            waiting = {claim: None for position in sold for claim in purchase.shelf.on_order[position]}
            records += [(claim, record) for claim in waiting if claim.wanted for record in claim.records(sold)]
        placed = await self._commit(bought, [record for _, record in records])
        stored = placed is not None
        if stored:
            for claim, record in records:
                claim.recorded(record)
        filled = self._shelve(purchases, placed or [Placed(sale.position, None) for sale in bought])
        for purchase in purchases:
            self._failed(purchase)
        for claim in [*filled, *claims]:
            if claim.wanted and not claim.missing:
                if stored:
                    self._deliver(claim)
                else:  # the samples in hand still reach their callers
                    claim.answer()

    def _bought(self, purchase: Purchase) -> list[Bought]:
        shelf, prompt = purchase.shelf, purchase.prompt.asked
        return [
            Bought(shelf.key, self._scope, prompt, position, draw.answer)
            for position, draw in zip(purchase.positions, purchase.draws, strict=False)
        ]

    def _shelve(self, purchases: list[Purchase], placed: Sequence[Placed]) -> list[Claim]:
        """Give what was bought to those who wait for it; the claims that got something."""
        filled: dict[Claim, None] = {}
        places = iter(placed)
        for purchase in purchases:
            shelf = purchase.shelf
            for position, draw in zip(purchase.positions, purchase.draws, strict=False):
                place = next(places)
                answer = place.stored or draw.answer
                if place.position != position:  # another process was first: ours is kept behind
                    shelf.stocked([place.position])
                    self._memory.put((shelf.key, place.position), draw.answer)
                self._memory.put((shelf.key, position), answer)
                for claim in shelf.on_order.pop(position):
                    own = claim in purchase.buyers
                    if not own:
                        self._stage.tally.merged += 1
                        self._stage.tally.save(answer)
                    duplicated = not own or (draw.rank > 0 and claim is not purchase.buyers[0])
                    claim.fill(position, given(answer, position, duplicated=duplicated))
                    filled[claim] = None
        return list(filled)

    def _failed(self, purchase: Purchase) -> None:
        """Fail those who ordered what did not come; the others take the purchase over (F5)."""
        positions = purchase.positions[len(purchase.draws) :]
        if not positions:
            return
        error = purchase.error or Closed("the purchase ended without an answer")
        for claim in {claim: None for p in positions for claim in purchase.shelf.on_order[p]}:
            if claim in purchase.buyers:
                claim.fail(own_error(error) or error)
        heirs: dict[Claim, list[int]] = {}
        for position in positions:
            waiting = purchase.shelf.on_order[position]
            if waiting:
                heirs.setdefault(waiting[0], []).append(position)
            else:
                del purchase.shelf.on_order[position]
                purchase.shelf.free(position)
        for claim, inherited in heirs.items():
            self._purchase([claim], inherited)

    async def _commit(self, bought: list[Bought], records: list[Record]) -> Sequence[Placed] | None:
        """Write to the cache; None if that failed, and what was bought is tried again with the next."""
        late, self._unstored = self._unstored, []
        if self._offline or not (late or bought or records):
            return []
        try:
            placed = await completed(self._cache.commit([*late, *bought], records))
        except CacheError as error:
            self._unstored = [*late, *bought]
            for sale in bought:
                self._memory.pin((sale.key, sale.position), sale.answer)
            self._warn(error)
            return None
        for sale in late:
            self._memory.unpin((sale.key, sale.position))
        return placed[len(late) :]

    def _warn(self, error: CacheError) -> None:
        kept = f"{len(self._unstored)} bought samples are not in the cache yet and will be tried again"
        warnings.warn(f"The cache could not be written: {error} ({kept}; callers got their answers.)", stacklevel=2)

    def _close_if_idle(self) -> None:
        if self._draining and not self._outstanding:
            self._orders.close()
            self._returns.close()


def identity(ticket: Ticket) -> tuple[str, str | None, Sequence[int] | None]:
    """In which namespace and under which id *ticket* draws; and its ordinals, if they are given."""
    if isinstance(ticket, Purchase):
        return NAMESPACE, None, ticket.positions
    return ticket.namespace, ticket.request_id, None


def all_waiting(tickets: Tickets, inbox: MemoryObjectReceiveStream[list[Ticket]]) -> Tickets:
    """*tickets*, and what else is in *inbox* by now, up to a group."""
    try:
        while len(tickets) < GROUP:
            tickets = tickets + inbox.receive_nowait()
    except (WouldBlock, EndOfStream):
        pass
    return tickets
