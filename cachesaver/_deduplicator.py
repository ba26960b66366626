"""Deduplicator: asks once for what several tickets of a list want."""

from __future__ import annotations

from typing import Any

from ._compound import Merged
from ._rearranging import Rearranging
from ._stage import Tickets, as_stage
from ._ticket import Ticket


class Deduplicator(Rearranging):
    """Merges equal prompts of one namespace in a list into one request for all their samples.

    Every request still gets samples of its own: three that want 1, 2 and 3 make
    one request for 6.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(as_stage(model))

    def rearranged(self, tickets: Tickets) -> Tickets:
        equal: dict[tuple[str | None, str, str], list[Ticket]] = {}
        for ticket in tickets:
            prompt = ticket.prompt
            equal.setdefault((prompt.scope, prompt.canonical, ticket.namespace), []).append(ticket)
        return [mates[0] if len(mates) == 1 else Merged(mates) for mates in equal.values()]
