"""A process that asks one prompt after another, and buys each only when it is told to.

    python _racer.py FOLDER NAME {asyncio,trio} {shared,alone} ID RACES

Every line that it says is one write to the pipe; a byte to its standard input
lets the model answer.
"""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import anyio

from cachesaver import Cache, online


def say(*line: object) -> None:
    os.write(1, json.dumps(line).encode() + b"\n")


async def main(folder: Path, name: str, sharing: str, request_id: str, races: int) -> None:
    sold: Counter[str] = Counter()

    def model(prompt: str) -> str:
        say("buys", prompt)
        os.read(0, 1)
        sold[prompt] += 1
        return f"{prompt} {name}#{sold[prompt]}"

    with Cache(folder) as cache:
        async with online(model, cache, scope="racer", shared=sharing == "shared") as stack:
            for number in range(races):
                response = await stack.request(f"p{number}", namespace="n", request_id=request_id)
                say("got", response.positions[0], response[0])


if __name__ == "__main__":
    given, name, backend, sharing, request_id, races = sys.argv[1:]
    anyio.run(main, Path(given), name, sharing, request_id, int(races), backend=backend)
