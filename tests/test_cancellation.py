"""A caller is cancelled at every tick of its request: nobody else notices, nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, move_on_after, sleep, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from cachesaver import Batcher, Cache, Cacher, Deduplicator, Dispatcher, Reorderer, Request, Stage, local, online
from cachesaver.testing import CountingModel, FakeBatchModel

pytestmark = pytest.mark.anyio

TICKS = [*range(24), *range(24, 60, 4), *range(60, 400, 40)]
STACKS: dict[str, Callable[[Cache, Any], Stage]] = {
    "online": lambda cache, model: online(model, cache),
    "local": lambda cache, model: local(model, cache, batch_size=4),
    "cacher alone": lambda cache, model: Cacher(model, cache),
    "a stack over a stack": lambda cache, model: Batcher(Deduplicator(Cacher(local(model, cache), cache, scope="top"))),
}


class Ticking(CountingModel):
    """Takes a few turns of the event loop for each call, instead of time."""

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        for _ in range(6):
            await checkpoint()
        return await super().request(prompt, n)


async def ticks(n: int) -> None:
    for _ in range(n):
        await checkpoint()


async def cancelled_after(n: int, work: Callable[[], Awaitable[Any]]) -> None:
    """Do *work*, unless it takes more than *n* turns of the event loop."""
    async with create_task_group() as tasks:
        tasks.start_soon(work)
        await ticks(n)
        tasks.cancel_scope.cancel()


async def natively_cancelled_after(n: int, work: Callable[[], Awaitable[Any]]) -> None:
    """The same with asyncio's own cancellation, which knows no scopes."""
    task = asyncio.ensure_future(work())
    await ticks(n)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def settled(api: Stage) -> None:
    """Wait until no stage owes anything to anybody any more: a ticket left behind would never go."""
    stages = [api]
    while stages[-1].below is not None:
        stages.append(stages[-1].below)
    with fail_after(60):
        while any(stage.owed for stage in stages):  # noqa: ASYNC110 (no event tells of the last one)
            await sleep(0.1)


async def check_a_cancelled_request(
    api: Stage, model: CountingModel, cancel: Callable[[Callable[[], Awaitable[Any]]], Awaitable[None]]
) -> None:
    """One caller is cancelled; its neighbours and its own retry get what they would have got."""
    got: dict[str, list[Any]] = {}

    async def ask(name: str, *request: Any) -> None:
        got[name] = (await api.request(*request)).positions

    async def victim() -> None:
        await ask("victim", "p", 2, "a", "x")

    async with create_task_group() as tasks:
        tasks.start_soon(cancel, victim)
        tasks.start_soon(ask, "neighbour", "p", 1, "b", "x")
        tasks.start_soon(ask, "other", "q", 1, "a", "x")
    assert (got["neighbour"], got["other"]) == ([0], [0])
    if "victim" not in got:
        await victim()
    assert got["victim"] == [0, 1]
    assert model.sold == 3
    await settled(api)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("after", TICKS)
async def test_at_every_tick(stack: str, after: int, tmp_path: Path) -> None:
    """F6, S14: with a scope of anyio."""
    model = Ticking()
    with Cache(tmp_path) as cache:
        for run in range(2):
            async with STACKS[stack](cache, model) as api:
                await check_a_cancelled_request(api, model, lambda victim: cancelled_after(after, victim))
            assert api.stats.bought == (0 if run else 3)


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("after", TICKS)
def test_at_every_tick_by_asyncio_itself(stack: str, after: int, tmp_path: Path) -> None:
    """F6, S14: with `task.cancel()`, as asyncio programs do it."""

    async def run() -> None:
        model = Ticking()
        with Cache(tmp_path) as cache:
            for _ in range(2):
                async with STACKS[stack](cache, model) as api:
                    await check_a_cancelled_request(api, model, lambda victim: natively_cancelled_after(after, victim))

    asyncio.run(run())


@pytest.mark.parametrize("after", TICKS)
@pytest.mark.parametrize("door", ["batch_request", "map"])
async def test_many_at_once(door: str, after: int, tmp_path: Path) -> None:
    """F6, S14: a whole batch is cancelled, and asked again."""
    model = Ticking()
    requests = [Request(prompt, 2, "a", prompt) for prompt in "abcde"]

    first: list[list[Any]] = []  # what the call got, should it have ended before it was cancelled

    async def ask() -> list[list[Any]]:
        if door == "batch_request":
            return [response.data for response in await api.batch_request(requests)]
        async with api.map(requests, window=3) as responses:
            return [response.data async for response in responses]

    async def ask_first() -> None:
        first.extend(await ask())

    with Cache(tmp_path) as cache:
        async with online(model, cache) as api:
            await cancelled_after(after, ask_first)
            answers = (first or await ask()) if door == "batch_request" else None
            await settled(api)
        if answers is not None:
            assert model.sold == 10
            assert answers == [[f"{prompt}#0", f"{prompt}#1"] for prompt in "abcde"]
        async with online(model, cache) as api:
            assert await ask() == [[f"{prompt}#0", f"{prompt}#1"] for prompt in "abcde"]
        assert model.sold == 10


async def test_before_anything_is_sent_nothing_is_bought(cache: Cache) -> None:
    """F6: a request that waited for a resource and was given up is not sent any more."""
    from cachesaver import RoundRobinLimiter

    limiter = RoundRobinLimiter()
    limiter.add_resource("key")
    model = CountingModel(delay=10)
    async with online(model, cache, limiter=limiter) as api, create_task_group() as tasks:
        tasks.start_soon(api.request, "first")
        await wait_all_tasks_blocked()
        with move_on_after(1):
            await api.request("second")
    assert [prompt for prompt, _ in model.calls] == ["first"]


async def test_what_was_sent_is_recorded_when_it_arrives(cache: Cache) -> None:
    """F6: the caller has left long since."""
    model = CountingModel(delay=10)
    async with online(model, cache) as api:
        with move_on_after(1):
            await api.request("p", n=3)
    assert model.sold == 3
    async with online(model, cache, mode="offline") as api:
        assert (await api.request("p", n=3)).data == ["p#0", "p#1", "p#2"]


async def test_who_ordered_may_leave(cache: Cache) -> None:
    """F6: those who wait for the same purchase get it."""
    model = CountingModel(delay=10)
    got: list[Any] = []

    async def wait() -> None:
        got.append((await api.request("p", namespace="b")).data)

    async with online(model, cache) as api, create_task_group() as tasks:
        with CancelScope() as scope:
            async with create_task_group() as victims:
                victims.start_soon(api.request, "p", 1, "a")
                await wait_all_tasks_blocked()
                tasks.start_soon(wait)
                await wait_all_tasks_blocked()
                scope.cancel()
    assert got == [["p#0"]]
    assert model.sold == 1


async def test_a_waiter_may_leave(cache: Cache) -> None:
    """F6: who ordered gets it all the same, and the one that left gets it when it asks again."""
    model = CountingModel(delay=10)
    async with online(model, cache) as api, create_task_group() as tasks:
        tasks.start_soon(api.request, "p", 1, "a")
        await wait_all_tasks_blocked()
        with move_on_after(1):
            await api.request("p", namespace="b")
        assert (await api.request("p", namespace="b")).data == ["p#0"]
    assert model.sold == 1


async def test_everybody_leaves_a_batch(cache: Cache) -> None:
    """F6: of a batch that is on its way everything is kept; of one that has yet to leave nothing is bought."""
    model = FakeBatchModel(delay=10)
    async with local(model, cache, batch_size=2, timeout=5) as api:
        with move_on_after(1):
            async with create_task_group() as tasks:
                for prompt in "abc":
                    tasks.start_soon(api.request, prompt)
    assert [number for _, number in model.calls] == [2]
    async with local(model, cache) as api:
        assert sorted([(await api.request(prompt)).cached[0] for prompt in "abc"]) == [False, True, True]


async def test_a_full_inbox_may_be_left() -> None:
    """F6, F8: a caller that waits at the door of a stage that is busy."""

    class Stuck(Stage):
        async def run(self, inbox: Any) -> None:
            await release.wait()
            async for tickets in inbox:
                for ticket in tickets:
                    ticket.reply([ticket.prompt.fresh()])

    release = Event()
    async with Stuck() as api:
        with move_on_after(1):
            async with create_task_group() as tasks:
                for number in range(200):
                    tasks.start_soon(api.request, number)
        release.set()
        with fail_after(1):
            assert (await api.request("after")).data == ["after"]
        await settled(api)


async def test_a_tower_of_stages(cache: Cache) -> None:
    """F6: however many stages lie between."""
    model = Ticking()
    stack: Stage = Dispatcher(model)
    for _ in range(5):
        stack = Batcher(Reorderer(Deduplicator(stack)), batch_size=3)
    async with Cacher(stack, cache) as api:
        await check_a_cancelled_request(api, model, lambda victim: cancelled_after(20, victim))
