"""Intake: looks up what tickets ask for, has positions dealt to them, and answers what is known."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ._claim import Claim
from ._compound import Merged
from ._dealing import Dealing
from ._errors import CacheCorrupt, CacheError
from ._lookup import Group, Lookup, Reading, unread
from ._records import Answer
from ._threads import completed, there_soon
from ._ticket import Draw, Ticket, disown, own_error, still_wanted

if TYPE_CHECKING:
    from ._desk import Desk
    from ._stage import Tickets


FEW = 4  #: tickets that may be dealt at once; of more the cache is not done before the loop is woken


class Intake:
    """The first of the Cacher's loops: one call of `deal` for each list of tickets."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._lookup = Lookup(desk)
        self._dealing = Dealing(desk)

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
        claims = self._dealing.claims(groups)
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
        claims = self._dealing.claims(
            [(key, still_wanted(tickets)) for key, tickets in groups]
        )  # some have left meanwhile
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
