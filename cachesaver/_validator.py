"""Validator: rejects samples that are no good, and draws again in their place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

from anyio import create_memory_object_stream, create_task_group
from anyio.streams.memory import MemoryObjectReceiveStream

from ._errors import Unacceptable
from ._request import Request, Response, Sample
from ._stage import Inbox, Stage
from ._ticket import Draw, Ticket, answering

Check = Callable[[Any], str | None]


class Validator(Stage):
    """Shows each answer to *check*, and draws again for those that it finds fault with.

    *check* returns None for a good answer and the reason for a bad one; `unfinished` is such a function.
    A bad sample is rejected in the cache below: it stays in the file with the reason, nobody gets it again,
    and a program that is run again gets the good one at once. A request of which some sample was bad for the
    *attempts*-th time fails with `Unacceptable`; all that was bought for it is kept.
    """

    def __init__(self, model: Any, check: Check, *, attempts: int = 3) -> None:
        if type(attempts) is not int or attempts < 1:
            raise ValueError(f"attempts must be an integer of at least 1, not {attempts!r}")
        super().__init__(model)
        assert self.below is not None
        self.check = check
        self.attempts = attempts
        self._open = 0  # attempts that have yet to be judged, or made again
        self._draining = False

    async def run(self, inbox: Inbox) -> None:
        assert self.below is not None
        # No limit of its own: it holds no more than what callers wait for.
        self._faulty, faulty = create_memory_object_stream[Attempt](math.inf)
        self._open, self._draining = 0, False
        with self._faulty, faulty:
            async with create_task_group() as tasks:
                tasks.start_soon(self._mend, faulty)
                async for tickets in inbox:
                    self._open += len(tickets)
                    await self.below.submit([Attempt(ticket, [None] * ticket.n, 1, self._judge) for ticket in tickets])
                self._draining = True
                self._close_if_idle()

    def _judge(self, attempt: Attempt) -> None:
        """An attempt has come back: its request is answered, or asks once more."""
        with answering(attempt.whole):
            if attempt.error is not None:
                raise attempt.error
            attempt.look(self.check)
            if attempt.faults and attempt.number < self.attempts:
                self._faulty.send_nowait(attempt)
                return
            if attempt.faults:
                raise unacceptable(attempt)
            attempt.whole.answer(attempt.kept)
        self._end_one()

    async def _mend(self, faulty: MemoryObjectReceiveStream[Attempt]) -> None:
        async with create_task_group() as tasks:
            async for attempt in faulty:
                tasks.start_soon(self._ask_again, attempt)

    async def _ask_again(self, attempt: Attempt) -> None:
        assert self.below is not None
        with answering(attempt.whole):
            for reason, positions in attempt.rejected().items():
                await self.below.reject(positions, reason)
            following = Attempt(attempt.whole, attempt.places, attempt.number + 1, self._judge)
            following.redraws = attempt.rejected_ordinals()
            await self.below.submit([following])
            return
        self._end_one()

    def _end_one(self) -> None:
        self._open -= 1
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._draining and not self._open:
            self._faulty.close()


class Attempt(Ticket):
    """Asks for the samples that a request still lacks; `places` are those of the request, None where one is lacking."""

    __slots__ = ("_judge", "faults", "number", "places", "whole")

    def __init__(
        self, whole: Ticket, places: Sequence[Draw | None], number: int, judge: Callable[[Attempt], None]
    ) -> None:
        super().__init__(whole.prompt, sum(place is None for place in places), whole.namespace, whole.request_id, whole)
        self.label = whole.label
        self.whole = whole
        self.places = [*places]
        self.number = number
        self.faults: list[tuple[Draw, str]] = []
        self._judge = judge
        whole.delegates += (self,)

    def settled(self) -> None:
        self._judge(self)

    def look(self, check: Check) -> None:
        """Keep what is good; the rest are faults."""
        lacking = [index for index, place in enumerate(self.places) if place is None]
        for index, draw in zip(lacking, self.draws, strict=True):
            fault = check(draw.value)
            if fault is None:
                self.places[index] = draw
            else:
                self.faults.append((draw, fault))

    @property
    def kept(self) -> list[Draw]:
        """All samples of the request, when none is lacking."""
        return [place for place in self.places if place is not None]

    def rejected_ordinals(self) -> list[int]:
        """Those of the bad samples: two equal requests that ask again must not swap theirs, or a replay would."""
        bad = {draw.position for draw, _ in self.faults}
        drawn = () if self.claim is None else zip(self.claim.ordinals, self.claim.positions, strict=False)
        return [ordinal for ordinal, position in drawn if position in bad]

    def rejected(self) -> dict[str, Response]:
        """The bad samples that are in a cache, by the reason."""
        by_reason: dict[str, list[Sample]] = {}
        for draw, reason in self.faults:
            if draw.position is not None:
                by_reason.setdefault(reason, []).append(Sample(None, draw.position))
        request = Request(self.prompt, self.n, self.namespace, self.request_id)
        return {reason: Response(request, tuple(samples)) for reason, samples in by_reason.items()}


def unacceptable(attempt: Attempt) -> Unacceptable:
    """What the caller is told after the last attempt."""
    draws, reasons = zip(*attempt.faults, strict=True)
    tried = "once" if attempt.number == 1 else f"{attempt.number} times"
    return Unacceptable(
        f"a sample was asked for {tried}, and was no good: {reasons[0]}. The cache has all of them. Ask again, with"
        " more attempts, or look at them: cachesaver show",
        [draw.value for draw in draws],
        list(reasons),
    )


_CUT_OFF = {"length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "incomplete"}
_REFUSED = {"content_filter", "refusal", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII"}


def unfinished(answer: Any) -> str | None:
    """A check for `Validator`: the fault of an answer that the provider says was cut off, refused or filtered.

    Knows the words of OpenAI's, Anthropic's and Gemini's APIs and of those that speak like them.
    """
    for reason in _reasons(answer):
        if reason in _CUT_OFF:
            return f"cut off ({reason})"
        if reason in _REFUSED:
            return f"refused ({reason})"
    return None


def _reasons(value: Any) -> Sequence[Any]:
    if not isinstance(value, dict):
        return ()
    body = cast("dict[str, Any]", value)
    lists = (body.get("choices"), body.get("candidates"), [body.get("incomplete_details")])
    parts = [body, *(part for values in lists for part in _dicts(values))]
    told = [part.get(name) for part in parts for name in ("finish_reason", "finishReason", "stop_reason", "reason")]
    refused = any(_dicts([part.get("message")]) and part["message"].get("refusal") for part in parts)
    return [reason for reason in [*told, "refusal" if refused else None] if isinstance(reason, str)]


def _dicts(values: Any) -> list[dict[str, Any]]:
    items = cast("list[Any]", values) if isinstance(values, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]
