"""What all stages share: an inbox, a task group, a life, and the door `request(...)`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
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
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._errors import Closed, StageCrashed
from ._labels import current_namespace, current_request_id
from ._prompt import Prompt
from ._request import Request, Response, Sample
from ._stats import Stats, Tally, total
from ._streaming import Mapping, Source
from ._ticket import Draw, Ticket

Tickets = list[Ticket]
Listener = Callable[[Ticket], None]
Inbox = MemoryObjectReceiveStream[Tickets]

INBOX_SIZE = 64  #: lists of tickets that may wait in front of a stage


class Stage(AsyncContextManagerMixin, ABC):
    """One layer of a stack: a task group that reads lists of tickets and answers them.

    A stage of your own implements `run(inbox)` and passes on to `self.below`
    what it does not answer itself. *below* is a stage, or any model.
    """

    grace = 5.0  #: seconds that a stopped stage may take to put things in order

    def __init__(self, below: Any = None) -> None:
        self.below: Stage | None = None if below is None else as_stage(below)
        self.owed: set[Ticket] = set()  # tickets that this stage has yet to answer or pass on
        self.tally = Tally()
        self._feed: MemoryObjectSendStream[Tickets] | None = None
        self._scope: CancelScope | None = None

    @abstractmethod
    async def run(self, inbox: Inbox) -> None:
        """Serve the lists of tickets in *inbox* until it ends."""

    # The door

    async def request(
        self, prompt: Any, n: int = 1, namespace: str | None = None, request_id: str | None = None
    ) -> Response:
        """Ask for *n* samples of *prompt*; labels default to those of the context.

        Raises the model's own error, `Closed` outside the block, and TypeError or
        ValueError for bad input, before anything is sent.
        """
        request = Request(
            prompt,
            n,
            current_namespace() if namespace is None else namespace,
            current_request_id() if request_id is None else request_id,
        )
        ticket = self.ticket(request)
        try:
            await self.submit([ticket])
            draws = await ticket.result()
        except BaseException:
            ticket.leave()
            raise
        return respond(request, draws)

    async def batch_request(self, requests: Iterable[Request]) -> list[Response]:
        """Ask all *requests* at once; answers in their order.

        When one fails, the error of the first that did is raised after all have
        ended; what the others bought is in the cache, and theirs again when asked.
        """
        asked = [as_request(request) for request in requests]
        tickets = [self.ticket(request) for request in asked]
        try:
            await self.submit(tickets)
            for ticket in tickets:
                await ticket.settlement()
            return [respond(request, await ticket.result()) for request, ticket in zip(asked, tickets, strict=True)]
        except BaseException:
            for ticket in tickets:
                ticket.leave()
            raise

    def map(self, source: Source, *, window: int = 256, ordered: bool = True) -> Mapping:
        """Ask everything in *source*, at most *window* at a time; an async context manager of responses.

        *source* is an iterable, an async iterable or a receive stream, of prompts
        or Requests. A request's id defaults to its number. In order of the source,
        or, not *ordered*, as the answers come.
        """
        return Mapping(self, source, window=window, ordered=ordered)

    async def process(
        self,
        requests: MemoryObjectReceiveStream[Any],
        responses: MemoryObjectSendStream[Response],
        *,
        window: int = 256,
        ordered: bool = True,
    ) -> None:
        """Pump from one stream of prompts or Requests to one of responses; closes both at the end."""
        async with requests, responses, self.map(requests, window=window, ordered=ordered) as answers:
            async for answer in answers:
                await responses.send(answer)

    @property
    def stats(self) -> Stats:
        """What this stage and those below did since they were entered."""
        return total([stage.tally for stage in self._stages()])

    def ticket(self, request: Request, listener: Listener | None = None) -> Ticket:
        """A new ticket at this door. Raises TypeError or ValueError for a prompt that is no JSON."""
        ticket = Doored(request, self.tally, listener)
        self.tally.requests += 1
        self.tally.asked += request.n
        return ticket

    # From stage to stage

    async def submit(self, tickets: Tickets) -> None:
        """Hand *tickets* over to this stage, or fail every one of them. Never raises an Exception."""
        for ticket in tickets:
            if ticket.owner is not None:
                ticket.owner.owed.discard(ticket)
            ticket.owner = self
        self.owed.update(tickets)
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

    def abort(self) -> None:
        """Stop buying. What the model has returned still travels up and is kept."""
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, current_time() + self.grace)
        if self.below is not None:
            self.below.abort()

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

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        if self.running:
            raise RuntimeError(f"{type(self).__name__} is already running; enter a stage once at a time")
        if self.below is None or self.below.running:
            async with self._life():
                yield self
        else:
            async with self.below, self._life():
                yield self

    @asynccontextmanager
    async def _life(self) -> AsyncGenerator[None]:
        self.tally = Tally()
        error: BaseException | None = None
        try:
            async with create_task_group() as tasks:
                self._feed, inbox = create_memory_object_stream[Tickets](INBOX_SIZE)
                finished = Event()
                tasks.start_soon(self._serve, inbox, finished)
                try:
                    yield
                    self._feed.close()
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
        finally:
            self._feed = None
        if error is not None:
            try:
                raise error
            finally:
                del error

    async def _serve(self, inbox: Inbox, finished: Event) -> None:
        # Shielded: only leaving the `async with` block ends a stage, so that
        # what has been paid for is stored whoever was cancelled.
        with CancelScope(shield=True) as self._scope:
            try:
                with inbox:
                    await self.run(inbox)
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

    def _stages(self) -> list[Stage]:
        return [self] if self.below is None else [self, *self.below._stages()]


class Doored(Ticket):
    """A ticket that a caller waits for; counts its failure at the door it came through."""

    __slots__ = ("_listener", "_tally")

    def __init__(self, request: Request, tally: Tally, listener: Listener | None) -> None:
        super().__init__(Prompt(request.prompt), request.n, request.namespace, request.request_id)
        self._tally = tally
        self._listener = listener

    def settled(self) -> None:
        if self.error is not None and self.wanted:
            self._tally.failed += 1
        if self._listener is not None:
            self._listener(self)
        super().settled()


def as_stage(model: Any) -> Stage:
    """*model* itself if it is a stage, else a Dispatcher over it. Raises TypeError if it is no model."""
    from ._dispatcher import Dispatcher

    return model if isinstance(model, Stage) else Dispatcher(model)


def as_request(item: Any) -> Request:
    """*item* if it is a Request, else a Request for it as a prompt."""
    return item if isinstance(item, Request) else Request(item)


def respond(request: Request, draws: Sequence[Draw]) -> Response:
    """The caller's own copies of *draws*."""
    return Response(
        request,
        tuple(
            Sample(draw.value, draw.position, draw.cached, draw.duplicated, draw.answer.usage, draw.answer.seconds)
            for draw in draws
        ),
    )
