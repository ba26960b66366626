"""What Reorderer and Deduplicator share: they rearrange a list of tickets, and pass it on."""

from __future__ import annotations

from abc import abstractmethod

from ._stage import Inbox, Stage, Tickets


class Rearranging(Stage):
    """A stage that makes another list of each list of tickets, at once."""

    @abstractmethod
    def rearranged(self, tickets: Tickets) -> Tickets:
        """What to pass on for *tickets*."""

    async def submit(self, tickets: Tickets) -> None:
        if self.waits_for_work:  # nobody is in line: what `run` would do is done here, without a hop
            await self._pass_on(tickets)
        else:
            await super().submit(tickets)

    async def run(self, inbox: Inbox) -> None:
        async for tickets in inbox:
            await self._pass_on(tickets)

    async def _pass_on(self, tickets: Tickets) -> None:
        assert self.below is not None
        rearranged = self.rearranged(tickets)
        self.take_over(rearranged)  # should this be cut off before the next stage has them, they are answered here
        await self.below.submit(rearranged)
