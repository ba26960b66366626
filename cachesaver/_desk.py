"""The Cacher at work in one run: its loops, linked by streams.

*Intake* deals positions and answers what is known, *ordering* passes purchases on
to the stage below, *collecting* stores what comes back and answers those who wait
for it. So a hit never waits behind a purchase, and whatever piles up while one
commit is made is stored together by the next. While intake waits for work, a request may
be dealt without it, by whoever asks; what then still has to wait is a job for later.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from anyio import ClosedResourceError, EndOfStream, WouldBlock, create_memory_object_stream, create_task_group
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from ._accounts import Accounts
from ._claim import Claim
from ._errors import CacheError
from ._memory import Memory
from ._purchase import Purchase
from ._rejection import Rejection
from ._shelves import Shelves
from ._ticket import Ticket

if TYPE_CHECKING:
    from ._cache import Cache
    from ._collecting import Collecting
    from ._intake import Intake
    from ._stage import Inbox, Stage, Tickets

Job = Callable[..., Awaitable[None]]

GROUP = 256  #: tickets that are looked up, or returns that are stored, in one go
MOST_BEHIND = 4 * GROUP  #: records that may follow their answers: behind so many an answer waits for its own


class Desk:
    """What the three loops share, and their life."""

    def __init__(self, stage: Stage, below: Stage, cache: Cache, *, scope: str, mode: str, shared: bool) -> None:
        self.stage = stage
        self.below = below
        self.cache = cache
        self.scope = scope
        self.offline = mode == "offline"
        self.repeats = mode == "repeat"
        self.shared = shared
        self.shelves = Shelves(fresh=mode == "refresh", shared=shared)
        self.memory = Memory()
        self.accounts = Accounts(cache.prices, scope, stage.tally)
        # No limit of their own: they hold no more than what callers wait for.
        self._orders, self._ordered = create_memory_object_stream[list[Ticket]](math.inf)
        self._returns, self._returned = create_memory_object_stream[Purchase | Claim | Rejection](math.inf)
        self._jobs, self._to_do = create_memory_object_stream[tuple[Job, tuple[Any, ...]]](math.inf)
        self._outstanding = 0  # purchases, claims and jobs that have yet to come to their end
        self._on_order = 0  # the purchases among them that have not come back
        self._draining = False
        self._intake: Intake | None = None
        self.idle = False  # intake waits for work, and nothing is in line: what comes may be dealt by whoever asks

    async def serve(self, inbox: Inbox) -> None:
        """Answer everything in *inbox*, until it ends and nothing is on order any more."""
        from ._collecting import Collecting
        from ._intake import Intake

        collecting = self._collecting = Collecting(self)
        with self._orders, self._ordered, self._returns, self._returned, self._jobs, self._to_do:
            try:
                async with create_task_group() as tasks:
                    tasks.start_soon(self._order)
                    tasks.start_soon(self._collect, collecting)
                    tasks.start_soon(self._work, tasks)
                    intake = self._intake = Intake(self)
                    self.idle = not in_line(inbox)
                    async for tickets in inbox:
                        await intake.deal(all_waiting(tickets, inbox))
                        self.idle = not in_line(inbox)
                    self.idle = False
                    self._draining = True
                    self._close_if_idle()
                await collecting.finish()
            finally:
                collecting.end(self._left())

    def deal_at_once(self, tickets: list[Ticket]) -> bool:
        """Answer or order what *tickets* ask, if the cache is quick; only while intake is idle."""
        return self.idle and self._intake is not None and self._intake.deal_at_once(tickets)

    @property
    def unfinished(self) -> bool:
        """Whether anything is being bought or stored."""
        return self._outstanding > 0

    @property
    def quiet(self) -> bool:
        """Whether all that is unfinished is with the stage below."""
        return self._outstanding == self._on_order and not self._orders.statistics().current_buffer_used

    def later(self, job: Job, *args: Any) -> None:
        """Run *job* in a task of its own. No await, nor does it need to be called from a task."""
        self._outstanding += 1
        self._jobs.send_nowait((job, args))

    def purchase(self, buyers: list[Claim], positions: list[int]) -> None:
        """Ask the stage below for *positions*, on behalf of *buyers*."""
        self._outstanding += 1
        self._on_order += 1
        self._orders.send_nowait([Purchase(buyers, buyers[0].shelf, positions, self._take)])

    def deliver(self, claim: Claim) -> None:
        """Answer a claim that has all its samples, once the cache knows who got them."""
        if claim.on_its_way:
            return
        unrecorded = claim.records()
        if self.offline or not unrecorded:
            self._answer(claim)
            if not unrecorded:  # offline, nothing but the shelf and the drawer would know of it
                claim.fold()
            return
        claim.on_its_way = True
        behind = self._returned.statistics().current_buffer_used
        if claim.label is None and behind < MOST_BEHIND:  # found again by its order of arrival: the record may follow
            self._answer(claim)
        self._outstanding += 1
        self._returns.send_nowait(claim)

    def _answer(self, claim: Claim) -> None:
        accounts = self.accounts
        accounts.of(claim.namespace, claim.ticket.prompt).answered(claim)
        claim.answer()  # after it is counted: the caller may be another thread, and look at once
        if accounts.full:
            entries = accounts.close()
            if not self.offline:
                self.later(self._collecting.keeping.enter, entries)

    def reject(self, rejection: Rejection) -> None:
        """Store *rejection*, behind the records of all that was answered before."""
        try:
            self._returns.send_nowait(rejection)
        except ClosedResourceError:
            rejection.settle((), CacheError("the stack has ended; reject it in a new run"))
        else:
            self._outstanding += 1

    def deal_again(self, claim: Claim) -> None:
        """Another process was first at one of the positions of *claim*."""
        claim.release()
        assert self._intake is not None
        self.later(self._intake.deal_again, claim.ticket)

    def _take(self, purchase: Purchase) -> None:
        """A purchase has come back."""
        self._on_order -= 1
        try:
            self._returns.send_nowait(purchase)
        except ClosedResourceError:
            self._collecting.store_late(purchase)

    async def _work(self, tasks: TaskGroup) -> None:
        async for job, args in self._to_do:
            tasks.start_soon(self._do, job, args)

    async def _do(self, job: Job, args: tuple[Any, ...]) -> None:
        await job(*args)
        self._outstanding -= 1
        self._close_if_idle()

    async def _order(self) -> None:
        async for purchases in self._ordered:
            await self.below.submit(all_waiting(purchases, self._ordered))

    async def _collect(self, collecting: Collecting) -> None:
        async for first in self._returned:
            returns: list[Purchase | Claim | Rejection] = [first]
            while len(returns) < GROUP and self._returned.statistics().current_buffer_used:
                returns.append(self._returned.receive_nowait())
            await collecting.settle(returns)
            self._outstanding -= len(returns)
            self._close_if_idle()

    def _left(self) -> list[Purchase | Claim | Rejection]:
        """What has come back and was not collected, since the stage was cut off."""
        return [self._returned.receive_nowait() for _ in range(self._returned.statistics().current_buffer_used)]

    def _close_if_idle(self) -> None:
        if self._draining and not self._outstanding:
            self._orders.close()
            self._returns.close()
            self._jobs.close()


def in_line(inbox: Inbox) -> bool:
    """Whether anything is in *inbox*, or waits for room in it."""
    statistics = inbox.statistics()
    return statistics.current_buffer_used > 0 or statistics.tasks_waiting_send > 0


def all_waiting(tickets: Tickets, inbox: MemoryObjectReceiveStream[list[Ticket]]) -> Tickets:
    """*tickets*, and what else is in *inbox* by now, up to a group."""
    try:
        while len(tickets) < GROUP:
            tickets = tickets + inbox.receive_nowait()
    except (WouldBlock, EndOfStream):
        pass
    return tickets
