"""Which position of a prompt's list goes to whom: pure state, no awaits.

A position is stored, on order, or free. Which of the three is decided between
two awaits of the Cacher, so this needs no lock.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ._drawer import Draw, Drawer, Folded, Label, sole
from ._records import NONE, Loaded, Stock

if TYPE_CHECKING:
    from ._claim import Claim

NO_ORDERS: dict[int, list[Claim]] = {}  #: of every shelf that waits for nothing; nobody changes it


class Shelf:
    """The list of samples of one prompt, as far as this run knows it.

    Every position below `end` is stored or on order, but for the `holes`:
    purchases that failed where a later one succeeded.
    """

    __slots__ = ("base", "claims", "drawn", "end", "holes", "key", "on_order", "rejected")

    def __init__(self, key: bytes, end: int = 0) -> None:
        self.key = key
        self.base = 0  # positions below it are out of bounds (refresh)
        self.end = end
        self.claims = 0  # tickets that have put some of it aside, and whose record is not made
        self.holes = NONE
        self.rejected = NONE  # stored, and given to nobody any more
        self.on_order = NO_ORDERS  # who waits for a position that is being bought
        self.drawn: dict[Draw, int] | None = None  # the lowest position that any namespace drew

    def known(self) -> int:
        """How many samples are stored or on order."""
        rejected = sum(self.base <= position < self.end for position in self.rejected) if self.rejected else 0
        return self.end - self.base - len(self.holes) - rejected

    @property
    def news(self) -> int:
        """The lowest position at which another process may have stored a sample that we do not know."""
        return min(self.holes, default=self.end)

    def has(self, position: int) -> bool:
        return self.base <= position < self.end and position not in self.holes and position not in self.rejected

    def stocked(self, positions: Iterable[int]) -> None:
        """The cache holds these positions."""
        for position in positions:
            if position >= self.end:
                if position > self.end:
                    self.holes |= set(range(self.end, position))
                self.end = position + 1
            elif position in self.holes:
                self.holes -= {position}

    def order(self) -> int:
        """Put the lowest free position on order."""
        if self.holes:
            position = min(self.holes)
            self.holes -= {position}
        else:
            position = self.end
            self.end += 1
        if not self.on_order:
            self.on_order = {}
        self.on_order[position] = []
        return position

    def free(self, position: int) -> None:
        """The purchase of a position has failed."""
        holes = {*self.holes, position}
        while self.end - 1 in holes:
            self.end -= 1
            holes.remove(self.end)
        self.holes = frozenset(holes)

    def note(self, draw: Draw, position: int) -> None:
        """Some namespace drew *position*: others with the same id and ordinal want it too (S7)."""
        if position < self.base:
            return
        if self.drawn is None:
            self.drawn = {}
        self.drawn[draw] = min(position, self.drawn.get(draw, position))

    def undrawn(self, draw: Draw, position: int) -> None:
        """A namespace gave *position* back; what others have recorded is looked up with the next draw."""
        if self.drawn is not None and self.drawn.get(draw) == position:
            del self.drawn[draw]


class Shelves:
    """All shelves and drawers of one run; those that nobody uses are folded into a number."""

    def __init__(self, *, fresh: bool, shared: bool) -> None:
        self._shelves: dict[bytes, Shelf | int] = {}
        self._drawers: dict[str, dict[bytes, Drawer | Folded]] = {}
        self._fresh = fresh  # refresh: what was stored before this run is out of bounds
        self._shared = shared  # other processes draw from the same drawers
        self._an_id_was_found = False
        self._new: set[str] = set()  # namespaces that had drawn nothing when they were first asked about

    def learn(self, loaded: Loaded) -> None:
        """Take in what the cache holds."""
        for key, stock in loaded.stocks.items():
            self._stock(key, stock)
        for (namespace, key), records in loaded.draws.items():
            drawer = self.find_drawer(namespace, key)
            if drawer is None:
                drawer = self._keep(namespace, key, Drawer() if self._shared else Drawer(records))
            if self._shared:
                for draw, position in sole(records).items():
                    drawer.record(draw, position)
        if not self._shared:
            self._new.update(loaded.unused)
        for (key, label, ordinal), position in loaded.labels.items():
            self.shelf(key).note((label, ordinal), position)

    def find_shelf(self, key: bytes) -> Shelf | None:
        """The shelf of a prompt, None before the cache was asked for it."""
        shelf = self._shelves.get(key)
        if isinstance(shelf, int):
            shelf = self._shelves[key] = Shelf(key, shelf)
        return shelf

    def find_drawer(self, namespace: str, key: bytes) -> Drawer | None:
        """What a namespace has drawn of a prompt, None before the cache was asked for it."""
        drawers = self._drawers.get(namespace)
        drawer = None if drawers is None else drawers.get(key)
        if drawers is None or drawer is None:
            return self._keep(namespace, key, Drawer()) if namespace in self._new else None
        if not isinstance(drawer, Drawer):
            drawer = drawers[key] = Drawer.unfolded(drawer)
        return drawer

    def shelf(self, key: bytes) -> Shelf:
        """The shelf of a prompt that the cache was asked for."""
        shelf = self.find_shelf(key)
        assert shelf is not None
        return shelf

    def drawer(self, namespace: str, key: bytes) -> Drawer:
        """The drawer of a namespace and a prompt that the cache was asked for."""
        drawer = self.find_drawer(namespace, key)
        assert drawer is not None
        return drawer

    def fold(self, shelf: Shelf, namespace: str | None) -> None:
        """Make numbers of what *namespace* has drawn of *shelf*, and of that, where nobody uses it and nothing is lost.

        Asking for them unfolds them.
        """
        if namespace is not None:
            drawers = self._drawers[namespace]
            drawer = drawers[shelf.key]
            if isinstance(drawer, Drawer) and not drawer.claims:
                folded = drawer.folded()
                if folded is None:  # much was drawn of it, and more will be: the shelf stays as well
                    return
                drawers[shelf.key] = folded
        in_use = shelf.claims or shelf.base or shelf.holes or shelf.rejected or shelf.on_order
        if not in_use and self._shelves[shelf.key] is shelf:
            self._shelves[shelf.key] = shelf.end  # and of what was `drawn` the cache has a record

    def reject(self, namespace: str, key: bytes, positions: Collection[int]) -> None:
        """Nobody gets these positions any more; the draws of *namespace* that had them are offered again."""
        shelf = self.find_shelf(key)
        if shelf is not None:  # else the cache will say so when it is asked
            shelf.rejected |= frozenset(positions)
            if shelf.drawn:
                shelf.drawn = {draw: position for draw, position in shelf.drawn.items() if position not in positions}
        drawer = self.find_drawer(namespace, key)
        if drawer is not None:
            drawer.redraw(positions)

    def place(self, shelf: Shelf, drawer: Drawer, draw: Draw) -> int | None:
        """The known position that *draw* gets, by the rules of design.md; None if one must be bought."""
        recorded = drawer.recorded.get(draw)
        if recorded is not None and recorded not in drawer.used and shelf.has(recorded):
            self._an_id_was_found |= draw[0] is not None
            return recorded
        if draw[0] is not None and shelf.drawn is not None:
            twin = shelf.drawn.get(draw)
            if twin is not None and twin not in drawer.used and twin not in drawer.reserved and shelf.has(twin):
                return twin
        return drawer.lowest_unclaimed(shelf)

    def place_of_others(self, shelf: Shelf, drawer: Drawer, label: Label) -> int | None:
        """Before one is bought: a position recorded for another id, while no id of this run has been found."""
        return None if self._an_id_was_found or self._shared else drawer.lowest_of_others(shelf, label)

    def _keep(self, namespace: str, key: bytes, drawer: Drawer) -> Drawer:
        self._drawers.setdefault(namespace, {})[key] = drawer
        return drawer

    def _stock(self, key: bytes, stock: Stock) -> None:
        shelf = self.find_shelf(key)
        if shelf is None:
            shelf = self._shelves[key] = Shelf(key)
            if self._fresh:
                shelf.base = shelf.end = stock.positions[-1] + 1 if stock.positions else 0
                return
        shelf.stocked(position for position in stock.positions if position >= shelf.base)
        if stock.rejected:
            shelf.rejected |= stock.rejected
