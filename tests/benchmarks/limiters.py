"""Limiters side by side: what a turn costs, and what comes through a provider that refuses.

    python -m tests.benchmarks.limiters [--seconds N] [--short]

*A turn*: entering and leaving, with nothing to wait for, by one task and by a hundred; the
contenders take turns, and each figure is the smallest of its means, as other work only
ever adds. *A provider that refuses*: the openai SDK against a server over HTTP that lets
in 40 requests a second, ten at once, each answered within 0.1 to 0.5 seconds, and tells
refused ones when to come back; 200 tasks ask without a pause. Nobody is told the limit.
Each contender has an API key of its own, so a full bucket, and the server to itself.
Once requests that are refused count like the others, as OpenAI says of its own ("unsuccessful
requests contribute to your per-minute limit"), and once they are free.
"""

from __future__ import annotations

import os
import platform
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import aiolimiter
import aiometer
import anyio
import click
import openai
import pyrate_limiter
import tenacity
from anyio import CapacityLimiter, create_task_group, move_on_after
from rich.console import Console
from rich.table import Table

from cachesaver import LeakyBucket, RoundRobinLimiter

from .._limited_server import Account, limited_server
from ..limits._provider import Bucket

RATE, DEPTH = 40.0, 10.0  #: of the server: requests a second, and at once
TASKS = 200
Turn = Callable[[], Awaitable[None]]


@click.command()
@click.option("--seconds", default=40.0, show_default=True, help="For how long each contender asks.")
@click.option("--turns", default=20_000, show_default=True, help="Turns of each measurement.")
@click.option("--short", is_flag=True, help="Less than a second each: to see that it runs.")
def main(seconds: float, turns: int, short: bool) -> None:
    """What a turn costs, and what comes through."""
    if short:
        seconds, turns = 0.7, 500
    console = Console(width=max(110, Console().width))
    console.print(cost_table(turns, repeats=1 if short else 7))
    for strict in (True, False):
        console.print(throughput_table(seconds, strict=strict))
    console.print(facts())


# What a turn costs


def ours(rate: LeakyBucket | None) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter()
    limiter.add_resource("key", 1000, rate)
    return limiter


def entering(limiter: AbstractAsyncContextManager[Any]) -> Turn:
    async def turn() -> None:
        async with limiter:
            pass

    return turn


def pyrate() -> Turn:
    limiter = pyrate_limiter.Limiter(pyrate_limiter.Rate(10**9, 1000))

    async def turn() -> None:
        await limiter.try_acquire_async("key")

    return turn


FREE = LeakyBucket(requests=1e9, tokens=1e9, period=1)
TURNS: dict[str, tuple[tuple[str, ...], Callable[[], Turn]]] = {
    "bare CapacityLimiter": (("asyncio", "trio"), lambda: entering(CapacityLimiter(1000))),
    "ours, capacity": (("asyncio", "trio"), lambda: entering(ours(None))),
    "ours, capacity, requests and tokens": (("asyncio", "trio"), lambda: entering(ours(FREE))),
    "aiolimiter": (("asyncio",), lambda: entering(aiolimiter.AsyncLimiter(1e9, 1))),
    "pyrate-limiter": (("asyncio",), pyrate),
}


async def cost_of(make: Callable[[], Turn], tasks: int, turns: int) -> float:
    """Microseconds a turn."""
    turn = make()

    async def take(count: int) -> None:
        for _ in range(count):
            await turn()

    start = time.perf_counter()
    async with create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(take, turns // tasks)
    return (time.perf_counter() - start) / turns * 1e6


async def cost_of_aiometer(tasks: int, turns: int) -> float:
    """It has no turn of its own: what it adds to a function that does nothing."""

    async def nothing(_: int) -> None:
        pass

    start = time.perf_counter()
    await aiometer.run_on_each(nothing, range(turns), max_at_once=tasks)
    return (time.perf_counter() - start) / turns * 1e6


def cost_table(turns: int, repeats: int) -> Table:
    times: dict[tuple[str, str, int], list[float]] = defaultdict(list)
    for _ in range(repeats):
        for backend in ("asyncio", "trio"):
            for tasks in (1, 100):
                for name, (backends, make) in TURNS.items():
                    if backend in backends:
                        times[name, backend, tasks].append(anyio.run(cost_of, make, tasks, turns, backend=backend))
                times["aiometer (with its task)", backend, tasks].append(
                    anyio.run(cost_of_aiometer, tasks, turns, backend=backend)
                )
    table = Table(title=f"Microseconds a turn, nothing to wait for ({repeats} times {turns} turns)")
    table.add_column("limiter")
    for column in ("asyncio, 1 task", "asyncio, 100", "trio, 1 task", "trio, 100"):
        table.add_column(column, justify="right")
    for name in dict.fromkeys(name for name, _, _ in times):
        cells = [times.get((name, backend, tasks)) for backend in ("asyncio", "trio") for tasks in (1, 100)]
        table.add_row(name, *[f"{min(cell):.1f}" if cell else "-" for cell in cells])
    return table


# What comes through


@dataclass
class Outcome:
    """What one contender got, and what its server saw."""

    answered: list[float]
    failed: int
    account: Account
    begin: float
    seconds: float

    def rate(self, start: float = 0.0) -> float:
        """Answers a second, from *start* on."""
        return sum(at - self.begin >= start for at in self.answered) / (self.seconds - start)

    def refused(self, start: float = 0.0) -> float:
        """The part of the requests that were refused."""
        refused = sum(at - self.begin >= start for at in self.account.refused)
        accepted = sum(at - self.begin >= start for at in self.account.accepted)
        return refused / max(1, refused + accepted)


def sdk_alone(client: openai.AsyncOpenAI) -> Callable[[], Awaitable[Any]]:
    return lambda: chat(client)


def with_tenacity(at_once: int) -> Callable[[openai.AsyncOpenAI], Callable[[], Awaitable[Any]]]:
    """As in OpenAI's cookbook, under a semaphore that is held while it backs off: the better of both orders."""

    def make(client: openai.AsyncOpenAI) -> Callable[[], Awaitable[Any]]:
        semaphore = CapacityLimiter(at_once)
        once = client.with_options(max_retries=0)

        @tenacity.retry(
            wait=tenacity.wait_random_exponential(min=0.2, max=60),
            stop=tenacity.stop_after_attempt(6),
            retry=tenacity.retry_if_exception_type(openai.RateLimitError),
            reraise=True,
        )
        async def retried() -> Any:
            return await chat(once)

        async def ask() -> Any:
            async with semaphore:
                return await retried()

        return ask

    return make


def with_ours(client: openai.AsyncOpenAI) -> Callable[[], Awaitable[Any]]:
    limiter = RoundRobinLimiter()
    limiter.add_resource(None, capacity=None)
    once = client.with_options(max_retries=0)

    async def ask(_: Any) -> Any:
        return await chat(once)

    return lambda: limiter.request().call(ask)


def with_ours_and_the_rate(client: openai.AsyncOpenAI) -> Callable[[], Awaitable[Any]]:
    limiter = RoundRobinLimiter()
    limiter.add_resource(None, 100, LeakyBucket(requests=RATE, period=1, burst=int(DEPTH) // 2))
    once = client.with_options(max_retries=0)

    async def ask(_: Any) -> Any:
        return await chat(once)

    return lambda: limiter.request().call(ask)


async def chat(client: openai.AsyncOpenAI) -> Any:
    return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])


CONTENDERS: dict[str, Callable[[openai.AsyncOpenAI], Callable[[], Awaitable[Any]]]] = {
    "openai SDK's own retries": sdk_alone,
    "tenacity, semaphore of 5": with_tenacity(5),
    "tenacity, semaphore of 12": with_tenacity(12),
    "tenacity, semaphore of 50": with_tenacity(50),
    "ours, told nothing": with_ours,
    "ours, told the rate": with_ours_and_the_rate,
}


async def come_through(url: str, key: str, make: Any, seconds: float) -> tuple[list[float], int, float]:
    """When answers came, how many requests failed for good, and when it began."""
    answered: list[float] = []
    failed = 0

    async def keep_asking() -> None:
        nonlocal failed
        while True:
            try:
                await ask()
            except openai.APIError:
                failed += 1
            else:
                answered.append(time.monotonic())

    async with openai.AsyncOpenAI(base_url=url, api_key=key) as client:
        ask = make(client)
        begin = time.monotonic()
        with move_on_after(seconds):
            async with create_task_group() as tasks:
                for _ in range(TASKS):
                    tasks.start_soon(keep_asking)
    return answered, failed, begin


def outcomes(seconds: float, *, strict: bool) -> dict[str, Outcome]:
    chance = random.Random(7)
    with limited_server(lambda: Bucket(RATE, DEPTH, strict), lambda: chance.uniform(0.1, 0.5)) as server:
        found: dict[str, Outcome] = {}
        for number, (name, make) in enumerate(CONTENDERS.items()):
            key = f"key-{number}"
            answered, failed, begin = anyio.run(come_through, server.url, key, make, seconds)
            found[name] = Outcome(answered, failed, server.account(f"Bearer {key}"), begin, seconds)
            time.sleep(0.6)  # the last answers of this one are not the next one's
    return found


def throughput_table(seconds: float, *, strict: bool) -> Table:
    half = seconds / 2
    counted = "refused ones count" if strict else "refused ones are free"
    title = f"A server that lets in {RATE:.0f} requests a second, {counted} ({seconds:.0f} s each, {TASKS} tasks)"
    table = Table(title=title)
    table.add_column("client")
    for column in ("answers/s", "of capacity", "2nd half", "refused", "2nd half", "given up"):
        table.add_column(column, justify="right")
    for name, outcome in outcomes(seconds, strict=strict).items():
        table.add_row(
            name,
            f"{outcome.rate():.1f}",
            f"{outcome.rate() / RATE:.0%}",
            f"{outcome.rate(half) / RATE:.0%}",
            f"{outcome.refused():.1%}",
            f"{outcome.refused(half):.1%}",
            str(outcome.failed),
        )
    return table


def facts() -> str:
    names = ("aiolimiter", "aiometer", "anyio", "openai", "pyrate-limiter", "tenacity", "trio")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{datetime.now(UTC):%Y-%m-%d}; Python {platform.python_version()}; {os.cpu_count()} CPUs; {versions}"


if __name__ == "__main__":
    main()
