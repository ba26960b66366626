"""An ablation over a grid: temperature, style of prompt and number of votes; every cell on all data, all at once.

Shows one list of requests for a whole study, and what a namespace is good for in it: vote counts share their samples.
Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL. Run it again: it buys nothing.
Put a temperature or a number of votes into the grid: it buys what is new.
"""

import asyncio
import os
from collections import Counter
from itertools import product
from typing import Any

from openai import AsyncOpenAI

from cachesaver import Cache, Request, RoundRobinLimiter, online

TEMPERATURES = [0.2, 1.0]
STYLES = {  # small models are said to lean towards the last example
    "good last": [("A waste of money.", "bad"), ("I loved every minute of it.", "good")],
    "bad last": [("I loved every minute of it.", "good"), ("A waste of money.", "bad")],
}
VOTES = [1, 3, 5]

REVIEWS = [
    ("Best coffee in town, and the garden is lovely.", "good"),
    ("The screen cracked on the second day. Avoid.", "bad"),
]

Cell = tuple[float, str, int]


class ChatModel:
    """What the stack asks for the samples that it does not have: any object with `request` will do."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self.cache_scope = str(client.base_url)  # names the model in the cache, together with what the prompt says
        self.client = client

    async def request(self, prompt: dict[str, Any], n: int) -> list[str]:
        completion = await self.client.chat.completions.create(**prompt, n=n)
        return [choice.message.content or "" for choice in completion.choices]


def request(cell: Cell, review: str) -> Request:
    """What one cell of the grid asks about one review."""
    temperature, style, votes = cell
    prompt = {
        "model": os.environ.get("MODEL", "gpt-4.1-nano"),
        "messages": messages(style, review),
        "temperature": temperature,
        "max_tokens": 1,
    }
    # A cell on one review is one run of the algorithm, and its votes must be independent of one another. Cells need
    # not be: three votes are the one vote and two more. With the review alone as namespace, 1 + 3 + 5 samples of a
    # prompt would be bought, and not 5.
    return Request(prompt, n=votes, namespace=f"{temperature}/{style}/{votes} votes/{review}", request_id="ballot")


def messages(style: str, review: str) -> list[dict[str, str]]:
    told: list[dict[str, str]] = []
    for example, label in STYLES[style]:
        told += [{"role": "user", "content": f"{example} Good or bad?"}, {"role": "assistant", "content": label}]
    return [*told, {"role": "user", "content": f"{review} Good or bad?"}]


def accuracy(ballots: list[list[str]]) -> float:
    """The share of reviews where the majority is right."""
    right = 0
    for (_, label), ballot in zip(REVIEWS, ballots, strict=True):
        votes = Counter(word for reply in ballot for word in ("good", "bad") if word in reply.lower())
        right += bool(votes) and votes.most_common(1)[0][0] == label
    return right / len(REVIEWS)


async def main() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource(None, capacity=8)  # however much is asked at once, 8 calls run at a time
    cells: list[Cell] = list(product(TEMPERATURES, STYLES, VOTES))
    requests = [request(cell, review) for cell in cells for review, _ in REVIEWS]
    with Cache("cache_dir") as cache:
        async with (
            AsyncOpenAI(max_retries=0) as client,  # the limiter asks again where the API refuses
            online(ChatModel(client), cache, limiter=limiter) as api,
        ):
            responses = iter(await api.batch_request(requests))
            ballots = {cell: [next(responses).data for _ in REVIEWS] for cell in cells}
            print(f"{'temperature':14}{'style':12}" + "".join(f"votes: {votes}".rjust(10) for votes in VOTES))
            for temperature, style in product(TEMPERATURES, STYLES):
                shares = [accuracy(ballots[temperature, style, votes]) for votes in VOTES]
                print(f"{temperature:<14}{style:12}" + "".join(f"{share:10.0%}" for share in shares))
            print(f"{api.stats.asked} samples asked, {api.stats.bought} bought")


asyncio.run(main())
