"""`map`: a stream of responses to a stream of requests, with a window between them."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, aclosing, asynccontextmanager, nullcontext
from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, cast

from anyio import AsyncContextManagerMixin, Event, create_task_group, get_cancelled_exc_class
from anyio.lowlevel import checkpoint

from ._errors import Closed
from ._labels import current_request_id
from ._progress import Showing
from ._request import Request, Response, respond

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from ._door import Door
    from ._ticket import Ticket

Source = Iterable[Any] | AsyncIterable[Any]


class Mapping(AsyncContextManagerMixin):
    """What `map` returns: enter it, then iterate over the responses.

    A failed request raises its own error when its turn comes; iterating on goes on
    with the next one. An error of the source comes after everything asked before it.
    """

    def __init__(self, door: Door, source: Source, *, window: int, ordered: bool, progress: bool | str = False) -> None:
        if type(window) is not int or window < 1:
            raise ValueError(f"window must be an integer of at least 1, not {window!r}")
        self._door = door
        self._source = source
        self._window = window
        self._ordered = ordered
        self._progress = progress

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Responses]:
        responses = Responses(self._door, self._window, ordered=self._ordered)
        error: BaseException | None = None
        try:
            async with create_task_group() as tasks:
                tasks.start_soon(responses.feed, self._source)
                try:
                    with self._shown(responses, tasks):
                        yield responses
                except get_cancelled_exc_class():
                    raise
                except BaseException as raised:
                    error = raised  # held back, so that it does not arrive in a group
                finally:
                    tasks.cancel_scope.cancel()
                    responses.leave()  # before the feed has ended: it may be in the middle of asking
        finally:
            responses.leave()  # and after: what it asked last
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _shown(self, responses: Responses, tasks: TaskGroup) -> AbstractContextManager[object]:
        if not self._progress:
            return nullcontext()
        name = self._progress if isinstance(self._progress, str) else ""
        total = length_hint(self._source, -1)
        return Showing(self._door, responses, tasks, name=name, total=None if total < 0 else total)


class Responses:
    """The responses of a `map`, an async iterator."""

    def __init__(self, door: Door, window: int, *, ordered: bool) -> None:
        self._door = door
        self._window = window
        self._ordered = ordered
        self._prefix = current_request_id()
        self.asked = 0
        self._open: dict[Ticket, Request] = {}  # asked and not yet handed out, in order of the source
        self._ready: deque[Ticket] = deque()  # answered and not yet handed out, in order of arrival
        self._exhausted = False
        self._error: Exception | None = None
        self._progress = Event()  # something was answered, or the source has ended
        self._room = Event()  # something was handed out

    def __aiter__(self) -> Responses:
        return self

    async def __anext__(self) -> Response:
        while True:
            ticket = self._next()
            if ticket is not None:
                break
            if self._exhausted and not self._open:
                if self._error is not None:
                    error, self._error = self._error, None
                    raise error
                raise StopAsyncIteration
            if self._progress.is_set():
                self._progress = Event()
            await self._progress.wait()
        request = self._open.pop(ticket)
        self._room.set()
        try:
            response = respond(request, ticket)
            ticket.taken()
            return response
        except BaseException:
            ticket.leave()
            raise

    @property
    def in_flight(self) -> int:
        """How many were asked and are not answered."""
        return sum(not ticket.answered for ticket in self._open)

    def arrived(self, ticket: Ticket) -> None:
        """A ticket of ours has been answered."""
        self._ready.append(ticket)
        self._progress.set()

    async def feed(self, source: Source) -> None:
        """Ask what *source* gives, as long as there is room in the window."""
        try:
            if isinstance(source, AsyncIterable):
                await self._feed_async(aiter(source))
            else:
                await self._feed_sync(iter(source))
        except Exception as error:
            self._end(error)
        else:  # and not if it is cancelled: what is cut off must not look like the end
            self._end(None)

    def leave(self) -> None:
        """Nobody takes the rest: give back what was put aside for it."""
        for ticket in self._open:
            ticket.leave()
        self._open.clear()
        self._end(Closed("the block of this map was left before its responses were taken"))

    def _end(self, error: Exception | None) -> None:
        self._exhausted = True
        self._error = error
        self._progress.set()

    def _next(self) -> Ticket | None:
        if not self._ordered:
            return self._ready.popleft() if self._ready else None
        first = next(iter(self._open), None)
        if first is None or not first.answered:
            return None
        self._ready.clear()
        return first

    async def _feed_sync(self, source: Iterator[Any]) -> None:
        while True:
            room = await self._wait_for_room()
            tickets: list[Ticket] = []
            try:
                for item in islice(source, room):
                    tickets.append(self._ticket(item))  # noqa: PERF401 (what came before an error counts)
            finally:  # what came before an error of the source is asked all the same
                if tickets:
                    await self._door.submit(tickets)
            if len(tickets) < room:
                return
            await checkpoint()

    async def _feed_async(self, source: AsyncIterator[Any]) -> None:
        async with AsyncExitStack() as stack:
            if isinstance(source, AsyncGenerator):  # nobody else would end it, where the map is left early
                await stack.enter_async_context(aclosing(cast("AsyncGenerator[Any]", source)))
            async for item in source:
                await self._door.submit([self._ticket(item)])
                await self._wait_for_room()

    async def _wait_for_room(self) -> int:
        while len(self._open) >= self._window:
            self._room = Event()
            await self._room.wait()
        return self._window - len(self._open)

    def _ticket(self, item: Any) -> Ticket:
        named = isinstance(item, Request) and item.request_id is not None
        request = item if named else self._numbered(item)
        ticket = self._door.ticket(request, self.arrived)
        if not named:  # the number is for people: when a source gains or loses an item, those behind it have others
            ticket.label = self._prefix
        self._open[ticket] = request
        self.asked += 1
        return ticket

    def _numbered(self, item: Any) -> Request:
        name = str(self.asked) if self._prefix is None else f"{self._prefix}/{self.asked}"
        if isinstance(item, Request):
            return Request(item.prompt, item.n, item.namespace, name)
        return Request(item, request_id=name)
