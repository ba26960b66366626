"""Which position of a prompt's list goes to whom: pure state, no awaits.

A position is stored, on order, or free. Which of the three is decided between
two awaits of the Cacher, so this needs no lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ._drawer import Draw, Drawer, Label, sole
from ._records import Loaded, Stock

if TYPE_CHECKING:
    from ._claim import Claim


class Shelf:
    """The list of samples of one prompt, as far as this run knows it.

    Every position below `end` is stored or on order, but for the `holes`:
    purchases that failed where a later one succeeded.
    """

    __slots__ = ("base", "drawn", "end", "holes", "key", "on_order")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.base = 0  # positions below it are out of bounds (refresh)
        self.end = 0
        self.holes: set[int] = set()
        self.on_order: dict[int, list[Claim]] = {}  # who waits for a position that is being bought
        self.drawn: dict[Draw, int] = {}  # the lowest position that any namespace drew

    def known(self) -> int:
        """How many samples are stored or on order."""
        return self.end - self.base - len(self.holes)

    @property
    def news(self) -> int:
        """The lowest position at which another process may have stored a sample that we do not know."""
        return min(self.holes, default=self.end)

    def has(self, position: int) -> bool:
        return self.base <= position < self.end and position not in self.holes

    def stocked(self, positions: Iterable[int]) -> None:
        """The cache holds these positions."""
        for position in positions:
            if position >= self.end:
                self.holes.update(range(self.end, position))
                self.end = position + 1
            else:
                self.holes.discard(position)

    def order(self) -> int:
        """Put the lowest free position on order."""
        if self.holes:
            position = min(self.holes)
            self.holes.remove(position)
        else:
            position = self.end
            self.end += 1
        self.on_order[position] = []
        return position

    def free(self, position: int) -> None:
        """The purchase of a position has failed."""
        self.holes.add(position)
        while self.end - 1 in self.holes:
            self.end -= 1
            self.holes.remove(self.end)

    def note(self, draw: Draw, position: int) -> None:
        """Some namespace drew *position*: others with the same id and ordinal want it too (S7)."""
        if position >= self.base:
            self.drawn[draw] = min(position, self.drawn.get(draw, position))

    def undrawn(self, draw: Draw, position: int) -> None:
        """A namespace gave *position* back; what others have recorded is looked up with the next draw."""
        if self.drawn.get(draw) == position:
            del self.drawn[draw]


class Ledger:
    """All shelves and drawers of one run."""

    def __init__(self, *, fresh: bool, shared: bool) -> None:
        self.shelves: dict[bytes, Shelf] = {}
        self.drawers: dict[tuple[str, bytes], Drawer] = {}
        self._fresh = fresh  # refresh: what was stored before this run is out of bounds
        self._shared = shared  # other processes draw from the same drawers
        self._an_id_was_found = False

    def learn(self, loaded: Loaded) -> None:
        """Take in what the cache holds."""
        for key, stock in loaded.stocks.items():
            self._stock(key, stock)
        for place, records in loaded.draws.items():
            if self._shared:
                drawer = self.drawers.setdefault(place, Drawer())
                for draw, position in sole(records).items():
                    drawer.record(draw, position)
            elif place not in self.drawers:
                self.drawers[place] = Drawer(records)
        for (key, label, ordinal), position in loaded.labels.items():
            self.shelves[key].note((label, ordinal), position)

    def place(self, shelf: Shelf, drawer: Drawer, draw: Draw) -> int | None:
        """The known position that *draw* gets, by the rules of design.md; None if one must be bought."""
        recorded = drawer.recorded.get(draw)
        if recorded is not None and recorded not in drawer.used and shelf.has(recorded):
            self._an_id_was_found |= draw[0] is not None
            return recorded
        if draw[0] is not None:
            twin = shelf.drawn.get(draw)
            if twin is not None and twin not in drawer.used and twin not in drawer.reserved and shelf.has(twin):
                return twin
        return drawer.lowest_unclaimed(shelf)

    def place_of_others(self, shelf: Shelf, drawer: Drawer, label: Label) -> int | None:
        """Before one is bought: a position recorded for another id, while no id of this run has been found."""
        return None if self._an_id_was_found or self._shared else drawer.lowest_of_others(shelf, label)

    def _stock(self, key: bytes, stock: Stock) -> None:
        shelf = self.shelves.get(key)
        if shelf is None:
            shelf = self.shelves[key] = Shelf(key)
            if self._fresh:
                shelf.base = shelf.end = stock.positions[-1] + 1 if stock.positions else 0
                return
        shelf.stocked(position for position in stock.positions if position >= shelf.base)
