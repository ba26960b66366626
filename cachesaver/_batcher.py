"""Batcher: collects tickets until a batch is full or its oldest member has waited long enough."""

from __future__ import annotations

import math
from typing import Any

from anyio import EndOfStream, WouldBlock, move_on_after

from ._stage import Inbox, Stage, Tickets, as_stage
from ._ticket import Share


class Batcher(Stage):
    """Passes tickets on in batches of up to *batch_size* samples.

    A batch leaves when it is full, when its oldest member has waited *timeout*
    seconds, or at once where *timeout* is 0 and nothing else is queued. A request
    for n samples counts n; over a model with `batch_request` a request that does
    not fit is spread over batches, so that no batch is larger than *batch_size*.
    """

    def __init__(self, model: Any, batch_size: int = 64, timeout: float = 0.0) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
        if not timeout >= 0 or math.isnan(timeout):
            raise ValueError(f"timeout must be a number of seconds, 0 or more, not {timeout!r}")
        super().__init__(as_stage(model))
        self.batch_size = batch_size
        self.timeout = timeout

    async def run(self, inbox: Inbox) -> None:
        assert self.below is not None
        waiting: Tickets = []
        draining = False
        while waiting or not draining:
            if not draining:
                draining = await self._fill(waiting, inbox)
            batch, waiting = self._cut(waiting)
            if batch:
                await self.below.submit(batch)

    async def _fill(self, waiting: Tickets, inbox: Inbox) -> bool:
        """Take from *inbox* until a batch is due; True once nothing more will come."""
        try:
            if not waiting:
                waiting += await inbox.receive()
            if self.timeout == 0:
                while size(waiting) < self.batch_size:
                    waiting += inbox.receive_nowait()
            else:
                # The clock starts at the first member taken by this batch; with
                # the time it was queued, a backlog would make batches of one.
                with move_on_after(self.timeout):
                    while size(waiting) < self.batch_size:
                        waiting += await inbox.receive()
        except WouldBlock:
            return False
        except EndOfStream:
            return True
        return False

    def _cut(self, waiting: Tickets) -> tuple[Tickets, Tickets]:
        """The next batch, and what is left for the one after it."""
        if size(waiting) <= self.batch_size:
            return waiting, []
        room = self.batch_size
        for index, ticket in enumerate(waiting):
            if ticket.n > room:
                return self._split(waiting, index, room)
            room -= ticket.n
        return waiting, []

    def _split(self, waiting: Tickets, index: int, room: int) -> tuple[Tickets, Tickets]:
        assert self.below is not None
        if not self.below.takes_prompts:
            index = max(index, 1)  # a request larger than a batch goes alone, whole
            return waiting[:index], waiting[index:]
        if room == 0:
            return waiting[:index], waiting[index:]
        rest = Share.all_of(waiting[index])
        return [*waiting[:index], rest.cut(room)], [rest, *waiting[index + 1 :]]


def size(tickets: Tickets) -> int:
    """How many samples *tickets* ask for."""
    return sum(ticket.n for ticket in tickets)
