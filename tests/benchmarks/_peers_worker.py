"""One measurement of a peer, in its environment: reads a job from its argument, prints the outcome as JSON.

Caches are asked synchronously, one prompt after another, as their users ask them; batchers by 100
tasks, or by as many at once as a window of ours holds.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

Get = Callable[[Any], Any]
Put = Callable[[Any, Any], None]


# Caches: get(prompt) -> answer or None, put(prompt, answer)


def dspy(folder: str) -> tuple[Get, Put]:
    from dspy.clients.cache import Cache

    cache = Cache(True, True, folder, disk_size_limit_bytes=2**35)
    return cache.get, cache.put


def diskcache(folder: str) -> tuple[Get, Put]:
    import diskcache

    cache = diskcache.Cache(folder, size_limit=2**35)
    return lambda prompt: cache.get(key_of(prompt)), lambda prompt, answer: cache.set(key_of(prompt), answer)


def bare_sqlite(folder: str) -> tuple[Get, Put]:
    """What it takes at least: a key, a row and an answer. WAL, and nothing is synced but by checkpoints."""
    Path(folder).mkdir(exist_ok=True)
    database = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS sample (key BLOB PRIMARY KEY, answer TEXT) WITHOUT ROWID")

    def get(prompt: Any) -> Any:
        row = database.execute("SELECT answer FROM sample WHERE key = ?", (key_of(prompt),)).fetchone()
        return row and json.loads(row[0])

    def put(prompt: Any, answer: Any) -> None:
        database.execute("INSERT INTO sample VALUES (?, ?)", (key_of(prompt), json.dumps(answer)))

    return get, put


def key_of(prompt: Any) -> bytes:
    return sha256(json.dumps(prompt, sort_keys=True).encode()).digest()


CACHES = {"dspy": dspy, "diskcache": diskcache, "bare SQLite": bare_sqlite}


def ask_all(get: Get, put: Put, prompts: list[Any], answer: Any) -> int:
    """How often the model would have been called."""
    calls = 0
    for prompt in prompts:
        if get(prompt) is None:
            calls += 1
            put(prompt, answer)
    return calls


def measure_cache(job: dict[str, Any]) -> dict[str, float]:
    workload = json.loads(Path(job["workload"]).read_text("utf-8"))
    get, put = CACHES[job["peer"]](job["folder"])
    if job["case"] == "memory":
        ask_all(get, put, workload["prompts"], workload["answer"])
    start = perf_counter()
    calls = ask_all(get, put, workload["prompts"], workload["answer"])
    return {"seconds": perf_counter() - start, "calls": calls}


# Batchers: one(item) and many(items)


async def echo(items: list[Any]) -> list[Any]:
    return list(items)


def aiodataloader() -> tuple[Any, Any]:
    from aiodataloader import DataLoader

    loader = DataLoader(echo, max_batch_size=64, cache=False)
    return loader.load, loader.load_many


def batched() -> tuple[Any, Any]:
    from batched import aio

    answer = aio.dynamically(echo, batch_size=64, timeout_ms=0.0)
    return answer, answer


def async_batcher() -> tuple[Any, Any]:
    from async_batcher.batcher import AsyncBatcher

    class Batches(AsyncBatcher[Any, Any]):
        async def process_batch(self, batch: list[Any]) -> list[Any]:
            return batch

    batcher = Batches(max_batch_size=64, max_queue_time=0.0)
    return batcher.process, lambda items: asyncio.gather(*map(batcher.process, items))


BATCHERS = {"aiodataloader": aiodataloader, "batched": batched, "async-batcher": async_batcher}


async def measure_batcher(job: dict[str, Any]) -> dict[str, float]:
    one, many = BATCHERS[job["peer"]]()
    items = iter(range(job["items"]))

    async def ask_in_turn() -> None:
        for item in items:
            assert await one(item) == item

    start = perf_counter()
    if job["case"] == "request":
        await asyncio.gather(*[ask_in_turn() for _ in range(job["in_flight"])])
    else:
        for first in range(0, job["items"], job["window"]):
            window = list(range(first, min(first + job["window"], job["items"])))
            assert list(await many(window)) == window
    seconds = perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds}))
    sys.stdout.flush()
    import os

    os._exit(0)  # some have tasks that never end


async def slurry(job: dict[str, Any]) -> dict[str, float]:
    """Three sections that pass items on."""
    import slurry as package
    from slurry.sections import Map

    async def source() -> AsyncIterator[int]:
        for item in range(job["items"]):
            yield item

    start = perf_counter()
    stages = [Map(lambda item: item) for _ in range(3)]
    async with package.Pipeline.create(source(), *stages) as pipeline, pipeline.tap() as tap:
        assert [item async for item in tap] == list(range(job["items"]))
    return {"seconds": perf_counter() - start}


def main() -> None:
    job = json.loads(sys.argv[1])
    if job["peer"] in CACHES:
        outcome = measure_cache(job)
    elif job["peer"] == "slurry":
        import trio

        outcome = trio.run(slurry, job)
    else:
        outcome = asyncio.run(measure_batcher(job))
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
