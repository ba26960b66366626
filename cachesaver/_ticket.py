"""A request on its way down a stack, and the place where its answer appears.

Answering is synchronous and the first answer wins. Exactly one stage owes the
answer at any time: `owner`, whose `owed` holds the ticket.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from anyio import Event

from ._errors import CacheCorrupt, CacheSaverError, Closed
from ._prompt import Prompt, decode, encode
from ._records import Answer
from ._usage import usage_of

if TYPE_CHECKING:
    from ._stage import Stage


ABANDONED = "every caller left, so nobody waits for this any more"


class Abandoned(CacheSaverError):
    """Every caller went away."""


class Draw(NamedTuple):
    """One sample on its way up. `rank` is its place among the samples of one model call."""

    answer: Answer
    position: int | None = None
    cached: bool = False
    duplicated: bool = False
    rank: int = 0

    @property
    def value(self) -> Any:
        """A copy of the model's answer."""
        try:
            return decode(self.answer.body)
        except ValueError as error:
            raise CacheCorrupt(f"a stored answer is not what cachesaver writes: {error}; it is not used") from None


class Claim(Protocol):
    """What a stage has put aside for a ticket, to be given back if nobody takes it."""

    ordinals: Sequence[int]
    positions: list[int]

    def release(self) -> None: ...


class Ticket:
    """What is asked for whom, until its samples or its error are there."""

    __slots__ = (
        "_arrived",
        "_asker",
        "_left",
        "_shown",
        "answered",
        "claim",
        "delegates",
        "draws",
        "error",
        "label",
        "n",
        "namespace",
        "notices",
        "owner",
        "prompt",
        "redraws",
        "request_id",
    )

    def __init__(
        self, prompt: Prompt, n: int, namespace: str, request_id: str | None, asker: Ticket | None = None
    ) -> None:
        self.prompt = prompt
        self.n = n
        self.namespace = namespace
        self.request_id = request_id
        self.label = request_id  # under which its draws are recorded
        self.redraws: Sequence[int] = ()  # ordinals that it had before, and whose samples were rejected
        self.owner: Stage | None = None
        self.claim: Claim | None = None
        self.delegates: tuple[Ticket, ...] = ()  # tickets that ask on behalf of this one, and go when it goes
        self.answered = False
        self.draws: Sequence[Draw] = ()
        self.error: Exception | None = None
        self.notices: tuple[str, ...] = ()  # what the caller is to be warned of
        self._asker = asker
        self._left = False
        self._shown = False
        self._arrived: Event | None = None

    @property
    def wanted(self) -> bool:
        """Whether somebody still waits for the answer."""
        return not self._left and (self._asker is None or self._asker.wanted)

    @property
    def shown(self) -> bool:
        """Whether the caller has seen a piece of what is being bought for it: that sample is its own now."""
        return self._shown or (self._asker is not None and self._asker.shown)

    @shown.setter
    def shown(self, shown: bool) -> None:
        self._shown = shown

    @property
    def parts(self) -> Sequence[Ticket]:
        """The callers' own tickets that this one stands for."""
        return (self,)

    def child(self, n: int | None = None) -> Ticket:
        """A new ticket for the same question, for a stage that asks on behalf of this one."""
        child = Ticket(self.prompt, n or self.n, self.namespace, self.request_id, self)
        child.label = self.label
        self.delegates += (child,)
        return child

    def caution(self, notice: str) -> None:
        """Have the caller warned, in its own code, where a filter may turn the warning into an error."""
        if self._asker is None:
            self.notices += (notice,)
        else:
            self._asker.caution(notice)

    def answer(self, draws: Sequence[Draw], error: Exception | None = None) -> None:
        """Give the samples; with an error, those that came before it."""
        if self.answered:
            return
        self.answered = True
        self.draws = draws
        self.error = error
        if self.owner is not None:
            self.owner.let_go(self)
        self.settled()
        if self._arrived is not None:
            self._arrived.set()

    def reply(self, values: Iterable[Any]) -> None:
        """Answer with values of a stage's own making; each must be JSON."""
        self.answer([Draw(Answer(encode(value, "an answer"), 0.0, usage_of(value))) for value in values])

    def fail(self, error: Exception) -> None:
        """Give the error; it becomes the caller's exception."""
        self.answer((), error)

    def settled(self) -> None:
        """What is to be done once the answer is there, before whoever waits for it is woken."""

    async def settlement(self) -> None:
        """Wait until the samples or the error are there."""
        # An answer that has arrived beats a cancellation that has arrived:
        # no checkpoint here once the samples are paid for.
        if not self.answered:
            if self._arrived is None:
                self._arrived = Event()
            await self._arrived.wait()

    async def result(self) -> Sequence[Draw]:
        """Wait for the samples. Raises the request's own error."""
        await self.settlement()
        if self.error is not None:
            raise self.error
        return self.draws

    def taken(self) -> None:
        """The caller has its samples, and gives none of them back."""
        self.claim, self.delegates = None, ()  # they know this ticket: what knows each other only a collector frees

    def leave(self) -> None:
        """Nobody takes the answer any more: what was put aside for it is given back."""
        self._left = True
        if self.owner is not None:  # where a cancelled `submit` has lost it, no stage would ever let it go
            self.owner.let_go(self)
        if self.claim is not None:
            self.claim.release()
        for delegate in self.delegates:
            if not delegate.wanted:
                delegate.leave()
                delegate.fail(Abandoned(ABANDONED))  # a stage waits for it


def still_wanted(tickets: Iterable[Ticket]) -> list[Ticket]:
    """Those of *tickets* that somebody waits for; the others are answered here, and cost nothing."""
    wanted: list[Ticket] = []
    for ticket in tickets:
        if ticket.wanted:
            wanted.append(ticket)
        else:
            ticket.fail(Abandoned(ABANDONED))
    return wanted


def disown(ticket: Ticket) -> None:
    """No stage owes *ticket* any more: another ticket answers for it."""
    if ticket.owner is not None:
        ticket.owner.let_go(ticket)
        ticket.owner = None


def own_error(error: Exception | None) -> Exception | None:
    """A copy of *error* for one caller: one object raised in many grows a traceback in each."""
    if error is None:
        return None
    try:
        twin = copy.copy(error)
    except Exception:  # some exceptions cannot be rebuilt from their arguments
        return error
    if type(twin) is not type(error) or str(twin) != str(error):
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    return twin.with_traceback(error.__traceback__)


@contextmanager
def answering(*tickets: Ticket) -> Generator[None]:
    """Turn whatever goes wrong inside the block into the answer of *tickets*."""
    try:
        yield
    except Exception as error:
        for ticket in tickets:
            ticket.fail(error if len(tickets) == 1 else own_error(error) or error)
    except BaseException:
        for ticket in tickets:
            ticket.fail(Closed("the stack was stopped before this request was answered; ask again in a new run"))
        raise
