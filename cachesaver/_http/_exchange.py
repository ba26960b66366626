"""Exchange: one HTTP request on its way through a stack, from the caller's thread or loop to the stack's and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .._door import Door
from .._ticket import Ticket
from ._endpoint import Question
from ._family import family_of
from ._frames import Frame
from ._pipe import Pipe

Headers = list[tuple[str, str]]


class Refused(Exception):
    """What the server said instead of an answer; the caller gets it as it came, and nothing is stored.

    It is *final* where a limiter asks again, or not: then the SDK shall not.
    """

    final = False

    def __init__(self, status: int, headers: Headers, content: bytes) -> None:
        super().__init__(f"the server answered with status {status}")
        self.status = status
        self.headers = headers
        self.content = content


class Exchange:
    """What came in, what it asks, and what has come of it.

    It is *ready* when its answer is there or, for a stream that is bought, when the
    first piece is. What a caller has seen a piece of counts as given to it.
    """

    def __init__(self, request: Any, question: Question, namespace: str, request_id: str | None) -> None:
        self.http = request
        self.family = family_of(request)
        self.question = question
        self.pipe: Pipe | None = None
        self.headers: Headers = []  # of a stream that is bought
        self.prompt = question.prompt.come_in(self)
        self.n = question.n
        self.namespace = namespace
        self.request_id = request_id
        self._ticket: Ticket | None = None
        self._held: list[Frame] = []
        self._left = False
        self.refusal: Exception | None = None  # it never came to a stack
        self.when_ready: Callable[[], None] = _nothing

    @property
    def ticket(self) -> Ticket:
        """The request inside the stack."""
        assert self._ticket is not None
        return self._ticket

    def open(self, door: Door) -> Ticket:
        """A ticket for it at *door*."""
        self._ticket = door.ticket(self, self._settled)
        return self._ticket

    def refuse(self, error: Exception) -> None:
        """No stack will take it."""
        self.refusal = error
        self.when_ready()

    def taken(self) -> None:
        """The caller has its answer, whole: what knows this exchange lets go of it."""
        self.ticket.taken()
        self._ticket = None
        del self.prompt

    def leave(self) -> None:
        """The caller went away before it saw anything."""
        self._left = True
        if self.pipe is not None:  # the first piece came, and nobody took it
            self.pipe.close()
            self.ticket.shown = False
        if self._ticket is not None:
            self._ticket.leave()

    # From the model's side

    def streams(self, n: int) -> bool:
        """Whether a call for *n* samples is all that this exchange waits for, and may be seen as it arrives."""
        if self._ticket is None:  # the answer was taken
            return False
        claim: Any = self._ticket.claim
        missing = self.n if claim is None else claim.missing
        waits = not self._left and not self._ticket.answered
        return self.question.stream and self.pipe is None and waits and n == missing == self.n

    def start(self, headers: Headers) -> None:
        """The first piece is there."""
        self.pipe = Pipe()
        self.headers = headers
        self.ticket.shown = True
        self.when_ready()

    def show(self, frames: Sequence[Frame], *, final: bool) -> None:
        """Hand on pieces; those that end the answer only once it is stored (D1), or given up (S14)."""
        assert self.pipe is not None
        if final:
            self._held += frames
        elif frames:
            self.pipe.put(b"".join(map(self.question.dialect.frames.write, frames)))

    def _settled(self, ticket: Ticket) -> None:
        if self.pipe is None:
            self.when_ready()
            return
        told = isinstance(ticket.error, Refused)  # by the server, in the stream like the rest
        if ticket.error is None or told:
            self.show(self._held, final=False)
        self.pipe.end(None if told else ticket.error)


def _nothing() -> None:
    pass
