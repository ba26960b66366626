"""The program of the demo: does reading a review several times, and voting, make a small model better?

Research code as it is commonly written: one function for a data point, one for a
configuration. Of caching it knows that a namespace is one run on one data point.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from anyio import create_task_group

from .. import namespace
from ..models.openai import AsyncCachedOpenAIAPI

REVIEWS = [
    ("The room was spotless and the staff could not have been kinder.", "good"),
    ("Two hours late, cold food, and nobody said sorry.", "bad"),
    ("I have read this book three times and I will read it again.", "good"),
    ("The screen cracked on the second day. Avoid.", "bad"),
    ("Best coffee in town, and the garden is lovely.", "good"),
    ("A dull film. I left before the end.", "bad"),
]

EXAMPLES = [
    ("I loved every minute of it.", "good"),
    ("A waste of money.", "bad"),
    ("It broke at once and nobody helped.", "bad"),
    ("Friendly people and a wonderful view.", "good"),
]


class Reading(NamedTuple):
    """What came of one review: every summary, every vote, and whether the majority is right."""

    summaries: tuple[str, ...]
    votes: tuple[str, ...]
    right: bool


Results = dict[int, list[Reading]]  #: the readings of all reviews, by the number of votes


class Ablation:
    """All reviews under several numbers of votes, with one model."""

    def __init__(self, api: AsyncCachedOpenAIAPI, model: str, step: Callable[[], None]) -> None:
        self._api = api
        self._model = model
        self._step = step  # called for each review that is done

    async def run(self, configurations: Sequence[int]) -> Results:
        """All configurations at once."""
        results: Results = {}

        async def one(votes: int) -> None:
            results[votes] = await self.process_dataset(votes)

        async with create_task_group() as tasks:
            for votes in configurations:
                tasks.start_soon(one, votes)
        return {votes: results[votes] for votes in configurations}

    async def process_dataset(self, votes: int) -> list[Reading]:
        """All reviews at once."""
        readings: dict[int, Reading] = {}

        async def one(index: int) -> None:
            with namespace(f"votes-{votes}/review-{index}"):
                readings[index] = await self.process_sample(*REVIEWS[index], votes)
            self._step()

        async with create_task_group() as tasks:
            for index in range(len(REVIEWS)):
                tasks.start_soon(one, index)
        return [readings[index] for index in range(len(REVIEWS))]

    async def process_sample(self, review: str, truth: str, votes: int) -> Reading:
        """Summarise the review *votes* times, judge by each summary, and let the majority decide."""
        question = f"Review: {review}\nHow does the writer feel, and why? Answer in one short sentence."
        summaries = await self._ask([_user(question)], n=votes, max_tokens=20)
        judged: dict[int, str] = {}

        async def judge(index: int) -> None:
            asked = [*FEW_SHOTS, _user(f"{review} {summaries[index]}\nVerdict:")]
            (answer,) = await self._ask(asked, n=1, max_tokens=3, request_id=f"judge-{index}")
            judged[index] = "bad" if "bad" in answer.lower() else "good"

        async with create_task_group() as tasks:
            for index in range(votes):
                tasks.start_soon(judge, index)
        ballot = tuple(judged[index] for index in range(votes))
        ((majority, _),) = Counter(ballot).most_common(1)
        return Reading(tuple(summaries), ballot, majority == truth)

    async def _ask(
        self, messages: list[dict[str, str]], *, n: int, max_tokens: int, request_id: str | None = None
    ) -> list[str]:
        body = {"model": self._model, "messages": messages, "temperature": 0.8, "max_tokens": max_tokens, "n": n}
        completion = await self._api.create_chat_completion(body, request_id)
        return [(choice.message.content or "").strip() for choice in completion.choices]


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


FEW_SHOTS = [
    message
    for review, verdict in EXAMPLES
    for message in (_user(f"{review}\nVerdict:"), {"role": "assistant", "content": verdict})
]
