"""Multi-agent debate (Du et al. 2023): agents answer, read one another's answers, answer again, and vote in the end.

Shows OpenAI's own client on trio, over a stack of this program's block. Agents ask at the same time, in any order;
the id of a request says whose it is, so each agent says the same in every run and under every number of rounds.
Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL. Run it again: it buys nothing.
"""

import os
import re
from collections import Counter
from typing import Any

import trio

from cachesaver import Cache, namespace, online, request_id
from cachesaver.http import HTTPModel
from cachesaver.models.openai import AsyncOpenAI  # was: from openai import AsyncOpenAI

AGENTS = 3
ROUNDS = [1, 2]  # of two debates about each question
QUESTIONS = {"What is 3 + 4?": "7", "What is 2 + 6?": "8"}
NOTHING = "nothing"

Answers = dict[int, str]  # by agent


async def debate(client: AsyncOpenAI, question: str, rounds: int, results: dict[str, list[str]]) -> None:
    """Puts into *results* the answers of the last round, in order of the agents."""
    answers: Answers = {}
    with namespace(f"{rounds} rounds/{question}"):
        for number in range(rounds):
            following: Answers = {}
            async with trio.open_nursery() as nursery:
                for agent in range(AGENTS):
                    nursery.start_soon(speak, client, question, agent, number, answers, following)
            answers = following
    results[question] = [answers[agent] for agent in range(AGENTS)]


async def speak(
    client: AsyncOpenAI, question: str, agent: int, number: int, answers: Answers, following: Answers
) -> None:
    """One agent's answer in one round, knowing the *answers* of the round before; kept in *following*."""
    asked = question
    if answers:
        others = ", ".join(answers[other] for other in sorted(answers) if other != agent)
        asked = f"{question} You said {answers[agent]}, others say {others}."
    # In the first round all agents ask the same, and later some of them may. Without a name, an agent would get the
    # first answer in one run and the second in the next, as they happen to come.
    with request_id(f"agent-{agent}"), request_id(f"round-{number}"):  # together "agent-2/round-1"
        completion = await client.chat.completions.create(
            model=os.environ.get("MODEL", "gpt-4.1-nano"), messages=conversation(asked), temperature=0.5, max_tokens=4
        )
    following[agent] = answer_in(completion.choices[0].message.content or "")


def conversation(asked: str) -> list[Any]:
    return [
        {"role": "user", "content": "What is 2 + 2? Answer with a number."},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": f"{asked} Answer with a number."},
    ]


def answer_in(reply: str) -> str:
    """The number in a reply; "nothing" if there is none, as small models have it."""
    found = re.search(r"\d+", reply)
    return found[0] if found else NOTHING


def majority(answers: list[str]) -> str:
    """The answer that most agents give, the first agent's of two with as many."""
    votes = Counter(answer for answer in answers if answer != NOTHING)
    return votes.most_common(1)[0][0] if votes else NOTHING


async def main() -> None:
    with Cache("cache_dir") as cache:
        async with HTTPModel() as model, online(model, cache) as stack, AsyncOpenAI(cachedir=stack) as client:
            # One number of rounds after the other: a longer debate finds by id what a shorter one has recorded, and
            # buys its last round only. At the same time they would share samples too, but not agent by agent.
            for rounds in ROUNDS:
                results: dict[str, list[str]] = {}
                async with trio.open_nursery() as nursery:
                    for question in QUESTIONS:
                        nursery.start_soon(debate, client, question, rounds, results)
                for question, truth in QUESTIONS.items():
                    verdict = majority(results[question])
                    said = ", ".join(results[question])
                    print(f"rounds: {rounds}, {question} {said} -> {verdict}, and {truth} is right")
            print(f"{stack.stats.asked} samples asked, {stack.stats.bought} bought")


trio.run(main)
