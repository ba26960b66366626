"""Storms under virtual time: random arrivals, lengths, errors and cancellations against what is promised.

CACHESAVER_LONG=1 runs 10,000 seeds in place of 300.
"""

from __future__ import annotations

import math
import os
import random
from collections import Counter
from typing import Any

import anyio
import pytest
import trio
from anyio import create_task_group, current_time, move_on_after, sleep, wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from cachesaver import LeakyBucket, RoundRobinLimiter
from cachesaver._limits._pool import Pool
from cachesaver._limits._rate import Meter
from cachesaver.testing import jumping

from .._leaks import Leaks
from ._provider import APIStatusError, excess

SEEDS = 10_000 if os.environ.get("CACHESAVER_LONG") else 300
BACKENDS = ("asyncio", "trio")


class Storm:
    """One random program over one limiter, and what it saw."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.keys = list("abcd")[: chance.randint(1, 4)]
        self.groups = {key: chance.choice([None, "x", "y"]) for key in self.keys}
        self.capacity = chance.randint(1, 4)
        tokens = chance.choice([None, chance.randint(10, 1000)])
        self.rate = LeakyBucket(
            requests=chance.randint(1, 20), tokens=tokens, period=chance.choice([1.0, 10.0]), burst=chance.randint(1, 5)
        )
        self.limiter = RoundRobinLimiter()
        for key in self.keys:
            self.limiter.add_resource(key, self.capacity, self.rate, self.groups[key])
        self.starts: list[tuple[float, str, int, float]] = []  # when, key, whose, tokens
        self.in_use: Counter[str] = Counter()
        self.over: list[str] = []

    async def run(self) -> None:
        async with create_task_group() as tasks:
            for number in range(self.chance.randint(10, 40)):
                tasks.start_soon(self.ask, number, self.chance.choice([0.5, 5, math.inf]))
                if self.chance.random() < 0.5:
                    await sleep(self.chance.random())
                await wait_all_tasks_blocked()  # so that they come in this order

    async def ask(self, number: int, patience: float) -> None:
        tokens = float(self.chance.randint(0, 100))
        with move_on_after(patience):
            async with self.limiter.request(tokens=tokens) as resource:
                self.starts.append((current_time(), resource.data, number, tokens))
                self.in_use[resource.data] += 1
                if self.in_use[resource.data] > self.capacity:
                    self.over.append(resource.data)
                try:
                    await sleep(self.chance.choice([0, 0.3, 2]))
                finally:
                    self.in_use[resource.data] -= 1

    def faults(self) -> list[str]:
        """What was not as promised."""
        found = [f"{key} carried more than {self.capacity}" for key in self.over]
        for keys in self.quotas():
            mine = [(at, tokens) for at, key, _, tokens in self.starts if key in keys]
            per_second = self.rate.requests / self.rate.period
            if (over := excess([(at, 1) for at, _ in mine], per_second)) > self.rate.burst + 1e-6:
                found.append(f"a window of {keys} has {over} requests, more than a burst of {self.rate.burst}")
            if self.rate.tokens is not None:
                # Who starts last is let in whatever its size, where the burst has not been used up.
                ahead = (self.rate.burst - 1) / per_second * self.rate.tokens / self.rate.period
                over = excess(mine, self.rate.tokens / self.rate.period)
                if mine and over > ahead + max(tokens for _, tokens in mine) + 1e-6:
                    found.append(f"a window of {keys} has {over} tokens too many")
        order = [number for _, _, number, _ in self.starts]
        if order != sorted(order):
            found.append(f"not in order of arrival: {order}")
        return found

    def quotas(self) -> list[set[str]]:
        """The keys that share one."""
        shared: dict[Any, set[str]] = {}
        for key, group in self.groups.items():
            shared.setdefault(group or key, set()).add(key)
        return list(shared.values())


def faults_of(seed: int) -> list[str]:
    """The same each time: trio's own shuffling of the tasks that can run follows the seed, too."""
    name, options = jumping(BACKENDS[seed % 2], patience=0)
    storm = Storm(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
        patch.setattr(trio._core._run, "_r", random.Random(seed))
        anyio.run(storm.run, backend=name, backend_options=options)
    return storm.faults()


@pytest.mark.parametrize("part", range(10))
def test_storms(part: int) -> None:
    """L1, L2, L4: no window above its burst, no key above its capacity, first come first served, nothing kept."""
    for seed in range(part, SEEDS, 10):
        assert faults_of(seed) == [], f"seed {seed}"


def fails_somewhere() -> bool:
    return any(faults_of(seed) for seed in range(300))


def test_control_a_rate_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: a tenth too fast, and the storms fail."""
    charge = Meter.charge
    monkeypatch.setattr(Meter, "charge", lambda meter, now, cost: charge(meter, now, cost * 0.9))
    assert fails_somewhere()


def test_control_a_line_without_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1: last come, first served."""
    from cachesaver._limits._line import Waiter

    monkeypatch.setattr(Waiter, "__lt__", lambda waiter, other: (waiter.order or ()) > (other.order or ()))
    assert fails_somewhere()


def test_control_all_called_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """L1: of several that are woken in the same tick, trio may run the later first."""

    def call(pool: Any, waiter: Any) -> None:
        waiter.called = True
        pool._wake(waiter)

    monkeypatch.setattr(Pool, "_call", call)
    assert fails_somewhere()


async def all_start() -> bool:
    """Whether four requests start within 1000 seconds, one a second."""
    limiter, started = RoundRobinLimiter(), list[float]()
    limiter.add_resource("a", 10, LeakyBucket(requests=1, period=1))

    async def hold() -> None:
        async with limiter:
            started.append(current_time())
            await sleep(2000)

    with move_on_after(1000):
        async with create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(hold)
    return len(started) == 4


@pytest.mark.parametrize("backend", BACKENDS)
def test_control_nobody_keeps_the_time(backend: str, leaks: Leaks, monkeypatch: pytest.MonkeyPatch) -> None:
    """L1, L4: when who keeps it is served, another one must, or the rest wait for ever."""
    name, options = jumping(backend, patience=0)
    assert anyio.run(all_start, backend=name, backend_options=options)
    monkeypatch.setattr(Pool, "_release_keeper", lambda pool, waiter: None)
    assert not anyio.run(all_start, backend=name, backend_options=options)
    assert leaks.found()


pytestmark_anyio = pytest.mark.anyio


@pytestmark_anyio
class TestTwentyThousand:
    """L1, L2: errors of every kind, and cancellations."""

    async def test_a_storm_of_failing_keys(self) -> None:
        chance, limiter = random.Random(3), RoundRobinLimiter(attempts=1)
        capacity = {"a": 1, "b": 2, "c": 5, "d": 3}
        for key, carries in capacity.items():
            limiter.add_resource(key, carries)
        in_use: Counter[str] = Counter()
        peak: Counter[str] = Counter()
        uses: Counter[str] = Counter()

        async def operate() -> None:
            with move_on_after(chance.choice([0.001, 0.5, 1000, 1000])):
                async with limiter as resource:
                    uses[resource.data] += 1
                    in_use[resource.data] += 1
                    peak[resource.data] = max(peak[resource.data], in_use[resource.data])
                    try:
                        await sleep(chance.choice([0, 0, 0.001, 0.01]))
                        if chance.random() < 0.5:
                            raise chance.choice([ValueError(), APIStatusError(400), APIStatusError(500), OSError()])
                    finally:
                        in_use[resource.data] -= 1

        async def worker() -> None:
            for _ in range(200):
                try:
                    await operate()
                except (ValueError, APIStatusError, OSError):
                    await checkpoint()

        async with create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(worker)
        assert peak == capacity
        assert sum(uses.values()) > 10_000  # the others were cancelled while they waited
        assert repr(limiter) == "<RoundRobinLimiter: 4 of 4 resources left, 0 requests in flight, 0 wait>"

    async def test_round_robin_within_one(self) -> None:
        """L1: failing or not, free keys take turns exactly."""
        chance, limiter, uses = random.Random(5), RoundRobinLimiter(), Counter[str]()
        for key in "abcd":
            limiter.add_resource(key, 3)
        for _ in range(5000):
            try:
                async with limiter as resource:
                    uses[resource.data] += 1
                    if chance.random() < 0.5:
                        raise ValueError
            except ValueError:
                pass
            assert max(uses.values()) - min(uses[key] for key in "abcd") <= 1

    @pytest.mark.parametrize("kind", ["requests", "tokens", "both"])
    async def test_nothing_of_the_rate_is_left_unused(self, kind: str) -> None:
        """L4: with enough work, at least 99 % of what is allowed, over two keys."""
        chance = random.Random(7)
        rate = {
            "requests": LeakyBucket(requests=50, period=1),
            "tokens": LeakyBucket(tokens=5000, period=1),
            "both": LeakyBucket(requests=50, tokens=2500, period=1),  # of 100 tokens each: those are scarcer
        }[kind]
        limiter = RoundRobinLimiter()
        for key in "ab":
            limiter.add_resource(key, 200, rate)
        started: list[float] = []

        async def work(tokens: float) -> None:
            async with limiter.request(tokens=tokens):
                started.append(tokens)
                await sleep(chance.choice([0.1, 1, 3]))

        async with create_task_group() as tasks:
            for _ in range(8000):
                tasks.start_soon(work, float(chance.randint(50, 150)))
            begin = current_time()
            await sleep(60)
            assert current_time() - begin == pytest.approx(60)
            tasks.cancel_scope.cancel()
        assert len(started) / (2 * 50 * 60) >= (0.99 if kind == "requests" else 0)
        assert sum(started) / (2 * 5000 * 60) >= {"requests": 0, "tokens": 0.99, "both": 0.495}[kind]
