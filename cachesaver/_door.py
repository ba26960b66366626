"""The door of every stage: `request`, `batch_request`, `map` and `process`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ._labels import current_namespace, current_request_id
from ._prompt import as_prompt
from ._request import Asking, Request, Response, as_request, respond
from ._stats import Stats, Tally
from ._streaming import Mapping, Source
from ._ticket import Ticket

Listener = Callable[[Ticket], None]


class Door(ABC):
    """Turns what a caller asks into tickets, and their samples into responses."""

    def __init__(self) -> None:
        self.tally = Tally()

    @property
    @abstractmethod
    def stats(self) -> Stats:
        """What was done behind this door since it was entered."""

    @property
    @abstractmethod
    def resting(self) -> dict[str, float]:
        """The resources behind it that rest, and for how many seconds."""

    @abstractmethod
    async def submit(self, tickets: list[Ticket]) -> None:
        """Take *tickets* over, or fail every one of them. Never raises an Exception."""

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
            await ticket.settlement()
            response = respond(request, ticket)
            ticket.taken()
            return response
        except BaseException:
            ticket.leave()
            raise

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
            responses = [respond(request, ticket) for request, ticket in zip(asked, tickets, strict=True)]
            for ticket in tickets:
                ticket.taken()
            return responses
        except BaseException:
            for ticket in tickets:
                ticket.leave()
            raise

    def map(self, source: Source, *, window: int = 256, ordered: bool = True, progress: bool | str = False) -> Mapping:
        """Ask everything in *source*, at most *window* at a time; an async context manager of responses.

        *source* is an iterable, an async iterable or a receive stream, of prompts
        or Requests. In order of the source, or, not *ordered*, as the answers come.
        A request without an id is told by its number, and which sample it gets
        depends on the order in the source only among equal prompts, as without ids.

        With *progress*, True or a description, stderr shows how far it is and what it cost: live on a
        terminal and in a notebook, else a line every ten seconds and one at the end.
        """
        return Mapping(self, source, window=window, ordered=ordered, progress=progress)

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

    def ticket(self, request: Asking, listener: Listener | None = None) -> Ticket:
        """A new ticket at this door. Raises TypeError or ValueError for a prompt that is no JSON."""
        ticket = Doored(request, self.tally, listener)
        self.tally.requests += 1
        self.tally.asked += request.n
        return ticket


class Doored(Ticket):
    """A ticket that a caller waits for; counts its failure at the door it came through."""

    __slots__ = ("_listener", "_tally")

    def __init__(self, request: Asking, tally: Tally, listener: Listener | None) -> None:
        super().__init__(as_prompt(request.prompt), request.n, request.namespace, request.request_id)
        self._tally = tally
        self._listener = listener

    def settled(self) -> None:
        if self.error is not None and self.wanted:
            self._tally.failed += 1
        if self._listener is not None:
            self._listener(self)
