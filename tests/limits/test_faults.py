"""What a limiter has to bear: errors nobody can read, nonsense as numbers, loops that stop, keys that go meanwhile."""

from __future__ import annotations

import asyncio
import gc
import math
from http import HTTPStatus
from typing import Any

import anyio
import pytest
from anyio import create_task_group, current_time, fail_after, move_on_after, sleep, wait_all_tasks_blocked

from cachesaver import Dispatcher, LeakyBucket, NoResources, RoundRobinLimiter
from cachesaver._limits._adaptive import FIRST_WINDOW
from cachesaver._limits._pushback import Fate, read
from cachesaver._limits._rate import Meter

from ._provider import APIStatusError

IDLE = "<RoundRobinLimiter: 1 of 1 resources left, 0 requests in flight, 0 wait>"


def limiter_of_one(**options: Any) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter()
    limiter.add_resource("a", **options)
    return limiter


class Silent(Exception):
    status_code = 500

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Closed(Exception):
    @property
    def response(self) -> Any:
        raise RuntimeError("the response was closed")


FAR = "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
UNREADABLE = [Silent(), Closed(), APIStatusError(429, "headers"), APIStatusError(429, {"retry-after": FAR})]  # type: ignore[arg-type]


@pytest.mark.anyio
class TestErrors:
    @pytest.mark.parametrize("error", UNREADABLE)
    async def test_that_cannot_be_read(self, error: Exception) -> None:
        """L2: the resource comes back, the error is the caller's."""
        limiter = limiter_of_one()
        with pytest.raises(type(error)):
            async with limiter:
                raise error
        assert repr(limiter) == IDLE

    async def test_a_group_of_one(self) -> None:
        """L5: a model with a task group."""
        assert read(ExceptionGroup("g", [ExceptionGroup("h", [APIStatusError(429)])])).fate is Fate.REFUSED
        assert read(ExceptionGroup("g", [ValueError(), APIStatusError(429)])).fate is Fate.FAILED

    async def test_a_status_of_the_standard_library(self) -> None:
        """L5: it is an integer, too."""
        assert read(APIStatusError(HTTPStatus.TOO_MANY_REQUESTS)).fate is Fate.REFUSED


@pytest.mark.anyio
class TestNonsense:
    @pytest.mark.parametrize("tokens", ["12", math.nan, math.inf, -1])
    async def test_as_tokens(self, tokens: Any) -> None:
        """L4: refused before anything is lent; nobody else suffers."""
        limiter = limiter_of_one(rate=LeakyBucket(tokens=5, period=1))
        with pytest.raises(ValueError, match="tokens must be a number"):
            limiter.request(tokens=tokens)
        broken = RoundRobinLimiter(estimate=lambda prompt, n: tokens)
        with pytest.raises(ValueError, match="what `estimate` returns must be a number"):
            broken.request("p")
        with pytest.raises(ValueError, match="priority must be a number"):
            limiter.request(priority=math.nan)
        async with limiter:
            pass
        assert repr(limiter) == IDLE

    async def test_in_a_prompt(self) -> None:
        """L4: it is the server's to refuse."""
        limiter = limiter_of_one(capacity=2)
        async with limiter.request({"max_tokens": 10**400}), limiter.request({"max_tokens": -5, "model": 7}):
            pass
        assert repr(limiter) == IDLE

    @pytest.mark.parametrize("told", [-(10**30), 10**400])
    async def test_as_usage(self, told: int) -> None:
        """What is paid for is answered, whatever the server says that it cost."""

        async def model(prompt: str, resource: Any) -> Any:
            return {"usage": {"prompt_tokens": told, "completion_tokens": told}}

        async with Dispatcher(model, limiter_of_one(rate=LeakyBucket(tokens=1e12))) as api:
            with fail_after(100):
                assert len(await api.request("p")) == 1


@pytest.mark.anyio
class TestRaces:
    async def test_a_request_that_is_entered_twice_at_once(self) -> None:
        """L2: the second is told so; the first has its resource."""
        limiter = limiter_of_one()
        request = limiter.request()

        async def enter() -> None:
            async with request:
                pass

        async with limiter:
            async with create_task_group() as tasks:
                tasks.start_soon(enter)
                await wait_all_tasks_blocked()
                with pytest.raises(RuntimeError, match="under way already"):
                    await request.__aenter__()
                tasks.cancel_scope.cancel()
        async with request:  # and it may be used again
            pass
        assert repr(limiter) == IDLE

    async def test_a_key_that_is_retired_on_the_way(self) -> None:
        """L1: who was served and has not gone on yet gets another one, or the reasons."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 3)
        got: list[Any] = []

        async def ask() -> None:
            try:
                async with limiter as resource:
                    got.append(resource.data)
            except NoResources as error:
                got.append(error)

        async with limiter as first, limiter, limiter:
            async with create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask)
                await wait_all_tasks_blocked()
                limiter.add_resource("b", 3)  # all three are served, and run when we wait
                limiter._pool.change(
                    current_time(), lambda _: [setattr(key, "retired", "why") for key in limiter._pool._turn]
                )
        assert first.data == "a"
        assert [type(each) for each in got] == [NoResources] * 3

    async def test_a_waiter_that_was_cancelled_before_it_came(self) -> None:
        """L4: it spends nothing of what a provider has announced."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 100)
        async with limiter as resource:
            resource.announced({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "60"})
        start = current_time()
        for _ in range(20):
            with move_on_after(-1):
                async with limiter:
                    raise AssertionError("it was cancelled")
        async with limiter.request() as unsent:
            unsent.unused()
        async with limiter:
            assert current_time() == start

    async def test_learning_that_begins_later(self) -> None:
        """L4: a key without a number, added to a group that is in use."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 1, group="g")
        async with limiter:
            limiter.add_resource("b", None, group="g")
            async with create_task_group() as tasks:
                for _ in range(50):
                    tasks.start_soon(hold, limiter)
                await wait_all_tasks_blocked()
                assert f"{FIRST_WINDOW + 1} requests in flight" in repr(limiter)
                tasks.cancel_scope.cancel()

    async def test_namespaces_that_have_left(self) -> None:
        """L1: two hundred waits that were cancelled are not held against their namespace."""
        limiter, order = limiter_of_one(), []

        async def ask(namespace: str) -> None:
            async with limiter.request(namespace=namespace):
                order.append(namespace)

        async with create_task_group() as tasks:
            async with limiter:
                async with create_task_group() as left:
                    for _ in range(200):
                        left.start_soon(ask, "small")
                    await wait_all_tasks_blocked()
                    left.cancel_scope.cancel()
                for _ in range(100):
                    tasks.start_soon(ask, "large")
                await wait_all_tasks_blocked()
                tasks.start_soon(ask, "small")
                await wait_all_tasks_blocked()
        assert order.index("small") <= 1

    async def test_turns_within_a_priority(self) -> None:
        """L1: what more urgent ones got is not held against a namespace."""
        limiter, order = limiter_of_one(), []

        async def ask(namespace: str, priority: float) -> None:
            async with limiter.request(namespace=namespace, priority=priority):
                order.append(namespace)
                await sleep(1)

        async with create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(ask, "large", 0.0)
            for _ in range(60):
                tasks.start_soon(ask, "urgent", 1.0)
            await sleep(61.5)
            tasks.start_soon(ask, "small", 0.0)
        late = order[62:]
        assert late.index("small") <= 1


async def hold(limiter: RoundRobinLimiter) -> None:
    async with limiter:
        await sleep(1000)


async def test_tokens_of_a_batch() -> None:
    """L4: of all its prompts, not of the dearest."""

    class Batches:
        async def batch_request(self, prompts: list[str]) -> list[Any]:
            return [{"usage": {"prompt_tokens": 50, "completion_tokens": 50}} for _ in prompts]

    limiter = limiter_of_one(rate=LeakyBucket(tokens=100, period=1))
    async with Dispatcher(Batches(), limiter) as api:
        await api.request("p", n=10)
        start = current_time()
        async with limiter:
            assert current_time() - start == pytest.approx(10, abs=0.1)


test_tokens_of_a_batch = pytest.mark.anyio(test_tokens_of_a_batch)


def test_a_meter_remembers_what_came_late() -> None:
    """L4: two thousand in flight, each ten times dearer than was thought."""
    meter = Meter(1000, 1)
    charges = [meter.charge(0.0, 1) for _ in range(2000)]
    for charge in charges:
        meter.settle(charge, 10)
    assert meter.ready_at == pytest.approx(20)


class TestLoops:
    def test_a_loop_that_was_closed(self) -> None:
        """L2: what it held and what waited in it goes with it, when the garbage collector comes."""
        limiter = limiter_of_one()

        async def hold_for_good() -> None:
            async with limiter.request():
                await asyncio.Event().wait()

        async def wait_for_good() -> None:
            async with limiter.request():
                raise AssertionError("nobody runs it")

        loop = asyncio.new_event_loop()
        tasks = [loop.create_task(hold_for_good()), loop.create_task(wait_for_good())]
        loop.run_until_complete(asyncio.sleep(0.01))
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        del task, tasks, loop
        gc.collect()

        async def main() -> None:
            with fail_after(5):
                async with limiter:
                    pass

        anyio.run(main)
        anyio.run(main, backend="trio")
        assert "0 requests in flight" in repr(limiter)

    def test_a_loop_between_two_runs(self) -> None:
        """L1: who waits in it steps aside for others, and has its place again when it runs."""
        limiter = limiter_of_one()
        got: list[str] = []

        async def hold_then(release: asyncio.Event) -> None:
            async with limiter.request():
                await release.wait()

        async def wait() -> None:
            async with limiter.request():
                got.append("the first")

        loop = asyncio.new_event_loop()
        try:
            release = asyncio.Event()
            holder = loop.create_task(hold_then(release))
            waiter = loop.create_task(wait())

            async def turn() -> None:
                await asyncio.sleep(0.01)

            loop.run_until_complete(turn())
            limiter.add_resource("b")  # the waiter's, but its loop stands still

            async def main() -> None:
                with fail_after(5):
                    async with limiter as resource:
                        got.append(resource.data)

            anyio.run(main, backend="trio")
            release.set()
            loop.run_until_complete(asyncio.gather(holder, waiter))
        finally:
            loop.close()
        assert got == ["b", "the first"]

    def test_a_resource_after_its_loop(self) -> None:
        """L5: any thread may tell something of it at any time."""
        limiter = limiter_of_one()
        kept: list[Any] = []

        async def main() -> None:
            async with limiter as resource:
                kept.append(resource)

        for backend in ("asyncio", "trio"):
            anyio.run(main, backend=backend)
            kept[-1].rest(0.2)
            kept[-1].used(tokens=3)
            start = anyio.run(now)
            anyio.run(main, backend=backend)
            assert 0.1 <= anyio.run(now) - start <= 5


async def now() -> float:
    return current_time()
