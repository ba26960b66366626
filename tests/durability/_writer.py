"""A process that stores samples until it is killed, and says what it has stored.

    python _writer.py cache.db NAME {now,"too early"}

Every line is one write to the pipe, so none is ever torn.
"""

import itertools
import json
import os
import sys
from hashlib import sha256

from cachesaver import Cache
from cachesaver._records import Answer, Bought

SALES = 3


def sale(name: str, number: int, which: int) -> Bought:
    prompt = f"p{which}"
    body = json.dumps(f"{name} {number} {which} " + "word " * (number % 40) ** 2)
    return Bought(sha256(prompt.encode()).digest(), "model", f'"{prompt}"', number, Answer(body, 1.5, None))


def say(line: object) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


def main(path: str, name: str, when: str) -> None:
    say("begun")
    with Cache(path) as cache:
        for number in itertools.count():
            sales = [sale(name, number, which) for which in range(SALES)]
            if when == "too early":
                say([number, [number] * SALES, [None] * SALES])
            placed = cache.commit(sales, []).result()
            seen = [place.stored and place.stored.body.split()[:3] for place in placed]
            if when == "now":
                say([number, [place.position for place in placed], seen])


if __name__ == "__main__":
    main(*sys.argv[1:])
