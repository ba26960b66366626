"""Intake: deals each ticket its positions, answers what is known, orders what is not."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from ._claim import Claim
from ._compound import Merged
from ._drawer import Passing
from ._errors import CacheCorrupt, CacheError
from ._lookup import Group, Lookup, Reading, identity, unread
from ._miss import cache_miss
from ._records import Answer
from ._threads import completed, there_soon
from ._ticket import Draw, Ticket, answering, disown, own_error, still_wanted

if TYPE_CHECKING:
    from ._desk import Desk
    from ._shelves import Shelf
    from ._stage import Tickets


FEW = 4  #: tickets that may be dealt at once; of more the cache is not done before the loop is woken
UNSTABLE = (
    "request id {!r} was not used in this namespace before, so it gets a sample that was recorded for another id. "
    "Nothing is bought twice, but which sample a request gets now depends on the order of arrival. "
    "Give ids that are the same in every run to replay exactly."
)
NAMELESS = (
    "this request has no request id, and it needs one: its namespace is shared with other processes, among which"
    " there is no order of arrival. Nothing was sent. Give it an id that no other request of the namespace has."
)


class Intake:
    """The first of the Cacher's loops: one call of `deal` for each list of tickets."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lookup = Lookup(desk)
        self._cautioned = False

    async def deal(self, tickets: Tickets) -> None:
        """Answer or order everything that *tickets* ask; one hop to the cache for all of them."""
        await self._deal(self._groups(tickets))

    def deal_at_once(self, tickets: Tickets) -> bool:
        """The same without an await; False where the cache would have to be waited for, and nothing was done."""
        groups = self._singly(tickets)
        if groups is None:
            return False
        try:
            loading = self._lookup.load(groups)
            if loading is not None:
                if not there_soon(loading):
                    return False
                self._lookup.learn(loading.result())
        except Exception:  # `deal` will say so
            return False
        claims = self._claims(groups)
        reading = self._lookup.read(claims)
        if reading is None or there_soon(reading.answers):
            self._deliver(claims, reading)
        else:
            self._desk.later(self._deliver_later, claims, reading)
        for ticket in tickets:
            if not ticket.answered:  # from here on it is ours to answer
                self._desk.stage.take_over([ticket])
        return True

    async def deal_again(self, ticket: Ticket) -> None:
        """Another process was first at a position of *ticket*: it gets others."""
        await self._deal([(ticket.prompt.key(self._desk.scope), [ticket])])

    async def _deal(self, groups: list[Group]) -> None:
        try:
            loading = self._lookup.load(groups)
            if loading is not None:
                self._lookup.learn(await completed(loading))
        except CacheCorrupt as error:
            await self._deal_singly(groups, error)
            return
        except CacheError as error:
            fail(groups, error)
            return
        claims = self._claims([(key, still_wanted(tickets)) for key, tickets in groups])  # some have left meanwhile
        await self._deliver_later(claims, self._lookup.read(claims))

    async def _deliver_later(self, claims: list[Claim], reading: Reading | None) -> None:
        if reading is not None:
            with suppress(CacheError):  # the future keeps it
                await completed(reading.answers)
        self._deliver(claims, reading)

    def _deliver(self, claims: list[Claim], reading: Reading | None) -> None:
        """Hand out what is there; *reading* is done."""
        if reading is not None:
            error = reading.answers.exception()
            if isinstance(error, CacheError):
                for claim in unread(claims):
                    claim.fail(own_error(error) or error)
            else:
                self._take(reading)
        for claim in claims:
            if claim.wanted and not claim.missing:
                self._desk.deliver(claim)

    async def _deal_singly(self, groups: list[Group], error: CacheCorrupt) -> None:
        """What is damaged of one prompt fails those who ask for it, and no others."""
        if len(groups) == 1:
            fail(groups, error)
            return
        for group in groups:
            await self._deal([group])

    def _groups(self, tickets: Tickets) -> list[Group]:
        """The callers' own tickets in *tickets*, from here on ours to answer; those of a merged one together."""
        groups: list[Group] = []
        parts: Tickets = []
        for ticket in tickets:
            if own := still_wanted(ticket.parts):
                groups.append((ticket.prompt.key(self._desk.scope), own))
                parts += own
        self._desk.stage.take_over(parts)
        for ticket in tickets:
            if isinstance(ticket, Merged):  # answered by its parts
                disown(ticket)
        return groups

    def _singly(self, tickets: Tickets) -> list[Group] | None:
        """Each of *tickets* by itself; None where they are many, merged, or waited for by nobody."""
        if len(tickets) > FEW:
            return None
        groups: list[Group] = []
        for ticket in tickets:
            if isinstance(ticket, Merged) or not ticket.wanted:
                return None
            groups.append((ticket.prompt.key(self._desk.scope), [ticket]))
        return groups

    def _take(self, reading: Reading) -> None:
        answers = reading.answers.result()
        for place, answer in answers.items():
            if isinstance(answer, Answer):
                self._desk.memory.put(place, answer)
        for claim, place in reading.places:
            answer = answers.get(place) or lost(*place)
            if isinstance(answer, CacheCorrupt):
                claim.fail(own_error(answer) or answer)
            elif claim.wanted:
                claim.fill(place[1], Draw(answer, place[1], cached=True))

    # Dealing, between two awaits

    def _claims(self, groups: list[Group]) -> list[Claim]:
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


def lost(key: bytes, position: int) -> CacheCorrupt:
    """What to say of a sample that the file counts and does not give."""
    return CacheCorrupt(
        f"sample {position} of prompt {key.hex()} is missing in the cache file though its index names it: the file is"
        " damaged; nothing was changed. Restore a copy of the file, or refresh the prompt."
    )


def fail(groups: list[Group], error: CacheError) -> None:
    """Each ticket gets the error as its own."""
    for _, tickets in groups:
        for ticket in tickets:
            ticket.fail(own_error(error) or error)
