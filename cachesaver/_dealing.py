"""Dealing: which positions a ticket gets, and the order for those that must be bought. No awaits but for a miss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._claim import Claim
from ._drawer import Passing
from ._lookup import Group, identity
from ._miss import cache_miss
from ._ticket import Draw, Ticket, answering

if TYPE_CHECKING:
    from ._desk import Desk
    from ._shelves import Shelf

UNSTABLE = (
    "request id {!r} was not used in this namespace before, so it gets a sample that was recorded for another id. "
    "Nothing is bought twice, but which sample a request gets now depends on the order of arrival. "
    "Give ids that are the same in every run to replay exactly."
)
NAMELESS = (
    "this request has no request id, and it needs one: its namespace is shared with other processes, among which"
    " there is no order of arrival. Nothing was sent. Give it an id that no other request of the namespace has."
)


class Dealing:
    """What intake does between two awaits, so that it needs no lock."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._cautioned = False

    def claims(self, groups: list[Group]) -> list[Claim]:
        """Put positions aside, and order together what is new of a prompt."""
        claims: list[Claim] = []
        for key, tickets in groups:
            self._claim(tickets, key, claims)
        return claims

    def _claim(self, equal: Sequence[Ticket], key: bytes, claims: list[Claim]) -> None:
        buyers: list[Claim] = []
        new: list[int] = []
        shelf = self._desk.shelves.find_shelf(key)
        assert shelf is not None  # it has been looked up
        for ticket in equal:
            claim = self._open(ticket, shelf)
            if claim is None:
                continue
            bought = self._place(claim, shelf)
            if len(claim.positions) < ticket.n:  # offline
                claim.release()
                self._desk.later(self._miss, claim)
                continue
            self._line_up(claim, shelf)
            claims.append(claim)
            if bought:
                buyers.append(claim)
                new += bought
        if buyers:
            self._desk.purchase(buyers, new)

    def _open(self, ticket: Ticket, shelf: Shelf) -> Claim | None:
        """A claim without positions; None where *ticket* may not draw, and has failed."""
        shelves = self._desk.shelves
        namespace, label, given_ordinals = identity(ticket, self._desk.shared)
        if self._desk.shared and label is None and given_ordinals is None:
            ticket.fail(ValueError(NAMELESS))
            return None
        if self._desk.repeats:
            label, drawer = None, Passing()
        else:
            drawer = shelves.find_drawer(namespace, shelf.key)
            assert drawer is not None
        ordinals = drawer.ordinals(label, ticket.n, ticket.redraws) if given_ordinals is None else given_ordinals
        claim = ticket.claim = Claim(ticket, shelves, shelf, drawer, namespace, label, ordinals)
        return claim

    def _place(self, claim: Claim, shelf: Shelf) -> list[int]:
        """Find a position for every ordinal; those that are new are put on order."""
        new: list[int] = []
        drawer = claim.drawer
        for ordinal in claim.ordinals:
            draw = (claim.label, ordinal)
            position = self._desk.shelves.place(shelf, drawer, draw)
            if position is None:
                position = self._place_of_others(claim)
            if position is None:
                if self._desk.offline:
                    break
                position = shelf.order()
                new.append(position)
            claim.positions.append(position)
            drawer.used[position] = draw
            if claim.label is not None:
                shelf.note(draw, position)
        return new

    def _place_of_others(self, claim: Claim) -> int | None:
        position = self._desk.shelves.place_of_others(claim.shelf, claim.drawer, claim.label)
        if position is not None and claim.label is not None and not self._cautioned:
            self._cautioned = True
            claim.ticket.caution(UNSTABLE.format(claim.label))
        return position

    def _line_up(self, claim: Claim, shelf: Shelf) -> None:
        """Wait for what is on order; take what is in memory."""
        for position in claim.positions:
            waiting = shelf.on_order.get(position)
            if waiting is not None:
                waiting.append(claim)
                continue
            answer = self._desk.memory.get((claim.key, position))
            if answer is not None:
                claim.fill(position, Draw(answer, position, True))

    async def _miss(self, claim: Claim) -> None:
        with answering(claim.ticket):
            desk = self._desk
            claim.ticket.fail(await cache_miss(desk.cache, claim.ticket.prompt, desk.scope, claim.shelf.known()))
