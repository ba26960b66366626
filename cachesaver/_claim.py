"""Claim: the positions put aside for one ticket, until it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ._drawer import Drawer, Label
from ._ledger import Shelf
from ._records import Answer, Record
from ._ticket import Draw, Ticket


class Claim:
    """What one ticket gets of a shelf: an ordinal, a position and, in time, a draw for each sample."""

    __slots__ = (
        "_released",
        "drawer",
        "draws",
        "label",
        "missing",
        "namespace",
        "on_its_way",
        "ordinals",
        "positions",
        "shelf",
        "ticket",
    )

    def __init__(
        self, ticket: Ticket, namespace: str, label: Label, ordinals: Sequence[int], shelf: Shelf, drawer: Drawer
    ) -> None:
        self.ticket = ticket
        self.namespace = namespace
        self.label = label
        self.shelf = shelf
        self.ordinals = ordinals
        self.positions: list[int] = []
        self.draws: dict[int, Draw] = {}
        self.missing = ticket.n
        self.drawer = drawer
        self.on_its_way = False  # complete, and being recorded before it is answered
        self._released = False

    @property
    def wanted(self) -> bool:
        """Whether the ticket still waits for its samples."""
        return not self._released and not self.ticket.answered

    @property
    def short(self) -> bool:
        """Whether a position is missing for some of the samples."""
        return len(self.positions) < len(self.ordinals)

    def unread(self) -> list[int]:
        """The positions that are stored, but not at hand."""
        return [p for p in self.positions if p not in self.draws and p not in self.shelf.on_order]

    def take(self, position: int) -> None:
        """Put *position* aside for the next ordinal."""
        self.positions.append(position)
        self.drawer.used.add(position)

    def move(self, places: Mapping[int, int]) -> None:
        """What was bought for some positions was kept at others, and the caller has seen some of it."""
        # All at once: the new place of one may be the old place of the next.
        old = [position for position in self.positions if position in places]
        for index, (ordinal, position) in enumerate(zip(self.ordinals, self.positions, strict=True)):
            if position in places:
                self.positions[index] = places[position]
                draw = (self.label, ordinal)
                if self.drawer.recorded.get(draw) == position:
                    self.drawer.forget(draw)
                    self.drawer.record(draw, places[position])  # the record has followed the sample
                if self.label is not None:
                    self.shelf.undrawn(draw, position)
                    self.shelf.note(draw, places[position])
        for position in old:
            self.drawer.give_back_position(position)
        self.drawer.used.update(self.positions)

    def fill(self, position: int, draw: Draw) -> None:
        """The sample at *position* is there."""
        if position not in self.draws:
            self.missing -= 1
        self.draws[position] = draw

    def records(self, positions: list[int] | None = None) -> list[Record]:
        """The assignments of this claim that the cache does not have yet."""
        return [
            Record(self.namespace, self.shelf.key, self.label, ordinal, position, self.ticket.shown)
            for ordinal, position in zip(self.ordinals, self.positions, strict=True)
            if self.drawer.lacks((self.label, ordinal), position) and (positions is None or position in positions)
        ]

    def recorded(self, record: Record) -> None:
        """The cache is about to take *record*."""
        self.drawer.record((record.request_id, record.ordinal), record.position)

    def answer(self) -> None:
        """Give the ticket its samples."""
        self.ticket.answer([self.draws[position] for position in self.positions])

    def fail(self, error: Exception) -> None:
        """The ticket gets the error, and has consumed nothing."""
        self.release()
        self.ticket.fail(error)

    def release(self) -> None:
        """Offer ordinals and positions again: nobody took the samples."""
        if self._released:
            return
        self._released = True
        for ordinal in self.ordinals:
            self.drawer.give_back_ordinal(self.label, ordinal)
        for ordinal, position in zip(self.ordinals, self.positions, strict=False):
            self.drawer.give_back_position(position)
            self.shelf.undrawn((self.label, ordinal), position)
            waiting = self.shelf.on_order.get(position)
            if waiting is not None and self in waiting:
                waiting.remove(self)


def given(answer: Answer, position: int, *, cached: bool = False, duplicated: bool = False) -> Draw:
    """A draw from the shelf."""
    return Draw(answer, position, cached, duplicated)
