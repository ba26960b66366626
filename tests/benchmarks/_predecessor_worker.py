"""One measurement of the predecessor's OnlineAPI, the twin of `_ours.py`.

Runs by path, with the interpreter of an environment that holds `cachesaver==0.0.6`
and nothing of ours. Its settings make a batch of what is there, at once. We tried
batch_size 1, 100 and 1000 with timeout -1, 0, 0.001 and 30, always with overflow:
with 100 in flight none was faster beyond the noise, for what takes the time is
hashing each prompt three times. Cache and hash are its defaults.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import diskcache
from cachesaver.pipelines import OnlineAPI
from cachesaver.typedefs import Request, Response

Prompt = dict[str, Any]


class Model:
    """Answers at once, and counts."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.calls = 0

    async def request(self, request: Request) -> Response:
        self.calls += 1
        return Response(data=[self.answer] * request.n)


async def ask_all(api: OnlineAPI, prompts: list[Prompt], job: dict[str, Any], namespace: str) -> None:
    """Ask all *prompts*, as many at a time as the job says."""
    remaining = enumerate(prompts)
    await asyncio.gather(*[ask_in_turn(api, remaining, namespace) for _ in range(job["in_flight"])])


async def ask_in_turn(api: OnlineAPI, remaining: Iterator[tuple[int, Prompt]], namespace: str) -> None:
    for number, prompt in remaining:
        response = await api.request(Request((), prompt, 1, str(number), namespace))
        assert len(response.data) == 1


async def measure(job: dict[str, Any], prompts: list[Prompt], model: Model) -> dict[str, float]:
    """Seconds and model calls of the part that counts: the requests, from the first to the last answer."""
    cache = diskcache.Cache(job["folder"])
    async with OnlineAPI(model, cache, batch_size=100, timeout=0, allow_batch_overflow=True) as api:
        if job["case"] == "memory":
            await ask_all(api, prompts, job, "first")
        start = perf_counter()
        await ask_all(api, prompts, job, "second" if job["case"] == "memory" else "first")
        return {"seconds": perf_counter() - start, "calls": model.calls}


def main() -> None:
    job = json.loads(sys.argv[1])
    workload = json.loads(Path(job["workload"]).read_text("utf-8"))
    print(json.dumps(asyncio.run(measure(job, workload["prompts"], Model(workload["answer"])))))


if __name__ == "__main__":
    main()
