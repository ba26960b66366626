"""One measurement of ours: reads a job from its argument, prints the outcome as JSON."""

from __future__ import annotations

import gc
import json
import random
import resource
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import anyio

from cachesaver import Batcher, Cache, Deduplicator, Inbox, Reorderer, Request, Stage, online
from cachesaver._prompt import Prompt

Job = dict[str, Any]
Outcome = dict[str, Any]


class Model:
    """Answers at once, and counts."""

    def __init__(self, answer: Any = "") -> None:
        self.answer = answer
        self.calls = 0

    async def request(self, prompt: Any) -> Any:
        self.calls += 1
        return self.answer


class Echo:
    """Answers a batch with itself."""

    async def batch_request(self, prompts: list[Any]) -> list[Any]:
        return prompts


async def ask_all(api: Stage, prompts: Iterable[Any], namespace: str, in_flight: int) -> None:
    """Ask all *prompts*, as many at a time as are *in_flight*."""
    remaining = iter(prompts)
    async with anyio.create_task_group() as tasks:
        for _ in range(in_flight):
            tasks.start_soon(ask_in_turn, api, remaining, namespace)


async def ask_in_turn(api: Stage, remaining: Iterator[Any], namespace: str) -> None:
    for prompt in remaining:
        assert len(await api.request(prompt, namespace=namespace)) == 1


async def map_all(api: Stage, requests: Iterable[Any], window: int) -> int:
    async with api.map(requests, window=window) as responses:
        return sum([len(response) async for response in responses])


@asynccontextmanager
async def stack(job: Job, model: Model, mode: Literal["reuse", "repeat"] = "reuse") -> AsyncIterator[Batcher]:
    with Cache(job["folder"]) as cache:
        async with online(model, cache, mode=mode) as api:
            yield api


def read(job: Job) -> Any:
    return json.loads(Path(job["workload"]).read_text("utf-8"))


# The cache


async def cache(job: Job) -> Outcome:
    """Seconds and model calls of the part that counts: the requests, from the first to the last answer."""
    workload = read(job)
    prompts, model = workload["prompts"], Model(workload["answer"])
    async with stack(job, model) as api:
        if job["case"] in ("memory", "map"):
            await ask_all(api, prompts, "first", job["in_flight"])
        model.calls = 0 if job["case"] == "map" else model.calls
        start = perf_counter()
        if job["case"] == "map":
            await map_all(api, (Request(prompt, namespace="second") for prompt in prompts), job["window"])
        else:
            namespace = "second" if job["case"] == "memory" else "first"
            await ask_all(api, prompts, namespace, job["in_flight"])
        return {"seconds": perf_counter() - start, "calls": model.calls}


class Answering(Stage):
    """Answers with nothing, at once: what is above it is all that takes time."""

    async def run(self, inbox: Inbox) -> None:
        async for tickets in inbox:
            for ticket in tickets:
                ticket.answer(())


async def layers(job: Job) -> Outcome:
    """µs of a request as layer comes to layer, each asked the whole workload."""
    prompts = read(job)["prompts"]
    outcome: Outcome = {}

    async def measure(name: str, api: Stage, namespace: str) -> None:
        gc.collect()
        start = perf_counter()
        async with anyio.create_task_group() as tasks:
            remaining = iter(prompts)
            for _ in range(job["in_flight"]):
                tasks.start_soon(ask_any, api, remaining, namespace)
        outcome[name] = (perf_counter() - start) / len(prompts) * 1e6

    start = perf_counter()
    for prompt in prompts:
        Prompt(prompt).key("scope")
    outcome["the prompt: copied, checked, canonical, hashed"] = (perf_counter() - start) / len(prompts) * 1e6
    for name, stage in (
        ("a task that waits for its answer, and a Batcher", Answering()),
        ("a Reorderer", Reorderer(Answering())),
        ("a Deduplicator", Reorderer(Deduplicator(Answering()))),
    ):
        async with Batcher(stage) as api:
            await measure(name, api, "first")
    model = Model(read(job)["answer"])
    async with stack(job, model) as api:
        await ask_all(api, prompts, "first", job["in_flight"])
    async with stack(job, model, mode="repeat") as api:
        await ask_all(api, prompts, "first", job["in_flight"])
        await measure("a Cacher, its answer decoded, all in memory", api, "first")
    async with stack(job, model) as api:
        await measure("the cache file: looked up, checked", api, "first")
    async with stack(job, model) as api:
        gc.disable()
        await measure("the same without Python's garbage collector", api, "first")
        gc.enable()
    async with stack(job, model) as api:
        await measure("who got it is recorded: a new namespace", api, "second")
    return outcome


async def ask_any(api: Stage, remaining: Iterator[Any], namespace: str) -> None:
    for prompt in remaining:
        await api.request(prompt, namespace=namespace)


# The batcher alone


async def batcher(job: Job) -> Outcome:
    items = [str(number) for number in range(job["items"])]
    async with Batcher(Echo(), batch_size=64) as api:
        start = perf_counter()
        if job["case"] == "request":
            await ask_all(api, items, "all", job["in_flight"])
        else:
            await map_all(api, items, job["window"])
        return {"seconds": perf_counter() - start}


# How it grows


async def samples(job: Job) -> Outcome:
    """µs of one sample of one prompt, in the first and in the last third of them; bought, and found again."""
    third = job["samples"] // 3
    outcome: Outcome = {}
    for name in ("bought", "found"):
        async with stack(job, Model()) as api:
            for part in ("first", "middle", "last"):
                start = perf_counter()
                await ask_all(api, ["p"] * third, "all", job["in_flight"])
                outcome[f"{name}, {part}"] = (perf_counter() - start) / third * 1e6
    return outcome


async def alone(job: Job) -> Outcome:
    """µs of a request when nobody else asks: a hit, from the disk and, in another namespace, from memory."""
    workload = read(job)
    prompts: list[Any] = workload["prompts"]
    outcome: Outcome = {}

    async def measure(name: str, api: Stage, prompts: list[Any], namespace: str) -> None:
        start = perf_counter()
        for prompt in prompts:
            await api.request(prompt, namespace=namespace)
        outcome[name] = (perf_counter() - start) / len(prompts) * 1e6

    async with stack(job, Model(workload["answer"])) as api:
        await measure("bought", api, prompts, "first")
    async with stack(job, Model()) as api:
        await measure("from disk, in order", api, prompts, "first")
        await measure("from memory", api, prompts, "second")
    async with stack(job, Model()) as api:
        await measure("from disk, shuffled", api, random.Random(1).sample(prompts, len(prompts)), "first")
    return outcome


async def long_map(job: Job) -> Outcome:
    """MB that `map` over many warm requests adds, and µs of one in each tenth of them."""
    distinct, count = job["distinct"], job["requests"]
    async with stack(job, Model("a" * 100)) as api:
        await ask_all(api, (f"prompt {number}" for number in range(distinct)), "first", job["in_flight"])

        def requests() -> Iterator[Request]:
            for number in range(count):
                yield Request(f"prompt {number % distinct}", namespace=f"run {number // distinct}")

        before, tenth = memory(), count // 10
        times: list[float] = []
        start, done = perf_counter(), 0
        async with api.map(requests()) as responses:
            async for _ in responses:
                done += 1
                if done % tenth == 0:
                    times.append((perf_counter() - start) / tenth * 1e6)
                    start = perf_counter()
        return {"MB": memory() - before, "times": times}


def memory() -> float:
    """MB that this process holds, at the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)


async def opening(job: Job) -> Outcome:
    """ms to open a cache, and µs of a warm request of *prompts* spread over it."""
    start = perf_counter()
    with Cache(job["folder"]) as cache:
        opened = perf_counter() - start
        async with online(Model(), cache, scope="made") as api:
            start = perf_counter()
            await ask_all(api, job["prompts"], "new", job["in_flight"])
            seconds = perf_counter() - start
            assert api.stats.bought == 0
    return {"open": opened * 1000, "read": seconds / len(job["prompts"]) * 1e6}


WHAT: dict[str, Callable[[Job], Any]] = {
    "cache": cache,
    "layers": layers,
    "batcher": batcher,
    "samples": samples,
    "alone": alone,
    "long_map": long_map,
    "opening": opening,
}


def main() -> None:
    job = json.loads(sys.argv[1])
    print(json.dumps(anyio.run(WHAT[job["what"]], job, backend=job["backend"])))


if __name__ == "__main__":
    main()
