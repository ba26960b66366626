"""One run of many three-step agents over a local model, through one way to ask it. Prints a line of JSON.

Runs by path, so that the predecessor, whose package has our name, is found where PYTHONPATH says.
Every way gets the same model, which computes one batch at a time in a worker thread.
A batch waits for a minute at most with ours and the predecessor, for 20 ms with those others
that have a timeout.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
from anyio import create_task_group, to_thread

Ask = Callable[[str, int], Awaitable[str]]  # a prompt, and the number of the agent


class Device:
    """The model: answers of always as many tokens, and a record of its batches."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch

        torch.manual_seed(1)
        self.model, self.tokenizer = torch.load(job["weights"], weights_only=False)
        self.tokenizer.padding_side = "left"
        self.tokens = job["tokens"]
        self.living = 0  # agents that have not finished
        self.batches: list[tuple[int, int]] = []  # prompts, and agents that lived
        self.generated = 0  # tokens, whatever becomes of them
        self.busy = 0.0  # seconds
        self._free = threading.Lock()

    def batch_request(self, prompts: list[str]) -> list[str]:
        with self._free:
            start = time.perf_counter()
            self.batches.append((len(prompts), self.living))
            inputs = self.tokenizer(list(prompts), return_tensors="pt", padding=True)
            made = self.model.generate(
                **inputs,
                do_sample=False,
                min_new_tokens=self.tokens,
                max_new_tokens=self.tokens,
                pad_token_id=self.tokenizer.pad_token_id,
            )
            self.generated += self.tokens * len(prompts)
            new = made[:, inputs["input_ids"].shape[1] :]
            texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
            self.busy += time.perf_counter() - start
            return texts


# The agents


async def agent(number: int, ask: Ask, device: Device, words: tuple[int, int]) -> None:
    """Three steps: a question about a text, one of three branches, and a conclusion."""
    chance = random.Random(number)
    text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(*words)))
    first = await ask(f"{number}. {text}. What is this about? It is about", number)
    await anyio.sleep(chance.uniform(0, 0.5))  # a tool
    branch = BRANCHES[len(first) % len(BRANCHES)]
    second = await ask(f"{number}. {branch.format(text=text, first=first)}", number)
    await anyio.sleep(chance.uniform(0, 0.5))
    await ask(f"{number}. {first} {second} In one word, it is", number)
    device.living -= 1


WORDS = [
    "red",
    "green",
    "seven",
    "house",
    "walks",
    "under",
    "the",
    "river",
    "and",
    "every",
    "small",
    "lamp",
    "that",
    "they",
    "found",
    "before",
    "winter",
]
BRANCHES = (
    "{first} Is that all? No, it is also",
    "{text}. Somebody said: {first} That is wrong, because",
    "{text}. {text}. Once more: {first} So",
)


# The ways to ask


@contextlib.asynccontextmanager
async def one_by_one(device: Device, size: int) -> AsyncIterator[Ask]:
    turn = anyio.Lock()

    async def ask(prompt: str, _: int) -> str:
        async with turn:
            return (await to_thread.run_sync(device.batch_request, [prompt]))[0]

    yield ask


@contextlib.asynccontextmanager
async def predecessor(device: Device, size: int) -> AsyncIterator[Ask]:
    import diskcache
    from cachesaver.pipelines import LocalAPI
    from cachesaver.typedefs import Request, Response

    class Model:
        async def batch_request(self, batch: Any) -> list[Any]:
            prompts = [request.kwargs["prompt"] for request in batch.requests]
            return [Response(data=[text]) for text in await to_thread.run_sync(device.batch_request, prompts)]

    with TemporaryDirectory() as folder:
        async with LocalAPI(Model(), diskcache.Cache(folder), batch_size=size, timeout=60) as api:

            async def ask(prompt: str, number: int) -> str:
                request = Request((), {"prompt": prompt}, 1, f"{number}", f"agent {number}")
                return (await api.request(request)).data[0]

            yield ask


@contextlib.asynccontextmanager
async def batched(device: Device, size: int) -> AsyncIterator[Ask]:
    from batched import aio

    @aio.dynamically(batch_size=size, timeout_ms=20)
    async def answer(prompts: list[str]) -> list[str]:
        return await to_thread.run_sync(device.batch_request, prompts)

    yield lambda prompt, _: answer(prompt)


@contextlib.asynccontextmanager
async def async_batcher(device: Device, size: int) -> AsyncIterator[Ask]:
    from async_batcher.batcher import AsyncBatcher

    class Batches(AsyncBatcher[str, str]):
        async def process_batch(self, batch: list[str]) -> list[str]:
            return await to_thread.run_sync(device.batch_request, batch)

    batcher = Batches(max_batch_size=size, max_queue_time=0.02)
    yield lambda prompt, _: batcher.process(prompt)
    await batcher.stop()


@contextlib.asynccontextmanager
async def aiodataloader(device: Device, size: int) -> AsyncIterator[Ask]:
    from aiodataloader import DataLoader

    async def load(prompts: list[str]) -> list[str]:
        return await to_thread.run_sync(device.batch_request, prompts)

    loader: Any = DataLoader(load, max_batch_size=size, cache=False)
    yield lambda prompt, _: loader.load(prompt)


@contextlib.asynccontextmanager
async def ours(device: Device, size: int, *, by_length: bool = False) -> AsyncIterator[Ask]:
    from cachesaver import Cache, local

    with TemporaryDirectory() as folder, Cache(folder) as cache:
        by = len if by_length else None
        async with local(device, cache, scope="model", batch_size=size, timeout=60, by=by) as api:

            async def ask(prompt: str, number: int) -> str:
                return (await api.request(prompt, namespace=f"agent {number}"))[0]

            yield ask


CONTENDERS: dict[str, Any] = {
    "one by one": one_by_one,
    "cachesaver 0.0.6, LocalAPI": predecessor,
    "batched": batched,
    "async-batcher": async_batcher,
    "aiodataloader": aiodataloader,
    "ours": ours,
    "ours, by length": partial(ours, by_length=True),
}


async def run(job: dict[str, Any], device: Device) -> dict[str, Any]:
    """All agents, or as much of them as *job* has seconds for; then a request that is alone."""
    async with CONTENDERS[job["contender"]](device, job["batch_size"]) as ask:
        device.living = job["agents"]
        start = time.perf_counter()
        with anyio.move_on_after(job["seconds"]):
            async with create_task_group() as agents:
                for number in range(job["agents"]):
                    agents.start_soon(agent, number, ask, device, job["words"])
        outcome = {
            "seconds": time.perf_counter() - start,
            "busy": device.busy,
            "batches": list(device.batches),
            "tokens": device.generated,
            "finished": job["agents"] - device.living,
        }
        return {**outcome, "lone": min([await lone(ask, device, number) for number in range(LONE)])}


LONE = 2  #: requests, one after another: one of them may meet another program's work


async def lone(ask: Ask, device: Device, number: int) -> float:
    """Seconds that a request takes beside the model's own time, when nobody else asks."""
    start, before = time.perf_counter(), device.busy
    await ask(f"{number}. Nobody is here, so", -1 - number)
    return time.perf_counter() - start - (device.busy - before)


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    device = Device(job)
    device.batch_request(["Warm."])
    device.batches.clear()
    device.generated, device.busy = 0, 0.0
    print(json.dumps(anyio.run(run, job, device, backend=job["backend"])))


if __name__ == "__main__":
    main()
