"""Self-consistency: sample several answers to a question and take the majority; how many votes are enough?

Shows OpenAI's own client in a plain script, with its import changed, and that vote counts share their samples.
Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL. Run it again: it buys nothing.
"""

import os
import re
from collections import Counter
from typing import Any

from cachesaver import namespace
from cachesaver.models.openai import OpenAI  # was: from openai import OpenAI

VOTES = [1, 3, 5]

QUESTIONS = [
    ("I have 4 eggs and buy 2. How many eggs?", 6),
    ("There are 8 cakes and 5 are eaten. How many cakes are left?", 3),
    ("4 bags hold 2 balls each. How many balls?", 8),
]

SHOTS = [
    ("3 boxes hold 2 pens each. How many pens?", "3 * 2 = 6"),
    ("There are 9 birds and 4 fly away. How many birds are left?", "9 - 4 = 5"),
    ("I have 2 apples and buy 3. How many apples?", "2 + 3 = 5"),
]

Ballot = list[int | None]


def vote(client: OpenAI, question: str, votes: int) -> tuple[Ballot, int]:
    """Independent answers to one question, and how many of them had to be bought."""
    messages: list[Any] = []
    for asked, reasoning in SHOTS:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": reasoning}]
    messages.append({"role": "user", "content": question})
    # The raw response has the headers too, and one of them says what was bought. For the answers alone,
    # client.chat.completions.create(...) is the call.
    response = client.chat.completions.with_raw_response.create(
        model=os.environ.get("MODEL", "gpt-4.1-nano"), messages=messages, temperature=0.8, max_tokens=8, n=votes
    )
    answers = [choice.message.content or "" for choice in response.parse().choices]
    return [result_of(answer) for answer in answers], bought_for(response.headers["x-cachesaver"])


def result_of(answer: str) -> int | None:
    """What an answer comes to: the number after its equals sign. A small model often does not get that far."""
    found = re.search(r"= *(\d+)", answer)
    return int(found[1]) if found else None


def bought_for(header: str) -> int:
    """The number in "miss; position=0,1,2; bought=2"; a hit says nothing of buying."""
    return int(header.partition("bought=")[2] or 0)


def majority(ballot: Ballot) -> int | None:
    """The result with most votes, the earlier one of two with as many. No result is no vote."""
    cast = Counter(result for result in ballot if result is not None)
    return cast.most_common(1)[0][0] if cast else None


def main() -> None:
    asked = bought = 0
    with OpenAI(cachedir="cache_dir") as client:
        for votes in VOTES:
            right = 0
            for question, truth in QUESTIONS:
                # Another number of votes is another run of the algorithm, and begins with the same samples: so 3 votes
                # buy two more than 1 vote did, and what they differ in is the number of votes and not their luck.
                with namespace(f"{votes} votes/{question}"):
                    ballot, paid = vote(client, question, votes)
                print(f"votes: {votes}, {question} {ballot} -> {majority(ballot)}, and {truth} is right")
                right += majority(ballot) == truth
                asked += votes
                bought += paid
            print(f"votes: {votes}, {right} of {len(QUESTIONS)} right")
    print(f"{asked} samples asked, {bought} bought")


main()
