"""Reorderer: sorts each list of tickets by request id, whatever order they arrived in."""

from __future__ import annotations

import re
from typing import Any

from ._stage import Inbox, Stage, as_stage
from ._ticket import Ticket


class Reorderer(Stage):
    """Passes each list on in the order of request ids; those without one keep their order, last.

    Numbers in ids compare as numbers: "step-2" comes before "step-10".
    """

    def __init__(self, model: Any) -> None:
        super().__init__(as_stage(model))

    async def run(self, inbox: Inbox) -> None:
        assert self.below is not None
        async for tickets in inbox:
            await self.below.submit(sorted(tickets, key=by_id))


def by_id(ticket: Ticket) -> tuple[bool, list[tuple[int, str, str]]]:
    """A key that sorts ids the way people number things."""
    if ticket.request_id is None:
        return True, []
    pieces = re.split(r"([0-9]+)", ticket.request_id)
    return False, [sortable(piece) for piece in pieces if piece]


def sortable(piece: str) -> tuple[int, str, str]:
    """Digits by their value, before which there is no limit; text before digits, by its letters."""
    if not piece.isdecimal():
        return -1, piece, piece
    digits = piece.lstrip("0")
    return len(digits), digits, piece
