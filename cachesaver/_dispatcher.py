"""Dispatcher: the bottom of every stack, and the only place where money is spent."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, cast

from anyio import CancelScope, create_task_group, current_time, get_cancelled_exc_class

from ._errors import Closed, ModelError
from ._limits._limiter import RoundRobinLimiter
from ._limits._pushback import Fate, read
from ._limits._resource import Resource
from ._model import ModelCall
from ._prompt import encode
from ._records import Answer
from ._stage import Inbox, Stage, Tickets
from ._stats import tokens_paid
from ._ticket import ABANDONED, Abandoned, Draw, Ticket, own_error, still_wanted
from ._usage import usage_of

STOPPED = "the stack was stopped before the model had answered; ask again in a new run"


class Dispatcher(Stage):
    """Calls a model, one task a call, with a resource of *limiter* for each call; asks again as the limiter says.

    The model is any object with `request(prompt)` or `batch_request(prompts)`, or a
    function of a prompt; sync or async. It gets `n`, `namespace`, `request_id` and
    `resource` where its signature has them.
    """

    def __init__(self, model: Any, limiter: AbstractAsyncContextManager[Any] | None = None) -> None:
        super().__init__()
        self.model = model
        self.limiter = limiter
        self._model = ModelCall(model)
        self._calls: CancelScope | None = None

    @property
    def scope(self) -> str:
        return self._model.scope

    @property
    def takes_prompts(self) -> bool:
        return self._model.takes_prompts

    @property
    def resting(self) -> dict[str, float]:
        return self.limiter.resting if isinstance(self.limiter, RoundRobinLimiter) else {}

    def abort(self) -> None:
        super().abort()
        if self._calls is not None:
            self._calls.cancel()

    async def run(self, inbox: Inbox) -> None:
        async with create_task_group() as tasks:
            self._calls = tasks.cancel_scope
            async for tickets in inbox:
                wanted = still_wanted(tickets)
                if self._model.takes_prompts and wanted:
                    tasks.start_soon(self._batch, wanted)
                elif not self._model.takes_prompts:
                    for ticket in wanted:
                        tasks.start_soon(self._serve_one, ticket)

    async def _serve_one(self, ticket: Ticket) -> None:
        bought: list[Draw] = []  # what the model has returned counts, whatever happens next
        try:
            if ticket.n == 1 or (self._model.takes_n and not ticket.prompt.single):
                await self._top_up(ticket, bought)
            else:
                errors: list[Exception] = []
                async with create_task_group() as calls:
                    for _ in range(ticket.n):
                        calls.start_soon(self._side_by_side, ticket, bought, errors)
                if errors:
                    raise errors[0]
        except Exception as error:
            ticket.answer(bought, error)
        except BaseException:
            ticket.answer(bought, Closed(STOPPED))
            raise
        else:
            ticket.answer(bought)

    async def _side_by_side(self, ticket: Ticket, bought: list[Draw], errors: list[Exception]) -> None:
        try:
            await self._call(ticket, 1, bought)
        except Exception as error:
            errors.append(error)

    async def _top_up(self, ticket: Ticket, bought: list[Draw]) -> None:
        """Call until there are n samples: a model may return fewer than it was asked for."""
        while len(bought) < ticket.n:
            before = len(bought)
            await self._call(ticket, ticket.n - before, bought)
            if len(bought) == before:
                raise ModelError(f"the model was asked for {ticket.n - before} answers and returned none", [])

    async def _call(self, ticket: Ticket, n: int, bought: list[Draw]) -> None:
        async def call(resource: Any) -> None:
            if not ticket.wanted:  # they left while it waited for its turn
                unused(resource)
                raise Abandoned(ABANDONED)
            start = current_time()
            labels = {"namespace": ticket.namespace, "request_id": ticket.request_id, "resource": resource}
            labels["origin"] = ticket.prompt.origin
            with self._counted(start):
                answers = await self._model.one(ticket.prompt.fresh(), n, **labels)
                # No await from here to the end: a sample that has arrived is not lost.
                if len(answers) > n:
                    raise ModelError(f"the model was asked for {n} answers and returned {len(answers)}", answers)
                self._take(answers, current_time() - start, bought)
                charge(resource, bought[len(bought) - len(answers) :])

        await self._lent(call, [ticket], n)

    async def _batch(self, tickets: Tickets) -> None:
        """One call for the whole list: n samples of a prompt are n prompts."""

        async def call(resource: Any) -> None:
            wanted = still_wanted(tickets)  # some left while it waited for its turn
            if not wanted:
                unused(resource)
                return
            prompts = [ticket.prompt.fresh() for ticket in wanted for _ in range(ticket.n)]
            start = current_time()
            with self._counted(start):
                answers = await self._model.many(prompts, resource=resource)
                self._deal(wanted, answers, current_time() - start, resource)

        try:
            await self._lent(call, tickets, 1)
        except Exception as error:
            for ticket in tickets:
                ticket.fail(own_error(error) or error)
        except BaseException:
            for ticket in tickets:
                ticket.fail(Closed(STOPPED))
            raise

    def _deal(self, tickets: Tickets, answers: list[Any], seconds: float, resource: Any) -> None:
        start = 0
        sold: list[Draw] = []
        for ticket in tickets:
            mine = answers[start : start + ticket.n]
            start += ticket.n
            bought: list[Draw] = []
            error: Exception | None = None
            for answer in mine:
                if isinstance(answer, Exception):
                    error = error or answer
                    continue
                try:
                    self._take([answer], seconds / len(answers), bought)
                except Exception as failure:
                    error = error or failure
            sold += bought
            ticket.answer(bought, error)
        charge(resource, sold)

    def _take(self, answers: Sequence[Any], seconds: float, bought: list[Draw]) -> None:
        for rank, value in enumerate(answers):
            try:
                body = encode(value, "an answer")
            except (TypeError, ValueError) as error:
                raise ModelError(
                    f"{error}; return plain JSON, for instance answer.model_dump(mode='json')", answers
                ) from None
            answer = Answer(body, seconds / len(answers), usage_of(value))
            self.tally.buy(answer, rank)
            bought.append(Draw(answer, rank=rank))

    @contextmanager
    def _counted(self, start: float) -> Generator[None]:
        try:
            yield
        except Exception as error:
            self.tally.errors += 1
            fate = read(error).fate
            self.tally.refused += fate is Fate.REFUSED
            self.tally.maybe_billed += fate is Fate.MAYBE_BILLED
            raise
        except get_cancelled_exc_class() as cancelled:
            if self._stopped:
                raise
            # Somebody cancelled a task of asyncio that the model waited for: that is its failure, not our end.
            self.tally.errors += 1
            raise ModelError("the model ended in a cancellation of its own; ask again") from cancelled
        finally:
            self.tally.spent(current_time() - start)

    @property
    def _stopped(self) -> bool:
        return any(scope is not None and scope.cancel_called for scope in (self._calls, self._scope))

    async def _lent(self, call: Callable[[Any], Awaitable[None]], tickets: Sequence[Ticket], n: int) -> None:
        """Have *call* ask for *n* samples of each of *tickets*, with a resource where there is a limiter."""
        if self.limiter is None:
            await call(None)
        elif not isinstance(self.limiter, RoundRobinLimiter):
            async with self.limiter as resource:
                await call(resource)
        else:
            first = tickets[0]
            prompt = first.prompt.fresh() if len(tickets) == 1 else [ticket.prompt.fresh() for ticket in tickets]
            n *= sum(ticket.n for ticket in tickets) if self.takes_prompts else 1
            turn = self.limiter.request(
                prompt, n, namespace=first.namespace, model=model_of(prompt, first.prompt.scope)
            )
            await turn.call(call, resendable=lambda: not any(ticket.shown for ticket in tickets))


def model_of(prompt: Any, scope: str | None) -> str | None:
    """The name of the model that *prompt* asks; Gemini's and Hugging Face's is in the path."""
    named = cast("dict[str, Any]", prompt).get("model") if isinstance(prompt, dict) else None
    if isinstance(named, str):
        return named
    found = re.search(r"/models/([^:?]+)", scope or "")
    return found and found[1]


def charge(resource: Any, bought: Sequence[Draw]) -> None:
    """Tell *resource*, if it is one of ours, the tokens that *bought* has cost, where they are known."""
    if isinstance(resource, Resource) and any(draw.answer.usage for draw in bought):
        used = sum(tokens_paid(draw.answer, draw.rank) for draw in bought)
        resource.used(tokens=min(max(0, used), 10**9))  # whatever a server says


def unused(resource: Any) -> None:
    """Tell *resource*, if it is one of ours, that nothing was sent with it."""
    if isinstance(resource, Resource):
        resource.unused()
