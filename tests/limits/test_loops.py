"""One limiter in many threads and event loops at once: its promises hold for all of them together."""

from __future__ import annotations

import gc
import threading
import time
import types
from collections import Counter
from itertools import pairwise
from typing import Any

import anyio
import pytest
from anyio import create_task_group, fail_after, sleep

from cachesaver import LeakyBucket, RoundRobinLimiter
from cachesaver._limits._quota import Quota

BACKENDS = ["asyncio", "trio", "asyncio", "trio"]


def in_threads(*mains: tuple[str, object]) -> None:
    """Run each (backend, main) in a thread and an event loop of its own."""
    errors: list[BaseException] = []

    def run(backend: str, main: object) -> None:
        try:
            anyio.run(main, backend=backend)  # type: ignore[arg-type]
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=main) for main in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []


def test_a_capacity_is_that_of_all() -> None:
    """L1: four loops, three at once on each of two keys."""
    limiter, lock, in_use, peak = RoundRobinLimiter(), threading.Lock(), Counter[str](), Counter[str]()
    for key in "ab":
        limiter.add_resource(key, 3)

    async def use() -> None:
        for _ in range(20):
            async with limiter as resource:
                with lock:
                    in_use[resource.data] += 1
                    peak[resource.data] = max(peak[resource.data], in_use[resource.data])
                await sleep(0.0005)
                with lock:
                    in_use[resource.data] -= 1

    async def main() -> None:
        with fail_after(50):
            async with create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(use)

    in_threads(*[(backend, main) for backend in BACKENDS])
    assert peak == {"a": 3, "b": 3}
    assert repr(limiter).endswith("0 requests in flight, 0 wait>")


def test_a_rate_is_that_of_all() -> None:
    """L4: a hundred a second, whoever asks."""
    limiter, starts = RoundRobinLimiter(), []
    limiter.add_resource("a", 100, LeakyBucket(requests=100, period=1))

    async def use() -> None:
        async with limiter as resource:
            starts.append(resource.start.at)

    async def main() -> None:
        with fail_after(50):
            async with create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(use)

    begin = time.monotonic()
    in_threads(*[(backend, main) for backend in BACKENDS])
    assert time.monotonic() - begin >= 0.39
    assert len(starts) == 40
    assert min(later - earlier for earlier, later in pairwise(sorted(starts))) >= 0.01 - 1e-9


def test_a_loop_that_stands_still_holds_up_nobody() -> None:
    """L1: one that keeps the time for others would."""
    import asyncio

    limiter = RoundRobinLimiter()
    limiter.add_resource("a", 100, LeakyBucket(requests=20, period=1))

    async def ask() -> None:
        async with limiter:
            pass

    async def begin() -> asyncio.Task[None]:
        await ask()
        task = asyncio.ensure_future(ask())  # waits for the rate, when the loop stops
        await asyncio.sleep(0)
        return task

    loop = asyncio.new_event_loop()
    try:
        task = loop.run_until_complete(begin())

        async def main() -> None:
            with fail_after(10):
                await ask()

        in_threads(("trio", main))
        loop.run_until_complete(task)
    finally:
        loop.close()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_left_in_another_task(backend: str) -> None:
    """L2: it says what to do instead."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a")

    async def main() -> None:
        async with limiter:
            async with create_task_group() as tasks:
                tasks.start_soon(leave)

    async def leave() -> None:
        with pytest.raises(RuntimeError, match=r"limiter\.request\(\)"):
            await limiter.__aexit__(None, None, None)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_request_may_be_left_in_another_task(backend: str) -> None:
    """L2: it knows what it was lent; and is one request, not two."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a")

    async def main() -> None:
        request = limiter.request()
        await request.__aenter__()
        with pytest.raises(RuntimeError, match="make one for each"):
            await request.__aenter__()
        async with create_task_group() as tasks:
            tasks.start_soon(request.__aexit__, None, None, None)

    anyio.run(main, backend=backend)
    assert repr(limiter).endswith("0 requests in flight, 0 wait>")


class Knot:
    """Something that only the garbage collector can undo."""


@types.coroutine
def never() -> Any:
    yield


def test_the_garbage_collector_gives_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """L2: it ends a forgotten coroutine wherever it runs, in the middle of a change of the same limiter, too."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a", 2)

    async def forgotten(knot: Any) -> None:
        async with limiter.request():
            knot.itself = knot
            await never()

    start = Quota.start

    def collecting(quota: Quota, *args: Any) -> Any:
        gc.collect()
        return start(quota, *args)

    async def main() -> None:
        knot: Any = Knot()
        knot.coroutine = forgotten(knot)
        while knot.coroutine.send(None) is not None:
            pass
        del knot
        monkeypatch.setattr(Quota, "start", collecting)
        async with limiter:
            pass

    gc.disable()
    try:
        anyio.run(main)  # the coroutine is driven by hand, as trio's cannot be
    finally:
        gc.enable()
    assert repr(limiter).endswith("0 requests in flight, 0 wait>")
