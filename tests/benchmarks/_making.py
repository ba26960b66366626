"""A cache file of many samples: ten of each prompt."""

from __future__ import annotations

from pathlib import Path

from cachesaver import Cache
from cachesaver._prompt import Prompt
from cachesaver._records import Answer, Bought

EACH, SCOPE, GROUP = 10, "made", 5_000


def prompt(number: int) -> str:
    return f"prompt {number}: what comes after it?"


def make(folder: Path, samples: int) -> None:
    """*samples* answers of 100 letters, as a run would have stored them."""
    with Cache(folder) as cache:
        for first in range(0, samples, GROUP):
            bought: list[Bought] = []
            for number in range(first // EACH, min(first + GROUP, samples) // EACH):
                asked = Prompt(prompt(number))
                answers = [Answer(f'"{number}.{place} {"a" * 90}"', 0.1, None) for place in range(EACH)]
                sales = [
                    Bought(asked.key(SCOPE), SCOPE, asked.asked, place, answer) for place, answer in enumerate(answers)
                ]
                bought += sales
            cache.commit(bought, []).result()
