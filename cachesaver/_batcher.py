"""Batcher: collects tickets until a batch is full or its oldest member has waited long enough."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from anyio import CancelScope, EndOfStream, WouldBlock, current_time

from ._compound import Share
from ._stage import Inbox, Stage, Tickets, as_stage
from ._ticket import Ticket


class Batcher(Stage):
    """Passes tickets on in batches of up to *batch_size* requests.

    A batch leaves when it is full, when its oldest member has waited *timeout*
    seconds, or at once where *timeout* is 0 and nothing else is queued. Behind
    another stage it leaves before the timeout if that cannot help: when every request in the
    stack is in it, and the model has nothing to do. Over a model with `batch_request` its size
    counts prompts: a request for n samples is n of them, spread over batches where
    it does not fit into one. Both settings may be changed at any time.
    """

    pause = 0.001  #: seconds in which nobody may have asked, for a batch to leave before its timeout

    def __init__(self, model: Any, batch_size: int = 64, timeout: float = 0.0) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, not {batch_size!r}")
        if not timeout >= 0 or math.isnan(timeout):
            raise ValueError(f"timeout must be a number of seconds, 0 or more, not {timeout!r}")
        super().__init__(as_stage(model))
        self.batch_size = batch_size
        self.timeout = timeout
        self._clock: CancelScope | None = None  # of the batch that is being filled
        self._due = math.inf  # when that one has waited long enough
        self._hurried = False

    async def run(self, inbox: Inbox) -> None:
        assert self.below is not None
        self._waiting: deque[Ticket] = deque()
        self._weight = 0  # what waits, in the units of batch_size
        self._by_prompt = self.below.takes_prompts
        self._hurried = False
        draining = False
        while self._waiting or not draining:
            if not draining:
                draining = await self._fill(inbox)
            if self._waiting:
                await self.below.submit(self._cut())

    def hurry(self) -> None:
        super().hurry()
        self._hurried = True
        if self._clock is not None:
            self._clock.deadline = -math.inf

    async def _fill(self, inbox: Inbox) -> bool:
        """Take from *inbox* until a batch is due; True once nothing more will come."""
        try:
            if not self._waiting:
                self._take(await inbox.receive())
            if self.timeout == 0 or self._hurried:
                while self._weight < self.batch_size:
                    self._take(inbox.receive_nowait())
            else:
                # The clock starts at the first member taken by this batch; with
                # the time it was queued, a backlog would make batches of one.
                self._due = current_time() + self.timeout
                while self._weight < self.batch_size:
                    with CancelScope(deadline=self._look_at()) as self._clock:
                        self._take(await inbox.receive())
                        continue
                    if self._hurried or current_time() >= self._due or self._nobody_else_can_ask:
                        break
        except WouldBlock:
            return False
        except EndOfStream:
            return True
        return False

    def all_answered(self) -> None:
        if self._clock is not None:  # the agents that wait for those answers have not asked again yet
            self._clock.deadline = min(self._clock.deadline, current_time() + self.pause)
        super().all_answered()

    def _look_at(self) -> float:
        """When to see whether the batch leaves though it is not full."""
        return min(self._due, current_time() + self.pause) if self._model_is_idle else self._due

    @property
    def _model_is_idle(self) -> bool:
        return self.above is not None and self.below is not None and not any(stage.owed for stage in self.below.stages)

    @property
    def _nobody_else_can_ask(self) -> bool:
        return self._model_is_idle and self.above is not None and self.above.quiet

    def _take(self, tickets: Tickets) -> None:
        self._waiting += tickets
        self._weight += sum(map(self._weigh, tickets)) if self._by_prompt else len(tickets)

    def _weigh(self, ticket: Ticket) -> int:
        return ticket.n if self._by_prompt else 1

    def _cut(self) -> Tickets:
        """The next batch; what does not fit stays for the one after it."""
        batch: Tickets = []
        room = self.batch_size
        while self._waiting and (weight := self._weigh(self._waiting[0])) <= room:
            batch.append(self._waiting.popleft())
            room -= weight
        if self._waiting and room:
            rest = self._waiting[0] = Share.all_of(self._waiting[0])
            rest.owner = self
            self.owed.add(rest)
            batch.append(rest.cut(room))
            room = 0
        self._weight -= self.batch_size - room
        return batch
