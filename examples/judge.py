"""LLM as a judge: rate the answers of a support desk, and see how often people rated them the same.

Shows a dataset streamed through a stack from a plain script, with no `await`: `sync`, and `map` with a window. The
model under the stack is an object of one's own, a few lines around OpenAI's client.
Needs OPENAI_API_KEY; for another server than OpenAI's also OPENAI_BASE_URL and MODEL. Run it again: it buys nothing.
"""

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

from openai import OpenAI

from cachesaver import Cache, Request, online, sync

VOTES = 3  # samples of a verdict; the majority decides
WINDOW = 4  # answers that are judged at the same time

DATASET = [  # and what people said
    ("I am so sorry! A new one is on its way to you.", "polite"),
    ("Not my problem.", "rude"),
    ("Thank you for your patience, your money is back.", "polite"),
    ("Read the manual, it is not hard.", "rude"),
    ("Happy to help! Please send us a photo of it.", "polite"),
    ("Not my problem.", "rude"),  # datasets do repeat themselves
]

SHOTS = [
    ("Thanks for telling us, we have put it right.", "polite"),
    ("Go away.", "rude"),
    ("Of course, I will do that for you at once.", "polite"),
    ("That is your own fault.", "rude"),
]


class ChatModel:
    """A model is any object with `request`; where it takes n, it is asked for several samples in one call."""

    def __init__(self, client: OpenAI) -> None:
        self.cache_scope = str(client.base_url)  # names the model in the cache, together with what the prompt says
        self.client = client

    def request(self, prompt: dict[str, Any], n: int) -> list[str]:
        completion = self.client.chat.completions.create(**prompt, n=n)
        return [choice.message.content or "" for choice in completion.choices]


def requests() -> Iterator[Request]:
    """One for each row: made when there is room in the window, so the dataset may be of any size."""
    for number, (answer, _) in enumerate(DATASET):
        # Each row is judged by itself: in a namespace of its own it gets the first samples of its prompt, which
        # two equal rows share. In one namespace for all rows, the second would be judged by new ones.
        yield Request(prompt_for(answer), n=VOTES, namespace=f"row-{number}", request_id="verdict")


def prompt_for(answer: str) -> dict[str, Any]:
    messages: list[dict[str, str]] = []
    for shot, verdict in SHOTS:
        messages += [{"role": "user", "content": question(shot)}, {"role": "assistant", "content": verdict}]
    messages.append({"role": "user", "content": question(answer)})
    return {
        "model": os.environ.get("MODEL", "gpt-4.1-nano"),
        "messages": messages,
        "temperature": 0.8,
        "max_tokens": 2,
    }


def question(answer: str) -> str:
    return f"Answer: {answer}\nPolite or rude?"


def verdict_in(reply: str) -> str:
    """What a judge says, or "unclear": small models find words of their own."""
    return next((verdict for verdict in ("polite", "rude") if verdict in reply.lower()), "unclear")


def main() -> None:
    with OpenAI() as client, Cache("cache_dir") as cache, sync(online(ChatModel(client), cache)) as api:
        agreed = 0
        print(f"{'people':8}{'judge':8}{'votes':22}answer")
        with api.map(requests(), window=WINDOW) as responses:
            for (answer, gold), response in zip(DATASET, responses, strict=True):
                votes = [verdict_in(reply) for reply in response]
                ((verdict, _),) = Counter(votes).most_common(1)
                print(f"{gold:8}{verdict:8}{' '.join(votes):22}{answer}")
                agreed += verdict == gold
        print(f"judge and people agree on {agreed} of {len(DATASET)}")
        print(f"{api.stats.asked} samples asked, {api.stats.bought} bought")


main()
