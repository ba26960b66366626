"""A provider whose limits nobody has told: within a minute we are at its rate, and hardly ever refused.

At least 90 % of its capacity from the second minute on, and at most 1 % of the requests refused.
CACHESAVER_LONG=1 tries each provider with every kind of latency.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anyio
import openai
import pytest
from anyio import create_task_group, current_time, move_on_after

from cachesaver import RoundRobinLimiter
from cachesaver._limits import _adaptive
from cachesaver.testing import jumping

from .._limited_server import limited_server
from ._provider import APIStatusError, Bucket, Provider, Window

WARM_UP = 60.0
END = 240.0


@dataclass
class Case:
    """A provider, and how many answers a second it has to give."""

    make: Callable[[Callable[[], float]], Provider]
    capacity: float
    keys: int = 1


def steady(_: random.Random) -> float:
    return 1.0


def spread(chance: random.Random) -> float:
    return chance.uniform(0.2, 1.8)


def wild(chance: random.Random) -> float:
    return chance.expovariate(1)


LATENCIES = [steady, spread, wild]
CASES = {
    "20 a second, one at a time": Case(lambda s: Provider(lambda: Bucket(20, 1), seconds=s), 20),
    "20 a second, five at once": Case(lambda s: Provider(lambda: Bucket(20, 5), seconds=s), 20),
    "500 a minute, all at once": Case(lambda s: Provider(lambda: Bucket(500 / 60, 500), seconds=s), 500 / 60),
    "100 a second, ten at once": Case(lambda s: Provider(lambda: Bucket(100, 10), seconds=s), 100),
    "1000 in each minute": Case(lambda s: Provider(lambda: Window(1000, 60), seconds=s), 1000 / 60),
    "20 a second, without a Retry-After": Case(
        lambda s: Provider(lambda: Bucket(20, 5), seconds=s, retry_after=False), 20
    ),
    "20 a second, refused ones count": Case(lambda s: Provider(lambda: Bucket(20, 5, strict=True), seconds=s), 20),
    "ten at once": Case(lambda s: Provider(at_once=10, seconds=s), 10),
    "forty at once": Case(lambda s: Provider(at_once=40, seconds=s), 40),
    "announced: 600 a minute": Case(lambda s: Provider(lambda: Bucket(10, 600), seconds=s, announces=True), 10),
    "announced: 3000 a minute, deep": Case(lambda s: Provider(lambda: Bucket(50, 3000), seconds=s, announces=True), 50),
    "two keys, 20 a second each": Case(lambda s: Provider(lambda: Bucket(20, 5), seconds=s), 40, keys=2),
}


async def press(provider: Provider, keys: int, capacity: int | None = None, end: float = END) -> float:
    """Ask as fast as the limiter lets us. Returns when it began."""
    limiter = RoundRobinLimiter(attempts=20)
    for number in range(keys):
        limiter.add_resource(f"key {number}", capacity)

    async def ask() -> None:
        while True:
            try:
                await limiter.request().call(provider.answer)
            except APIStatusError:
                continue

    begin = current_time()
    with move_on_after(end):
        async with create_task_group() as tasks:
            for _ in range(400):
                tasks.start_soon(ask)
    return begin


def pressed(backend: str, provider: Provider, *args: Any) -> tuple[float, float]:
    """Answers a second, and the part that was refused, after the first minute."""
    name, options = jumping(backend, patience=0)
    begin = anyio.run(press, provider, *args, backend=name, backend_options=options)
    accepted = sum(at - begin >= WARM_UP for at, _ in provider.accepted)
    refused = sum(at - begin >= WARM_UP for at, _ in provider.refused)
    return accepted / (END - WARM_UP), refused / (accepted + refused)


EVERY = [(name, latency) for name in CASES for latency in LATENCIES]
SOME = [(name, LATENCIES[number % len(LATENCIES)]) for number, name in enumerate(CASES)]


@pytest.mark.parametrize(("name", "latency"), EVERY if os.environ.get("CACHESAVER_LONG") else SOME)
def test_the_limit_is_found(name: str, latency: Callable[[random.Random], float]) -> None:
    """L4: 90 % of the capacity within a minute, 1 % refused after that; the backends take turns."""
    random.seed(5)  # for the jitter of rests
    case, chance = CASES[name], random.Random(5)
    provider = case.make(lambda: latency(chance))
    rate, refused = pressed(["asyncio", "trio"][LATENCIES.index(latency) % 2], provider, case.keys)
    assert rate >= 0.9 * case.capacity
    assert refused <= 0.01


def pressed_soon(seed: int, *, strict: bool) -> tuple[float, float]:
    """The part of a bucket's rate that is used in the first 45 seconds, and the part of the requests it refused.

    Requests arrive up to 6 ms late, for timers are not exact, and refusals are told at once.
    """
    chance = random.Random(seed)
    random.seed(seed)  # for the jitter of rests
    provider = Provider(
        lambda: Bucket(40, 10, strict),
        seconds=lambda: chance.uniform(0.1, 0.5),
        late=lambda: chance.uniform(0, 0.006),
        refuses_after=0.002,
    )
    name, options = jumping("trio", patience=0)
    anyio.run(press, provider, 1, None, 45.0, backend=name, backend_options=options)
    accepted, refused = len(provider.accepted), len(provider.refused)
    return accepted / 45 / 40, refused / (accepted + refused)


@pytest.mark.parametrize("strict", [True, False])
def test_the_limit_is_found_soon(strict: bool) -> None:
    """L4: nearly all of the first 45 seconds is used, whatever the chance, and hardly anything refused."""
    outcomes = [pressed_soon(seed, strict=strict) for seed in range(4)]
    assert min(served for served, _ in outcomes) >= 0.985
    assert max(refused for _, refused in outcomes) <= 0.01


def test_control_a_refusal_costs_the_same_whatever_was_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: then the rate stays too low, or is refused again and again."""

    def cut(self: Any, _: float) -> None:
        self._rate_refused, self.rate = self.rate, self.rate / _adaptive.OVERSHOOT

    monkeypatch.setattr(_adaptive.Adaptive, "_cut_rate", cut)
    assert min(pressed_soon(seed, strict=True)[0] for seed in range(4)) < 0.985


def test_control_without_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: with a hundred at once, always, most are refused."""
    monkeypatch.setattr(_adaptive.Adaptive, "refused", _adaptive.Adaptive.returned)
    provider = CASES["20 a second, five at once"].make(lambda: 1.0)
    name, options = jumping("trio", patience=0)
    anyio.run(press, provider, 1, None, 60.0, backend=name, backend_options=options)
    assert len(provider.refused) > 0.1 * len(provider.accepted)


def test_a_limit_that_is_raised() -> None:
    """L4: twice the rate after two minutes: most of it is used before long."""
    buckets: list[Bucket] = []

    def make() -> Bucket:
        buckets.append(Bucket(20, 5))
        return buckets[-1]

    provider = Provider(make)

    async def main() -> float:
        async with create_task_group() as tasks:

            async def raise_limit() -> None:
                await anyio.sleep(120)
                buckets[0].rate = 40

            tasks.start_soon(raise_limit)
            return await press(provider, 1, None, 600.0)

    name, options = jumping("trio", patience=0)
    begin = anyio.run(main, backend=name, backend_options=options)
    late = sum(at - begin >= 420 for at, _ in provider.accepted)
    assert late / 180 >= 0.9 * 40


def test_a_capacity_that_is_given_is_kept() -> None:
    """L1: learning never goes beyond it, and needs no window below it."""
    provider = Provider()
    pressed("trio", provider, 1, 7)
    assert provider.peak == {"key 0": 7}


def test_over_http() -> None:
    """L4: once more with the openai SDK and a server, in real time, so shorter, and with room for a busy machine."""
    chance = random.Random(3)
    with limited_server(lambda: Bucket(40, 10), lambda: chance.uniform(0.1, 0.5)) as server:

        async def main() -> None:
            limiter = RoundRobinLimiter()
            limiter.add_resource(None, capacity=None)
            async with openai.AsyncOpenAI(base_url=server.url, api_key="key", max_retries=0) as client:

                async def ask(_: Any) -> None:
                    await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])

                async def keep_asking() -> None:
                    while True:
                        await limiter.request().call(ask)

                with move_on_after(18):
                    async with create_task_group() as tasks:
                        for _ in range(50):
                            tasks.start_soon(keep_asking)

        anyio.run(main, backend="trio")
        account = server.account("Bearer key")
    begin = account.accepted[0]
    accepted = [at for at in account.accepted if at - begin >= 12]
    refused = [at for at in account.refused if at - begin >= 12]
    assert len(accepted) / 6 >= 0.75 * 40
    assert len(refused) <= 0.05 * len(accepted)
