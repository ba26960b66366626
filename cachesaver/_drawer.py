"""Drawer: what one namespace has drawn of one prompt. Pure state, no awaits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from enum import Enum
from heapq import heapify, heappop, heappush, nsmallest
from typing import TYPE_CHECKING

from ._records import NONE, Drawn

if TYPE_CHECKING:
    from ._shelves import Shelf


class Several(Enum):
    """Stands for more than one request id."""

    IDS = "several ids"


Label = str | None
Draw = tuple[Label, int]  # a request id and its ordinal
Folded = int | tuple[str, int]  # a drawer as a number, beside its label where that is no number itself

MOST_FOLDED = 8  #: draws of a drawer that is folded
CODE_BITS = 5  #: of a folded drawer: its draws, and whether they are of an earlier run; above them is a label of digits
MOST_DIGITS = 18


def sole(draws: Iterable[Drawn]) -> dict[Draw, int]:
    """The position of each draw where none has two holders: the latest record counts, of a draw and of a position."""
    positions: dict[Draw, int] = {}
    holders: dict[int, Draw] = {}
    for drawn in draws:
        draw = (drawn.request_id, drawn.ordinal)
        positions[draw] = drawn.position
        holders[drawn.position] = draw
    return {draw: position for draw, position in positions.items() if holders[position] == draw}


class Drawer:
    """What one namespace has drawn of one prompt: in this run, and as recorded before."""

    __slots__ = (
        "_floor",
        "_known",
        "_next",
        "_owners",
        "_reserved",
        "_returned",
        "_steal_floor",
        "_stolen",
        "claims",
        "recorded",
        "used",
    )

    def __init__(self, known: Sequence[Drawn] = ()) -> None:
        # Few containers, and what a replay never needs comes when it is needed: there may be millions of these.
        self.used: dict[int, Draw] = {}  # the positions drawn in this run, and by which draw
        self.recorded: dict[Draw, int] = {}
        self.claims = 0  # tickets that have put some of it aside, and whose record is not made
        self._known = known  # what was recorded when this run began
        self._owners: dict[int, Label | Several] | None = None
        self._reserved: dict[int, int] | None = None
        self._next: dict[Label, int] = {}
        self._returned: dict[Label, list[int]] | None = None
        self._floor = 0  # every position below is used or reserved
        self._steal_floor = 0
        self._stolen = NONE  # positions that went to another than the one they are recorded for
        for drawn in known:
            self.recorded[drawn.request_id, drawn.ordinal] = drawn.position

    @property
    def reserved(self) -> dict[int, int]:
        """The positions that are recorded, and how many draws have each."""
        if self._reserved is None:
            self._reserved = {}
            for position in self.recorded.values():
                self._reserved[position] = self._reserved.get(position, 0) + 1
        return self._reserved

    def record(self, draw: Draw, position: int) -> None:
        """The cache knows that *draw* got *position*, if that is news."""
        if self.lacks(draw, position):
            self._set(draw, position)

    def _set(self, draw: Draw, position: int) -> None:
        before = self.recorded.get(draw)
        if before is not None:
            self._unreserve(before)
        self.recorded[draw] = position
        if self._reserved is not None:
            self._reserved[position] = self._reserved.get(position, 0) + 1

    def forget(self, draw: Draw) -> None:
        """The cache did not take the record of *draw* after all."""
        self._unreserve(self.recorded[draw])
        del self.recorded[draw]

    def redraw(self, positions: Collection[int]) -> None:
        """Whoever drew these positions draws again."""
        for draw, position in [*self.recorded.items()]:
            if position in positions:
                self.forget(draw)
        for position in positions:
            if position in self.used:  # not by whom it is recorded for, perhaps: it may have been stolen
                self.give_back_ordinal(*self.used.pop(position))

    def _unreserve(self, position: int) -> None:
        reserved = self.reserved
        reserved[position] -= 1
        if not reserved[position]:
            del reserved[position]
            self._floor = min(self._floor, position)

    def lacks(self, draw: Draw, position: int) -> bool:
        """Whether it is news that *draw* got *position*.

        Of an id the latest counts. Without one it is the order of arrival, which
        a failed or a refreshing run must not change; unless its place was stolen.
        """
        recorded = self.recorded.get(draw)
        if recorded is None:
            return True
        return recorded != position and (draw[0] is not None or recorded in self._stolen)

    def coming(self, label: Label, n: int) -> Sequence[int]:
        """The next *n* ordinals of *label*; those given back come first."""
        start = self._next.get(label, 0)
        if self._returned is None:
            return range(start, start + n)
        returned = nsmallest(n, self._returned.get(label, ()))
        return [*returned, *range(start, start + n - len(returned))]

    def ordinals(self, label: Label, n: int, again: Sequence[int] = ()) -> Sequence[int]:
        """Take the next *n* ordinals of *label*; those in *again* before others, where they were given back."""
        if again:
            own = self._taken_back(label, again[:n])
            return [*own, *self.ordinals(label, n - len(own))] if len(own) < n else own
        ordinals = self.coming(label, n)
        if self._returned and (returned := self._returned.get(label)):
            for _ in range(min(n, len(returned))):
                heappop(returned)
        self._next[label] = max(self._next.get(label, 0), ordinals[-1] + 1)
        return ordinals

    def _taken_back(self, label: Label, ordinals: Sequence[int]) -> list[int]:
        returned = [] if self._returned is None else self._returned.get(label, [])
        taken = [ordinal for ordinal in ordinals if ordinal in returned]
        for ordinal in taken:
            returned.remove(ordinal)
        heapify(returned)
        return taken

    def give_back_ordinal(self, label: Label, ordinal: int) -> None:
        """Nothing was consumed: offer the ordinal again."""
        if self._returned is None:
            self._returned = {}
        heappush(self._returned.setdefault(label, []), ordinal)

    def give_back_position(self, position: int) -> None:
        """Nothing was consumed: offer the position again."""
        self.used.pop(position, None)
        self._floor = min(self._floor, position)
        self._steal_floor = min(self._steal_floor, position)

    def lowest_unclaimed(self, shelf: Shelf) -> int | None:
        """The lowest known position neither used in this run nor recorded for anyone here."""
        position, reserved = max(self._floor, shelf.base), self.reserved
        while position < shelf.end and (position in self.used or position in reserved):
            position += 1
        self._floor = position
        while position < shelf.end:
            if position not in self.used and position not in reserved and shelf.has(position):
                return position
            position += 1
        return None

    def lowest_of_others(self, shelf: Shelf, label: Label) -> int | None:
        """The lowest known position that an earlier run recorded here for another id, and this one has not used."""
        position = max(self._steal_floor, shelf.base)
        while position < shelf.end and position in self.used:
            position += 1
        self._steal_floor = position
        owners = self.owners
        for candidate in range(position, shelf.end):
            if owners.get(candidate, label) != label and candidate not in self.used and shelf.has(candidate):
                self._stolen |= {candidate}
                return candidate
        return None

    @property
    def owners(self) -> dict[int, Label | Several]:
        """Whose the positions were when this run began."""
        if self._owners is None:
            self._owners = {}
            positions = {(drawn.request_id, drawn.ordinal): drawn.position for drawn in self._known}
            for (label, _), position in positions.items():
                self._owners[position] = label if self._owners.get(position, label) == label else Several.IDS
        return self._owners

    # A run may use millions of drawers, of which nearly all look the same

    def folded(self) -> Folded | None:
        """All that is in it, where that is the first positions in their order for one label; else None."""
        n = len(self.used)
        if not 0 < n <= MOST_FOLDED or len(self._next) != 1 or self._stolen:
            return None
        ((label, used),) = self._next.items()
        if used != n or (self._returned and any(self._returned.values())):
            return None
        draws = [(label, position) for position in range(n)]
        if self.used != dict(enumerate(draws)) or [*self.recorded.items()] != [*zip(draws, range(n), strict=True)]:
            return None
        if self._known and self._known != [(label, position, position) for position in range(n)]:
            return None
        code = n << 1 | bool(self._known)
        if label is None:
            return code
        number = int(label) if label.isdecimal() and label.isascii() and len(label) < MOST_DIGITS else 0
        return number << CODE_BITS | code if number and str(number) == label else (label, code)

    @classmethod
    def unfolded(cls, folded: Folded) -> Drawer:
        """The drawer that was folded."""
        label: Label = None
        if isinstance(folded, tuple):
            label, folded = folded
        elif folded >> CODE_BITS:
            label = str(folded >> CODE_BITS)
        code = folded & ((1 << CODE_BITS) - 1)
        positions = range(code >> 1)
        drawer = cls([Drawn(label, position, position) for position in positions])
        if not code & 1:
            drawer._known = ()
        drawer.used.update((position, (label, position)) for position in positions)
        drawer._next[label] = len(positions)
        return drawer


class Passing(Drawer):
    """That of a single request, which begins at the beginning and leaves no record (mode "repeat")."""

    __slots__ = ()

    def lacks(self, draw: Draw, position: int) -> bool:
        return False
