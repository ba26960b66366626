"""Intake: deals each ticket its positions, answers what is known, orders what is not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from ._claim import Claim, given
from ._errors import CacheCorrupt, CacheError
from ._ledger import Drawer, Passing, Shelf
from ._miss import cache_miss
from ._purchase import NAMESPACE, Purchase
from ._records import Answer, Loaded, Query
from ._threads import completed, there_soon
from ._ticket import Merged, Ticket, answering, disown, own_error, still_wanted

if TYPE_CHECKING:
    from ._desk import Desk
    from ._stage import Tickets


AHEAD = 16  #: samples of a prompt that are read with one that is not in memory

UNSTABLE = (
    "request id {!r} was not used in this namespace before, so it gets a sample that was recorded for another id. "
    "Nothing is bought twice, but which sample a request gets now depends on the order of arrival. "
    "Give ids that are the same in every run to replay exactly."
)


NAMELESS = (
    "this request has no request id, and it needs one: its namespace is shared with other processes, among which"
    " there is no order of arrival. Nothing was sent. Give it an id that no other request of the namespace has."
)


class Reading(NamedTuple):
    """Samples on their way from the cache file, and whose they are."""

    places: list[tuple[Claim, tuple[bytes, int]]]
    answers: Future[dict[tuple[bytes, int], Answer | CacheCorrupt]]


class Intake:
    """The first of the Cacher's loops: one call of `deal` for each list of tickets."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._cautioned = False

    async def deal(self, tickets: Tickets) -> None:
        """Answer or order everything that *tickets* ask; one hop to the cache for all of them."""
        await self._deal([parts for ticket in tickets if (parts := self._owe(ticket))])

    def deal_at_once(self, tickets: Tickets) -> bool:
        """The same without an await; False where the cache would have to be waited for, and nothing was done."""
        if any(isinstance(ticket, Merged) for ticket in tickets):
            return False
        try:
            loading = self._load({ticket: ticket.prompt.key(self._desk.scope) for ticket in tickets})
        except CacheError:  # `deal` will say so
            return False
        if loading is not None:
            if not there_soon(loading) or loading.exception() is not None:
                return False
            self._learn(loading.result())
        groups = [parts for ticket in tickets if (parts := self._owe(ticket))]
        claims = [claim for group in groups for claim in self._claim(group, group[0].prompt.key(self._desk.scope))]
        reading = self._read(claims)
        if reading is None or there_soon(reading.answers):
            self._deliver(claims, reading)
        else:
            self._desk.later(self._deliver_later, claims, reading)
        return True

    async def deal_again(self, ticket: Ticket) -> None:
        """Another process was first at a position of *ticket*: it gets others."""
        await self._deal([[ticket]])

    async def _deal(self, groups: list[list[Ticket]]) -> None:
        keys = {part: group[0].prompt.key(self._desk.scope) for group in groups for part in group}
        try:
            loading = self._load(keys)
            if loading is not None:
                self._learn(await completed(loading))
        except CacheCorrupt as error:
            await self._deal_singly(groups, error)
            return
        except CacheError as error:
            fail(keys, error)
            return
        claims = [claim for group in groups for claim in self._claim(group, keys[group[0]])]
        await self._deliver_later(claims, self._read(claims))

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

    async def _deal_singly(self, groups: list[list[Ticket]], error: CacheCorrupt) -> None:
        """What is damaged of one prompt fails those who ask for it, and no others."""
        if len(groups) == 1:
            fail(groups[0], error)
            return
        for group in groups:
            await self._deal([group])

    def _owe(self, ticket: Ticket) -> list[Ticket]:
        """The callers' own tickets in *ticket*, from here on ours to answer."""
        disown(ticket)
        stage = self._desk.stage
        parts = still_wanted(ticket.parts)
        for part in parts:
            part.owner = stage
        stage.owed.update(parts)
        if not self._desk.shared:
            return parts
        for part in parts:
            if identity(part)[1:] == (None, None):
                part.fail(ValueError(NAMELESS))
        return still_wanted(parts)

    # What the cache knows

    def _load(self, keys: dict[Ticket, bytes]) -> Future[Loaded] | None:
        """Ask for what the ledger lacks of these prompts, in one go; None where it lacks nothing."""
        desk = self._desk
        stocks: set[bytes] = set()
        draws: set[tuple[str, bytes]] = set()
        labels: set[tuple[bytes, str, int]] = set()
        for ticket, key in keys.items():
            namespace, label, _ = identity(ticket)
            shelf = desk.ledger.shelves.get(key)
            drawer = desk.ledger.drawers.get((namespace, key))
            if desk.repeats:
                label = drawer = None
            elif drawer is None or desk.shared:
                draws.add((namespace, key))
            if shelf is None or desk.shared or (not desk.offline and short(shelf, drawer, ticket.n)):
                stocks.add(key)
            if label is not None:
                labels.update((key, label, ordinal) for ordinal in new_ordinals(drawer, label, ticket.n))
        if not (stocks or draws or labels):
            return None
        return desk.cache.load(Query(frozenset(stocks), frozenset(draws), frozenset(labels)))

    def _learn(self, loaded: Loaded) -> None:
        self._desk.ledger.learn(loaded)
        for key, stock in loaded.stocks.items():
            for position, answer in stock.answers.items():
                if isinstance(answer, Answer):
                    self._desk.memory.put((key, position), answer)

    def _read(self, claims: list[Claim]) -> Reading | None:
        """Ask for the stored samples that are not in memory; None where all are."""
        waiting = unread(claims)
        if not waiting:
            return None
        places = [(claim, (claim.shelf.key, position)) for claim in waiting for position in claim.unread()]
        wanted = {place: None for _, place in places}
        for claim in waiting:  # those that come next will be asked for next
            last = max(claim.positions)
            wanted |= {(claim.shelf.key, p): None for p in range(last + 1, last + AHEAD) if claim.shelf.has(p)}
        try:
            return Reading(places, self._desk.cache.read(list(wanted)))
        except CacheError as error:
            for claim in waiting:
                claim.fail(own_error(error) or error)
            return None

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
                self._hit(claim, place[1], answer)

    # Dealing, between two awaits

    def _claim(self, group: Sequence[Ticket], key: bytes) -> list[Claim]:
        """Put positions aside for equal tickets, and order together what is new."""
        claims: list[Claim] = []
        buyers: list[Claim] = []
        new: list[int] = []
        for ticket in still_wanted(group):  # some left while the cache was asked
            claim = self._open(ticket, key)
            bought = self._place(claim)
            if claim.short:  # offline
                claim.release()
                self._desk.later(self._miss, claim)
                continue
            self._line_up(claim)
            claims.append(claim)
            if bought:
                buyers.append(claim)
                new += bought
        if buyers:
            self._desk.purchase(buyers, new)
        return claims

    def _open(self, ticket: Ticket, key: bytes) -> Claim:
        namespace, label, given_ordinals = identity(ticket)
        if self._desk.repeats:
            label, drawer = None, Passing()
        else:
            drawer = self._desk.ledger.drawers[namespace, key]
        ordinals = drawer.ordinals(label, ticket.n) if given_ordinals is None else given_ordinals
        claim = ticket.claim = Claim(ticket, namespace, label, ordinals, self._desk.ledger.shelves[key], drawer)
        return claim

    def _place(self, claim: Claim) -> list[int]:
        """Find a position for every ordinal; those that are new are put on order."""
        new: list[int] = []
        for ordinal in claim.ordinals:
            draw = (claim.label, ordinal)
            position = self._desk.ledger.place(claim.shelf, claim.drawer, draw)
            if position is None:
                position = self._place_of_others(claim)
            if position is None:
                if self._desk.offline:
                    break
                position = claim.shelf.order()
                new.append(position)
            claim.take(position)
            if claim.label is not None:
                claim.shelf.note(draw, position)
        return new

    def _place_of_others(self, claim: Claim) -> int | None:
        position = self._desk.ledger.place_of_others(claim.shelf, claim.drawer, claim.label)
        if position is not None and claim.label is not None and not self._cautioned:
            self._cautioned = True
            claim.ticket.caution(UNSTABLE.format(claim.label))
        return position

    def _line_up(self, claim: Claim) -> None:
        """Wait for what is on order; take what is in memory."""
        for position in claim.positions:
            waiting = claim.shelf.on_order.get(position)
            if waiting is not None:
                waiting.append(claim)
                continue
            answer = self._desk.memory.get((claim.shelf.key, position))
            if answer is not None:
                self._hit(claim, position, answer)

    def _hit(self, claim: Claim, position: int, answer: Answer) -> None:
        self._desk.stage.tally.hit(answer)
        claim.fill(position, given(answer, position, cached=True))

    async def _miss(self, claim: Claim) -> None:
        with answering(claim.ticket):
            desk = self._desk
            claim.ticket.fail(await cache_miss(desk.cache, claim.ticket.prompt, desk.scope, claim.shelf.known()))


def identity(ticket: Ticket) -> tuple[str, str | None, Sequence[int] | None]:
    """In which namespace and under which id *ticket* draws; and its ordinals, if they are given."""
    if isinstance(ticket, Purchase):
        return NAMESPACE, None, ticket.positions
    return ticket.namespace, ticket.request_id, None


def short(shelf: Shelf, drawer: Drawer | None, n: int) -> bool:
    """Whether *n* more samples may have to be bought: another process may have stored some by now."""
    return shelf.known() < n + (len(drawer.used) if drawer else 0)


def new_ordinals(drawer: Drawer | None, label: str, n: int) -> Sequence[int]:
    """The coming ordinals of *label* that this namespace has no record of."""
    if drawer is None:
        return range(n)
    return [ordinal for ordinal in drawer.coming(label, n) if (label, ordinal) not in drawer.recorded]


def lost(key: bytes, position: int) -> CacheCorrupt:
    """What to say of a sample that the file counts and does not give."""
    return CacheCorrupt(
        f"sample {position} of prompt {key.hex()} is missing in the cache file though its index names it: the file is"
        " damaged; nothing was changed. Restore a copy of the file, or refresh the prompt."
    )


def fail(tickets: Iterable[Ticket], error: CacheError) -> None:
    """Each ticket gets the error as its own."""
    for ticket in tickets:
        ticket.fail(own_error(error) or error)


def unread(claims: list[Claim]) -> list[Claim]:
    """The claims that lack a stored sample."""
    return [claim for claim in claims if claim.missing and claim.wanted and claim.unread()]
