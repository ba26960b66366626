"""Lookup: asks the cache for what intake needs to know, in one go for a list of tickets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from ._claim import Claim
from ._drawer import Drawer
from ._errors import CacheCorrupt, CacheError
from ._purchase import NAMESPACE, Purchase
from ._records import Answer, Loaded, Query
from ._shelves import Shelf
from ._statements import ANSWERS_LOADED
from ._ticket import Ticket, own_error

if TYPE_CHECKING:
    from ._desk import Desk

MOST_AHEAD = 128  #: samples of a prompt that are read in one go with one that is not in memory
BYTES_AHEAD = 2**18  #: and about how much text, so that no event loop is held up for long


Group = tuple[bytes, list[Ticket]]  # equal tickets, and the key of their prompt


class Reading(NamedTuple):
    """Samples on their way from the cache file, and whose they are."""

    places: list[tuple[Claim, tuple[bytes, int]]]
    answers: Future[dict[tuple[bytes, int], Answer | CacheCorrupt]]


class Lookup:
    """The way from intake to the cache, and of what it says into the shelves and the memory."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def load(self, groups: list[Group]) -> Future[Loaded] | None:
        """Ask for what the shelves lack of these prompts, in one go; None where nothing is lacking any more."""
        desk = self._desk
        stocks: dict[bytes, int] = {}
        draws: set[tuple[str, bytes]] = set()
        labels: set[tuple[bytes, str, int]] = set()
        for key, tickets in groups:
            shelf = desk.shelves.find_shelf(key)
            for ticket in tickets:
                namespace, label, _ = identity(ticket, desk.shared)
                drawer = desk.shelves.find_drawer(namespace, key)
                if desk.repeats:
                    label = drawer = None
                elif drawer is None or desk.shared:
                    draws.add((namespace, key))
                if shelf is None or desk.shared or (not desk.offline and short(shelf, drawer, ticket.n)):
                    stocks[key] = 0 if shelf is None else shelf.news
                if label is not None:
                    labels.update((key, label, ordinal) for ordinal in new_ordinals(drawer, label, ticket.n))
        if not (stocks or draws or labels):
            return None
        query = Query(stocks, draws, labels)
        known = desk.cache.at_hand(query)
        if known is None:
            return desk.cache.load(query)
        self.learn(known)
        return None

    def learn(self, loaded: Loaded) -> None:
        self._desk.shelves.learn(loaded)
        for key, stock in loaded.stocks.items():
            for position, answer in stock.answers.items():
                if isinstance(answer, Answer):
                    self._desk.memory.put((key, position), answer)

    def read(self, claims: list[Claim]) -> Reading | None:
        """Ask for the stored samples that are not in memory; None where all are."""
        waiting = unread(claims)
        if not waiting:
            return None
        places = [(claim, (claim.key, position)) for claim in waiting for position in claim.unread()]
        wanted = {place: None for _, place in places}
        for claim in waiting:  # those that come next will be asked for next
            last, shelf = max(claim.positions), claim.shelf
            known = self._desk.memory.get((claim.key, min(claim.positions) - 1))
            room = BYTES_AHEAD // (len(known.body) + 1) if known is not None else ANSWERS_LOADED
            ahead = min(2 * (last + 1), MOST_AHEAD, room)  # twice as many as came before
            wanted |= {(claim.key, p): None for p in range(last + 1, last + ahead) if shelf.has(p)}
        try:
            return Reading(places, self._desk.cache.read(list(wanted)))
        except CacheError as error:
            for claim in waiting:
                claim.fail(own_error(error) or error)
            return None


def identity(ticket: Ticket, shared: bool = False) -> tuple[str, str | None, Sequence[int] | None]:
    """In which namespace and under which id *ticket* draws; and its ordinals, if they are given."""
    if isinstance(ticket, Purchase):
        return NAMESPACE, None, ticket.positions
    return ticket.namespace, ticket.request_id if shared else ticket.label, None


def short(shelf: Shelf, drawer: Drawer | None, n: int) -> bool:
    """Whether *n* more samples may have to be bought: another process may have stored some by now."""
    return shelf.known() < n + (len(drawer.used) if drawer else 0)


def new_ordinals(drawer: Drawer | None, label: str, n: int) -> Sequence[int]:
    """The coming ordinals of *label* that this namespace has no record of."""
    if drawer is None:
        return range(n)
    return [ordinal for ordinal in drawer.coming(label, n) if (label, ordinal) not in drawer.recorded]


def unread(claims: list[Claim]) -> list[Claim]:
    """The claims that lack a stored sample."""
    return [claim for claim in claims if claim.missing and claim.wanted and claim.unread()]
