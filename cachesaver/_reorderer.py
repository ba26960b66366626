"""Reorderer: sorts each list of tickets, whatever order they arrived in."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ._rearranging import Rearranging
from ._stage import Tickets, as_stage
from ._ticket import Ticket


class Reorderer(Rearranging):
    """Passes each list on in the order of request ids; those without one keep their order, last.

    Numbers in ids compare as numbers: "step-2" comes before "step-10". With *by*, a function of
    a prompt, such as its length, the numbers that it returns come first. A prompt for which it
    raises fails with that error, and alone.
    """

    def __init__(self, model: Any, by: Callable[[Any], float] | None = None) -> None:
        super().__init__(as_stage(model))
        self.by = by

    def rearranged(self, tickets: Tickets) -> Tickets:
        ordered = sorted(tickets, key=by_id)
        return ordered if self.by is None else in_order(ordered, self.by)


def in_order(tickets: Tickets, by: Callable[[Any], float]) -> Tickets:
    """Sorted by what *by* makes of their prompts; equal ones stay in their order, and what it refuses has failed."""
    placed: list[tuple[float, Ticket]] = []
    for ticket in tickets:
        try:
            placed.append((float(by(ticket.prompt.fresh())), ticket))
        except Exception as error:
            ticket.fail(error)
    return [ticket for _, ticket in sorted(placed, key=lambda pair: pair[0])]


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
