"""Every public call is cancelled at its first suspension, at its second, and so on until it ends by itself.

So it is after one turn of the event loop, after two, and so on: a caller suspends
once and waits, and what matters is where the stages are by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
import sniffio
from anyio import CancelScope, create_memory_object_stream, create_task_group, fail_after, sleep

from cachesaver import (
    Cache,
    Cacher,
    Deduplicator,
    Dispatcher,
    Request,
    RoundRobinLimiter,
    Stage,
    _drawer,
    local,
    online,
)
from cachesaver.testing import CountingModel

from .durability._sales import figure
from .test_cancellation import settled, ticks

pytestmark = pytest.mark.anyio


class Suspensions:
    """Awaits a coroutine, and calls *strike* when it suspends for the *at*-th time."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, strike: Callable[[], object]) -> None:
        self.struck = False
        self._coroutine = coroutine
        self._at = at
        self._strike = strike

    def __await__(self) -> Generator[Any, Any, Any]:
        step: Callable[[], Any] = lambda: self._coroutine.send(None)  # noqa: E731
        count = 0
        while True:
            try:
                trap = step()
            except StopIteration as end:
                return end.value
            count += 1
            if count == self._at:
                self.struck = True
                self._strike()
            try:
                value = yield trap
                step = lambda value=value: self._coroutine.send(value)  # noqa: E731
            except BaseException as error:
                step = lambda error=error: self._coroutine.throw(error)  # noqa: E731


Work = Callable[[], Coroutine[Any, Any, Any]]


async def by_scope(at: int, work: Work) -> tuple[bool, Any]:
    """Whether *work* came to its *at*-th suspension, and what it returned if it ended nevertheless."""
    with CancelScope() as scope:
        watched = Suspensions(work(), at, scope.cancel)
        got = await watched
        return watched.struck, got
    return True, None


async def natively(at: int, work: Work) -> tuple[bool, Any]:
    """The same with `task.cancel()`, as asyncio programs do it."""
    watched: Suspensions

    async def run() -> Any:
        return await watched

    task: asyncio.Task[Any] = asyncio.ensure_future(_later(run))
    watched = Suspensions(work(), at, task.cancel)
    with suppress(asyncio.CancelledError):
        got = await task
        return watched.struck, got
    return True, None


async def _later(run: Callable[[], Awaitable[Any]]) -> Any:
    return await run()


async def by_scope_after(turns: int, work: Work) -> tuple[bool, Any]:
    """The same after some turns of the event loop, and for the last time when *work* has ended."""
    got: list[Any] = []

    async def run() -> None:
        got.append(await work())

    async with create_task_group() as tasks:
        tasks.start_soon(run)
        await ticks(turns)
        struck = not got
        tasks.cancel_scope.cancel()
    return struck, got[0] if got else None


async def natively_after(turns: int, work: Work) -> tuple[bool, Any]:
    """The same with `task.cancel()`."""
    task = asyncio.ensure_future(work())
    await ticks(turns)
    struck = task.cancel()
    with suppress(asyncio.CancelledError):
        got = await task
        return struck, got
    return True, None


class Immediate(Cache):
    """Its jobs are done in the turn that asks for them, so that the turns of a call are the same each time."""

    def _submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        future = super()._submit(work)
        wait([future])
        return future

    _look = _submit


WAYS = {"scope": by_scope, "natively": natively, "scope, turns": by_scope_after, "natively, turns": natively_after}
STRIDE = figure(7, 1)  # turns from one cancellation to the next
STACKS: dict[str, Callable[[Any, Cache], Stage]] = {
    "online": lambda model, cache: online(model, cache),
    "local": lambda model, cache: local(model, cache, batch_size=2),
    "bare": lambda model, cache: Deduplicator(Cacher(Dispatcher(model), cache)),
}


async def one(api: Stage) -> Any:
    return (await api.request("p", 1, "a", "x")).data


async def several(api: Stage) -> Any:
    return (await api.request("p", 3, "a", "x")).data


async def nameless(api: Stage) -> Any:
    return (await api.request("p", 2, "a")).data


async def batch(api: Stage) -> Any:
    asked = [Request(prompt, 2, namespace, prompt) for prompt in "pq" for namespace in "ab"]
    return [response.data for response in await api.batch_request(asked)]


async def ordered(api: Stage) -> Any:
    async with api.map("pqrst", window=2) as responses:
        return [response.data async for response in responses]


async def unordered(api: Stage) -> Any:
    async with api.map("pqrst", window=2, ordered=False) as responses:
        return sorted([response.data async for response in responses])


async def process(api: Stage) -> Any:
    requests, to_ask = create_memory_object_stream[Any](9)
    answers, answered = create_memory_object_stream[Any](9)
    with requests, to_ask, answers, answered:
        for prompt in "pqr":
            requests.send_nowait(Request(prompt, request_id=prompt))
        requests.close()
        await api.process(to_ask, answers)
        return sorted([answered.receive_nowait().data for _ in range(3)])


CALLS = {call.__name__: call for call in (one, several, nameless, batch, ordered, unordered, process)}


@asynccontextmanager
async def no_hang() -> AsyncGenerator[None]:
    """Fail what takes ten virtual minutes; in steps of a second, or a slow disk would be taken for a hang."""

    async def tick() -> None:
        while True:  # noqa: ASYNC110 (it is the clock that needs it)
            await sleep(1)

    async with create_task_group() as tasks:
        tasks.start_soon(tick)
        with fail_after(600):
            yield
        tasks.cancel_scope.cancel()


def ways(backend: str) -> list[str]:
    return [way for way in WAYS if backend == "asyncio" or "natively" not in way]


def moments(way: str) -> range:
    return range(1, 5000, STRIDE) if "turns" in way else range(1, 1000)


async def stored(cache: Cache) -> int:
    return sum(known.samples for known in cache.known_prompts(100).result())


async def expected(stack: Callable[[Any, Cache], Stage], call: Callable[[Stage], Awaitable[Any]], folder: Path) -> Any:
    """What an undisturbed call gets, and how many samples that takes."""
    model = CountingModel()
    with Cache(folder) as cache:
        async with stack(model, cache) as api:
            return await call(api), model.sold


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_every_suspension_of_every_call(stack: str, call: str, warm: bool, tmp_path: Path) -> None:
    """F6, S14, S5: asked again it gets what it would have got; nothing is bought twice, all that was is stored."""
    build, ask = STACKS[stack], CALLS[call]
    wanted, needed = await expected(build, ask, tmp_path / "undisturbed")
    for way in ways(sniffio.current_async_library()):
        for at in moments(way):
            model = CountingModel()
            async with no_hang():
                with Immediate(tmp_path / f"{way}-{at}") as cache:
                    if warm:
                        async with build(model, cache) as api:
                            await ask(api)
                    async with build(model, cache) as api:
                        struck, got = await WAYS[way](at, lambda api=api: ask(api))
                        if got is None and call not in STREAMS:
                            got = await ask(api)
                        await settled(api)
                    assert await stored(cache) == model.sold <= needed
                    async with build(model, cache) as api:
                        again = await ask(api)
                    assert again == wanted
                    assert got in (wanted, None)
                    assert await stored(cache) == model.sold == needed
            if not struck:
                break
        assert at > 1


# What they had answered before they were cancelled, their caller has seen: asked again they go on behind it.
STREAMS = {"ordered", "unordered", "process"}


@pytest.mark.parametrize("stack", STACKS)
async def test_every_pair_of_suspensions(stack: str, tmp_path: Path) -> None:
    """F5, F6, S2: two callers who want the same, cancelled at any two of their suspensions; a third is not."""
    for first in range(1, 5):
        for second in range(1, 5):
            model = CountingModel()
            async with no_hang():
                with Cache(tmp_path / f"{first}-{second}") as cache:
                    async with STACKS[stack](model, cache) as api, create_task_group() as tasks:
                        got: list[Any] = []

                        async def undisturbed(api: Stage = api, got: list[Any] = got) -> None:
                            got.append((await api.request("p", 2, "c", "x")).data)

                        def asking(namespace: str, api: Stage = api) -> Work:
                            async def work() -> Any:
                                return (await api.request("p", 2, namespace, "x")).data

                            return work

                        tasks.start_soon(by_scope, first, asking("a"))
                        tasks.start_soon(undisturbed)
                        tasks.start_soon(by_scope, second, asking("b"))
                    assert got == [["p#0", "p#1"]]
                    assert await stored(cache) == model.sold == 2


@pytest.mark.parametrize("stack", STACKS)
async def test_every_suspension_of_a_stack(stack: str, tmp_path: Path) -> None:
    """F7: cancelled while it is entered, used or left: what was sold is stored, and it can be entered again."""
    for way in ways(sniffio.current_async_library()):
        for at in moments(way):
            model = CountingModel()
            async with no_hang():
                with Immediate(tmp_path / f"{way}-{at}") as cache:
                    api = STACKS[stack](model, cache)

                    async def life(api: Stage = api) -> Any:
                        async with api:
                            return await batch(api)

                    struck, _ = await WAYS[way](at, life)
                    assert await stored(cache) == model.sold
                    async with api:
                        assert [answers[0] for answers in await batch(api)] == ["p#0", "p#0", "q#0", "q#0"]
                    assert await stored(cache) == model.sold == 4
            if not struck:
                break
        assert at > 2


async def test_every_suspension_of_a_limiter() -> None:
    """L2: whoever is cancelled where, the key comes back."""
    for way in ways(sniffio.current_async_library()):
        for at in moments(way):
            limiter = RoundRobinLimiter()
            limiter.add_resource("key")

            async def use(limiter: RoundRobinLimiter = limiter) -> Any:
                async with limiter as resource:
                    await anyio.lowlevel.checkpoint()
                    return resource.data

            async with create_task_group() as tasks:
                tasks.start_soon(use)
                struck, _ = await WAYS[way](at, use)
            with fail_after(1):
                assert await use() == "key"
            if not struck:
                break
        assert at > 1


async def test_control_without_giving_back_a_retry_gets_another_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S14: the test of every call fails when a caller that leaves takes its ordinal along."""
    monkeypatch.setattr(_drawer.Drawer, "give_back_ordinal", lambda drawer, label, ordinal: None)
    monkeypatch.setitem(globals(), "STRIDE", 1)
    with pytest.raises(ExceptionGroup) as error:
        await test_every_suspension_of_every_call("online", "one", warm=False, tmp_path=tmp_path)
    assert error.group_contains(AssertionError)
