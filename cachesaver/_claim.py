"""Claim: the positions put aside for one ticket, until it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._drawer import Drawer, Label, Passing
from ._records import NONE, Record
from ._shelves import Shelf, Shelves
from ._ticket import Draw, Ticket


class Claim:
    """What one ticket gets of a shelf: an ordinal, a position and, in time, a draw for each sample."""

    __slots__ = (
        "_drawer",
        "_open",
        "_released",
        "_shelf",
        "_shelves",
        "draws",
        "key",
        "label",
        "missing",
        "namespace",
        "on_its_way",
        "ordinals",
        "paid",
        "positions",
        "ticket",
    )

    def __init__(
        self,
        ticket: Ticket,
        shelves: Shelves,
        shelf: Shelf,
        drawer: Drawer,
        namespace: str,
        label: Label,
        ordinals: Sequence[int],
    ) -> None:
        self.ticket = ticket
        self.key = shelf.key
        self.namespace = namespace
        self.label = label
        self.ordinals = ordinals
        self.positions: list[int] = []
        self.draws: dict[int, Draw] = {}
        self.missing = ticket.n
        self._shelves = shelves
        self._shelf = shelf
        self._drawer = drawer
        self.paid = NONE  # the positions that were bought for it
        self.on_its_way = False  # complete, and being recorded before it is answered
        self._open = True
        self._released = False
        shelf.claims += 1
        drawer.claims += 1

    @property
    def shelf(self) -> Shelf:
        """The list of samples that it is of."""
        return self._shelf if self._open else self._shelves.shelf(self.key)

    @property
    def drawer(self) -> Drawer:
        """What its namespace has drawn of that; with mode "repeat", what it has itself."""
        found = self._open or isinstance(self._drawer, Passing)
        return self._drawer if found else self._shelves.drawer(self.namespace, self.key)

    @property
    def wanted(self) -> bool:
        """Whether the ticket still waits for its samples."""
        return not self._released and not self.ticket.answered

    def unread(self) -> list[int]:
        """The positions that are stored, but not at hand."""
        on_order = self.shelf.on_order
        return [p for p in self.positions if p not in self.draws and p not in on_order]

    def move(self, places: Mapping[int, int]) -> None:
        """What was bought for some positions was kept at others, and the caller has seen some of it."""
        # All at once: the new place of one may be the old place of the next.
        old = [position for position in self.positions if position in places]
        shelf, drawer = self.shelf, self.drawer
        for index, (ordinal, position) in enumerate(zip(self.ordinals, self.positions, strict=True)):
            if position in places:
                self.positions[index] = places[position]
                draw = (self.label, ordinal)
                if drawer.recorded.get(draw) == position:
                    drawer.forget(draw)
                    drawer.record(draw, places[position])  # the record has followed the sample
                if self.label is not None:
                    shelf.undrawn(draw, position)
                    shelf.note(draw, places[position])
        for position in old:
            drawer.give_back_position(position)
        for ordinal, position in zip(self.ordinals, self.positions, strict=True):
            drawer.used[position] = (self.label, ordinal)

    def fill(self, position: int, draw: Draw) -> None:
        """The sample at *position* is there."""
        if position not in self.draws:
            self.missing -= 1
        self.draws[position] = draw

    def records(self, positions: list[int] | None = None) -> list[Record]:
        """The assignments of this claim that the cache does not have yet."""
        drawer = self.drawer
        records: list[Record] = []
        for ordinal, position in zip(self.ordinals, self.positions, strict=True):
            if drawer.lacks((self.label, ordinal), position) and (positions is None or position in positions):
                shown = self.ticket.shown
                records.append(Record(self.namespace, self.key, self.label, ordinal, position, follows=shown))
        return records

    def recorded(self, record: Record) -> None:
        """The cache is about to take *record*."""
        self.drawer.record((record.request_id, record.ordinal), record.position)

    def answer(self) -> None:
        """Give the ticket its samples."""
        self.ticket.answer([*map(self.draws.__getitem__, self.positions)])

    def fold(self) -> None:
        """Nothing is on its way for it any more."""
        self._close()
        self._shelves.fold(self._shelf, None if isinstance(self._drawer, Passing) else self.namespace)

    def _close(self) -> None:
        if self._open:
            self._open = False
            self._shelf.claims -= 1
            self._drawer.claims -= 1

    def fail(self, error: Exception) -> None:
        """The ticket gets the error, and has consumed nothing."""
        self.release()
        self.ticket.fail(error)

    def release(self) -> None:
        """Offer ordinals and positions again: nobody took the samples."""
        if self._released:
            return
        self._released = True
        self._close()
        shelf, drawer = self.shelf, self.drawer
        for ordinal in self.ordinals[len(self.positions) :]:
            drawer.give_back_ordinal(self.label, ordinal)
        for ordinal, position in zip(self.ordinals, self.positions, strict=False):
            if position in drawer.used:  # else it was rejected, and its ordinal is offered again already
                drawer.give_back_ordinal(self.label, ordinal)
            drawer.give_back_position(position)
            shelf.undrawn((self.label, ordinal), position)
            waiting = shelf.on_order.get(position)
            if waiting is not None and self in waiting:
                waiting.remove(self)
