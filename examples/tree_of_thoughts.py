"""Tree of Thoughts (Yao et al. 2023) on the Game of 24: propose steps, value what they lead to, go on with the best.

Shows bodies and a limiter on asyncio, with one namespace a puzzle and configuration: what a wide beam asks beyond a
narrow one is all that it buys. What a model proposes is checked, so that any model will do, however small.
Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL. Run it again: it buys nothing.
"""

import asyncio
import os
import re
from itertools import permutations
from typing import Any

from openai import AsyncOpenAI

from cachesaver import Cache, RoundRobinLimiter, namespace, request_id
from cachesaver.models.openai import AsyncCachedOpenAIAPI

Numbers = tuple[int, ...]  # those that are left, in order: what a state is
Steps = tuple[str, ...]  # how they were reached

PUZZLES: list[Numbers] = [(2, 4, 6, 6)]
BEAMS = [1, 2]
PROPOSALS = 3  # samples of a next step
VALUES = 2  # samples of a value
MENU = 5  # steps to choose from, where no proposal is legal

PROPOSE = [("4 4 6 8", "4+8=12"), ("2 9 10 12", "12*2=24"), ("3 5 7", "7-3=4")]
VALUE = [("10 14", "sure"), ("5 7", "impossible"), ("4 6", "sure"), ("2 5 8", "likely")]
WORTH = {"sure": 20.0, "likely": 1.0, "impossible": 0.001}  # as in the paper


async def solve(api: AsyncCachedOpenAIAPI, puzzle: Numbers, beam: int) -> tuple[Numbers, Steps]:
    """Breadth first: the best state that is reached when one number is left, and the steps to it."""
    states: dict[Numbers, Steps] = {puzzle: ()}
    with namespace(f"{written(puzzle)}/beam {beam}"):
        for step in range(1, len(puzzle)):
            # Names all that this step asks, in tasks of it too: should two steps ask the same, each has its sample.
            with request_id(f"step-{step}"):
                expanded = await asyncio.gather(*(expand(api, numbers) for numbers in states))
                reached: dict[Numbers, Steps] = {}
                for steps, following in zip(states.values(), expanded, strict=True):
                    for taken, numbers in following.items():
                        reached.setdefault(numbers, (*steps, taken))  # by two ways is not twice as good
                values = await asyncio.gather(*(value(api, numbers) for numbers in reached))
            worth = dict(zip(reached, values, strict=True))
            best = sorted(reached, key=lambda numbers: -worth[numbers])[:beam]
            states = {numbers: reached[numbers] for numbers in best}
    return next(iter(states.items()))


async def expand(api: AsyncCachedOpenAIAPI, numbers: Numbers) -> dict[str, Numbers]:
    """The legal ones of the steps that the model proposes, and what they leave; else one off the menu."""
    legal = legal_steps(numbers)
    proposals = await ask(api, conversation(PROPOSE, written(numbers)), n=PROPOSALS, max_tokens=8)
    steps = [step for step in map(step_in, proposals) if step in legal]
    if not steps:
        menu = list(legal)[:MENU]
        listed = "\n".join(f"{place}. {step}" for place, step in enumerate(menu, 1))
        question = f"Which step leads to 24? Answer with its number.\n{listed}\nAnswer:"
        (answer,) = await ask(api, [{"role": "user", "content": question}], n=1, max_tokens=2)
        place = re.search(rf"[1-{len(menu)}]", answer)
        steps = [menu[int(place[0]) - 1 if place else 0]]
    return {step: legal[step] for step in steps}


async def value(api: AsyncCachedOpenAIAPI, numbers: Numbers) -> float:
    """How likely the model thinks it that these numbers reach 24: the sum over several samples."""
    if len(numbers) == 1:  # nothing to guess
        return WORTH["sure"] if numbers == (24,) else 0.0
    answers = await ask(api, conversation(VALUE, written(numbers)), n=VALUES, max_tokens=2)
    return sum(WORTH.get(answer.lower().strip(" .\n"), 0.0) for answer in answers)


async def ask(api: AsyncCachedOpenAIAPI, messages: list[dict[str, str]], n: int, max_tokens: int) -> list[str]:
    body: dict[str, Any] = {"model": os.environ.get("MODEL", "gpt-4.1-nano"), "messages": messages, "temperature": 1.0}
    completion = await api.create_chat_completion(body | {"max_tokens": max_tokens, "n": n})
    return [choice.message.content or "" for choice in completion.choices]


def conversation(shots: list[tuple[str, str]], last: str) -> list[dict[str, str]]:
    messages: list[dict[str, str]] = []
    for numbers, answer in shots:
        messages += [{"role": "user", "content": numbers}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": last}]


def written(numbers: Numbers) -> str:
    return " ".join(map(str, numbers))


def step_in(answer: str) -> str:
    """The first step in an answer, in one way of writing; empty if there is none."""
    found = re.search(r"(\d+) *([-+*/]) *(\d+) *= *(\d+)", answer)
    return "{} {} {} = {}".format(*found.groups()) if found else ""


def legal_steps(numbers: Numbers) -> dict[str, Numbers]:
    """What can be done with two of the numbers, and what it leaves; no fractions, and nothing below zero."""
    legal: dict[str, Numbers] = {}
    for left, right in permutations(numbers, 2):
        rest = list(numbers)
        rest.remove(left)
        rest.remove(right)
        results = {"+": left + right, "*": left * right}
        if left >= right:
            results["-"] = left - right
        if right and left % right == 0:
            results["/"] = left // right
        for sign, result in results.items():
            legal[f"{left} {sign} {right} = {result}"] = tuple(sorted([*rest, result]))
    return legal


async def main() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource(os.environ["OPENAI_API_KEY"], capacity=8)
    runs = [(puzzle, beam) for puzzle in PUZZLES for beam in BEAMS]
    with Cache("cache_dir") as cache:
        async with AsyncOpenAI() as aclient, AsyncCachedOpenAIAPI(aclient, cache, limiter) as api:
            results = await asyncio.gather(*(solve(api, puzzle, beam) for puzzle, beam in runs))
            for (puzzle, beam), (numbers, steps) in zip(runs, results, strict=True):
                verdict = "solved" if numbers == (24,) else "not solved"
                print(f"{written(puzzle)} with beam {beam}: {', '.join(steps)}: {verdict}")
            print(f"{api.stats.asked} samples asked, {api.stats.bought} bought")


asyncio.run(main())
