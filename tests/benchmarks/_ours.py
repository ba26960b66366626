"""One measurement of `online(model, cache)`: reads a job from its argument, prints the outcome as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio

from cachesaver import Batcher, Cache, online

Prompt = dict[str, Any]


class Model:
    """Answers at once, and counts."""

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.calls = 0

    async def request(self, prompt: Prompt) -> str:
        self.calls += 1
        return self.answer


async def ask_all(api: Batcher, prompts: list[Prompt], job: dict[str, Any], namespace: str) -> None:
    """Ask all *prompts*, as many at a time as the job says."""
    remaining = enumerate(prompts)
    async with anyio.create_task_group() as tasks:
        for _ in range(job["in_flight"]):
            tasks.start_soon(ask_in_turn, api, remaining, namespace, job["request_ids"])


async def ask_in_turn(api: Batcher, remaining: Iterator[tuple[int, Prompt]], namespace: str, request_ids: bool) -> None:
    for number, prompt in remaining:
        response = await api.request(prompt, namespace=namespace, request_id=str(number) if request_ids else None)
        assert len(response.data) == 1


async def measure(job: dict[str, Any], prompts: list[Prompt], model: Model) -> dict[str, float]:
    """Seconds and model calls of the part that counts: the requests, from the first to the last answer."""
    with Cache(job["folder"]) as cache:
        async with online(model, cache) as api:
            if job["case"] == "memory":
                await ask_all(api, prompts, job, "first")
            start = perf_counter()
            await ask_all(api, prompts, job, "second" if job["case"] == "memory" else "first")
            return {"seconds": perf_counter() - start, "calls": model.calls}


def main() -> None:
    job = json.loads(sys.argv[1])
    workload = json.loads(Path(job["workload"]).read_text("utf-8"))
    model = Model(workload["answer"])
    print(json.dumps(anyio.run(measure, job, workload["prompts"], model, backend=job["backend"])))


if __name__ == "__main__":
    main()
