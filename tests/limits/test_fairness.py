"""Who is next: namespaces take turns, priorities go first, and a place in the line is kept."""

from __future__ import annotations

import random

import pytest
from anyio import create_task_group, current_time, sleep, wait_all_tasks_blocked

from cachesaver import Cache, Cacher, Dispatcher, LeakyBucket, Request, RoundRobinLimiter
from cachesaver._limits import _line
from cachesaver.testing import CountingModel, jumping

pytestmark = pytest.mark.anyio


async def served(limiter: RoundRobinLimiter, asks: list[tuple[str, float]]) -> list[str]:
    """The namespaces in the order in which they were served, one a second, when all waited at once."""
    order: list[str] = []

    async def ask(namespace: str, priority: float) -> None:
        async with limiter.request(namespace=namespace, priority=priority or None):
            order.append(namespace)
            await sleep(1)

    async with create_task_group() as tasks:
        async with limiter:
            for namespace, priority in asks:
                tasks.start_soon(ask, namespace, priority)
                await wait_all_tasks_blocked()
    return order


def limiter_of_one(**options: object) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter(**options)  # type: ignore[arg-type]
    limiter.add_resource("a")
    return limiter


async def test_namespaces_take_turns() -> None:
    """L1: three requests of a small namespace among a hundred of a large one that came before."""
    order = await served(limiter_of_one(), [("large", 0)] * 100 + [("small", 0)] * 3)
    assert order[:7] == ["large", "small", "large", "small", "large", "small", "large"]


async def test_who_comes_later_takes_turns_too() -> None:
    """L1: with what is left, not with what was served before it came."""
    limiter, order = limiter_of_one(), []

    async def ask(namespace: str) -> None:
        async with limiter.request(namespace=namespace):
            order.append(namespace)
            await sleep(1)

    async with create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(ask, "large")
        await sleep(20.5)
        for _ in range(3):
            tasks.start_soon(ask, "small")
    late = order[21:]
    assert late.index("small") <= 1
    assert [place for place, name in enumerate(late) if name == "small"][-1] <= 6


async def test_many_namespaces_get_equal_shares() -> None:
    """L1: whatever they ask for, after any number of turns none is more than one ahead of another that still waits."""
    chance = random.Random(11)
    wanted = {f"n{number}": chance.randint(1, 40) for number in range(12)}
    asks = [(name, 0.0) for name, count in wanted.items() for _ in range(count)]
    chance.shuffle(asks)
    order = await served(limiter_of_one(), asks)
    got = dict.fromkeys(wanted, 0)
    for name in order:
        got[name] += 1
        waiting = [got[each] for each in wanted if got[each] < wanted[each]]
        assert not waiting or got[name] - min(waiting) <= 1


async def test_control_first_come_first_served_alone_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1: without turns, the small one waits for all of the large one."""
    monkeypatch.setattr(_line.Waiter, "__lt__", lambda waiter, other: waiter.order[2] < other.order[2])
    order = await served(limiter_of_one(), [("large", 0)] * 20 + [("small", 0)] * 3)
    assert order[-3:] == ["small"] * 3


async def test_priorities_go_first() -> None:
    """The highest of them; equal ones take turns."""
    order = await served(limiter_of_one(), [("a", 1), ("b", 3), ("c", 2), ("b", 3), ("d", 3)])
    assert order == ["b", "d", "b", "c", "a"]


async def test_priorities_of_namespaces() -> None:
    """For stacks: a function of the namespace."""
    limiter = limiter_of_one(priority=lambda namespace: 1.0 if namespace == "urgent" else 0.0)
    assert await served(limiter, [("calm", 0), ("calm", 0), ("urgent", 0)]) == ["urgent", "calm", "calm"]


async def test_a_cancelled_waiter_leaves_no_gap() -> None:
    """F6: thousands that wait and go leave nothing behind."""
    limiter = limiter_of_one()

    async def ask() -> None:
        async with limiter:
            raise AssertionError("it was never free")

    async with limiter:
        for _ in range(20):
            async with create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(ask)
                await wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
        line = limiter._pool._line  # type: ignore[attr-defined]
        assert len(line) == 0
        assert sum(map(len, line._lanes.values())) == 0


class TestInAStack:
    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> object:
        return jumping(request.param)  # a cache has a thread

    async def test_a_large_namespace_does_not_starve_a_small_one(self, cache: Cache) -> None:
        """L1: three hundred requests in line, then three of another namespace."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 10, LeakyBucket(requests=10, period=1))
        done: dict[str, float] = {}

        async with Cacher(Dispatcher(CountingModel(), limiter), cache) as api, create_task_group() as tasks:

            async def ask(namespace: str, count: int) -> None:
                await api.batch_request(
                    [Request(f"{namespace} {number}", namespace=namespace) for number in range(count)]
                )
                done[namespace] = current_time()

            start = current_time()
            tasks.start_soon(ask, "large", 300)
            await sleep(1)
            tasks.start_soon(ask, "small", 3)
        assert done["small"] - start <= 3
        assert done["large"] - start >= 30
