"""What all stages share: an inbox, a task group, and a life; the door is in `_door`."""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

from anyio import (
    AsyncContextManagerMixin,
    BrokenResourceError,
    CancelScope,
    ClosedResourceError,
    Event,
    WouldBlock,
    create_memory_object_stream,
    create_task_group,
    current_time,
    get_cancelled_exc_class,
)
from anyio.lowlevel import EventLoopToken, current_token
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._door import Door
from ._errors import CacheSaverWarning, Closed, StageCrashed
from ._request import REJECTED, Response
from ._stats import Stats, Tally, total
from ._ticket import Ticket

Tickets = list[Ticket]
Inbox = MemoryObjectReceiveStream[Tickets]  #: what `run` reads: a stream of lists of tickets

INBOX_SIZE = 64  #: lists of tickets that may wait in front of a stage


class Stage(AsyncContextManagerMixin, Door):
    """One layer of a stack: a task group that reads lists of tickets and answers them.

    A stage of your own implements `run(inbox)` and passes on to `self.below`
    what it does not answer itself. *below* is a stage, or any model.
    """

    grace = 5.0  #: seconds that a stopped stage may take to put things in order

    def __init__(self, below: Any = None) -> None:
        super().__init__()
        self.below: Stage | None = None if below is None else as_stage(below)
        self.above: Stage | None = None  # the stage that has entered this one, if any: then nobody else asks it
        self.notices: list[str] = []  # what whoever entered the stage is told when it ends
        self.owed: set[Ticket] = set()  # tickets that this stage has yet to answer or pass on
        self.loop: EventLoopToken | None = None  # the event loop that it runs in, while it runs
        self._feed: MemoryObjectSendStream[Tickets] | None = None
        self._scope: CancelScope | None = None
        self._entered_below = False

    @abstractmethod
    async def run(self, inbox: Inbox) -> None:
        """Serve the lists of tickets in *inbox* until it ends."""

    @property
    def stats(self) -> Stats:
        """What this stage and those below did since they were entered."""
        return total([stage.tally for stage in self.stages])

    @property
    def resting(self) -> dict[str, float]:
        """The limiter's resources that rest, and for how many seconds; none where there is no limiter."""
        return {} if self.below is None else self.below.resting

    async def reject(self, response: Response, reason: str = REJECTED, *, which: Sequence[int] | None = None) -> None:
        """Mark the samples of *response*, or those at the indices in *which*, so that nobody gets them any more.

        Whoever asks for them again draws anew: the same request, repeated in this run, gets new samples in
        their place, and so does every later run. What was recorded stays in the file, with the *reason*, and
        other positions stay where they are. Raises `CacheError` if it could not be stored, ValueError for samples that
        are in no cache.
        """
        if self.below is None:
            raise ValueError("there is no Cacher in this stack, so there is nothing to reject")
        await self.below.reject(response, reason, which=which)

    # From stage to stage

    async def submit(self, tickets: Tickets) -> None:
        """Hand *tickets* over to this stage, or fail every one of them. Never raises an Exception."""
        self.take_over(tickets)
        try:
            if self._feed is None:
                raise ClosedResourceError
            try:
                self._feed.send_nowait(tickets)
            except WouldBlock:
                with self._feed.clone() as feed:  # keeps the inbox open until this list is in
                    await feed.send(tickets)
        except (BrokenResourceError, ClosedResourceError):
            self._fail(tickets, self._closed())

    def take_over(self, tickets: Tickets) -> None:
        """This stage owes *tickets* from here on, and whoever did so far does not."""
        owners: set[Stage] = set()
        for ticket in tickets:
            if ticket.owner is not None and ticket.owner is not self:
                owners.add(ticket.owner)
            ticket.owner = self
        self.owed.update(tickets)
        for owner in owners:
            owner.owed.difference_update(tickets)
            owner.all_answered()

    def let_go(self, ticket: Ticket) -> None:
        """*ticket* was answered or passed on: this stage owes it no more."""
        self.owed.discard(ticket)
        self.all_answered()

    def all_answered(self) -> None:
        """The stages below owe nothing any more; told to whoever waits for that above."""
        if not self.owed and self.above is not None:
            self.above.all_answered()

    def abort(self) -> None:
        """Stop buying. What the model has returned still travels up and is kept."""
        shared = self.below is not None and not self._entered_below  # it goes on, and what it owes us may come late
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, current_time() + (0 if shared else self.grace))
        if self.below is not None and not shared:
            self.below.abort()

    def hurry(self) -> None:
        """Nothing more will come: no stage below need wait for it."""
        if self.below is not None and self._entered_below:
            self.below.hurry()

    # Its life

    @property
    def scope(self) -> str:
        """What names the model below in a cache."""
        if self.below is None:
            return f"{type(self).__module__}.{type(self).__qualname__}"
        return self.below.scope

    @property
    def takes_prompts(self) -> bool:
        """Whether tickets end in a model with `batch_request`, where each sample is one prompt."""
        return self.below is not None and self.below.takes_prompts

    @property
    def running(self) -> bool:
        """Whether the stage is inside its block."""
        return self._feed is not None

    @property
    def waits_for_work(self) -> bool:
        """Whether `run` waits at its inbox, and nothing is on its way to it."""
        return self._feed is not None and self._feed.statistics().tasks_waiting_receive > 0

    @property
    def quiet(self) -> bool:
        """Whether nothing that was asked is on its way down from here; what waits for the stage below is not."""
        return self.waits_for_work and (self.above is None or self.above.quiet)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        if self.running:
            raise RuntimeError(f"{type(self).__name__} is already running; enter a stage once at a time")
        self._entered_below = self.below is not None and not self.below.running
        if self.below is None or not self._entered_below:
            async with self._life():
                yield self
        else:
            async with self.below, self._life():
                self.below.above = self
                try:
                    yield self
                finally:
                    self.below.above = None

    @asynccontextmanager
    async def _life(self) -> AsyncGenerator[None]:
        self.tally = Tally()
        self.notices = []
        self.loop = current_token()
        error: BaseException | None = None
        try:
            async with create_task_group() as tasks:
                self._feed, inbox = create_memory_object_stream[Tickets](INBOX_SIZE)
                finished = Event()
                tasks.start_soon(self._serve, inbox, finished)
                try:
                    yield
                    self._feed.close()
                    self.hurry()
                    await finished.wait()  # drains: everything accepted is answered
                except get_cancelled_exc_class():
                    self.abort()
                    raise
                except BaseException as raised:
                    # Held back until the task group is closed: the caller
                    # shall see its own exception, not an ExceptionGroup.
                    error = raised
                    self.abort()
                finally:
                    self._feed.close()
        except BaseExceptionGroup as group:
            crash = StageCrashed(
                f"{type(self).__name__} failed inside; everything it had bought and stored is kept. "
                "This is a bug in the stage: please report it with the traceback above"
            )
            if error is not None:
                crash.add_note(f"the block itself raised {error!r}")
            raise crash from group
        except BaseException:  # cancelled, which no warning may replace
            with suppress(CacheSaverWarning):
                self._tell(None)
            raise
        finally:
            self._feed = self.loop = None
        try:
            self._tell(error)
        finally:
            del error

    def _tell(self, error: BaseException | None) -> None:
        """Raise the block's own *error*, with what else is to be told as its notes; without one, warn."""
        for notice in self.notices:
            if error is None:
                warnings.warn(notice, CacheSaverWarning, stacklevel=3)
            else:
                error.add_note(notice)
        if error is not None:
            raise error

    async def _serve(self, inbox: Inbox, finished: Event) -> None:
        # Shielded: only leaving the `async with` block ends a stage, so that
        # what has been paid for is stored whoever was cancelled.
        with CancelScope(shield=True) as self._scope:
            try:
                with inbox:
                    await self.run(inbox)
                    if self._scope.deadline == math.inf and inbox.statistics().open_send_streams:
                        raise RuntimeError(f"{type(self).__name__}.run returned before its inbox had ended")
            finally:
                self._fail(list(self.owed), self._closed())
                finished.set()

    def _fail(self, tickets: Sequence[Ticket], error: Closed) -> None:
        for ticket in tickets:
            if ticket.owner is self:
                ticket.fail(Closed(*error.args))

    def _closed(self) -> Closed:
        name = type(self).__name__
        if self._feed is None:
            return Closed(f"{name} is not running: ask inside `async with ... as api:`")
        return Closed(f"{name} was stopped before this request was answered; ask again in a new run")

    @property
    def stages(self) -> list[Stage]:
        """This one and those below."""
        return [self] if self.below is None else [self, *self.below.stages]


def as_stage(model: Any) -> Stage:
    """*model* itself if it is a stage, else a Dispatcher over it. Raises TypeError if it is no model."""
    from ._dispatcher import Dispatcher

    return model if isinstance(model, Stage) else Dispatcher(model)
