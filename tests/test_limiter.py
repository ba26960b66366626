"""Limiters: capacity, turns, order, rates; and that everything lent comes back."""

from __future__ import annotations

import random
from typing import Any

import anyio
import pytest
from anyio import (
    Event,
    create_task_group,
    current_time,
    fail_after,
    move_on_after,
    sleep,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

from cachesaver import (
    AsyncRoundRobinLimiter,
    Cache,
    Cacher,
    Dispatcher,
    LeakyBucket,
    Request,
    Resource,
    RoundRobinLimiter,
    UnlimitedLimiter,
)
from cachesaver._limits import _pool
from cachesaver.testing import CountingModel, jumping

from ._leaks import Leaks

pytestmark = pytest.mark.anyio


def limiter_of(*names: str, capacity: int = 1, rate: LeakyBucket | None = None) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter()
    for name in names:
        limiter.add_resource(name, capacity, rate)
    return limiter


async def hold(limiter: RoundRobinLimiter, started: list[str], seconds: float = 1.0) -> None:
    async with limiter as resource:
        started.append(resource.data)
        await sleep(seconds)


async def comes_back_after(error: type[BaseException]) -> bool:
    """Whether a resource is lent again after a block that raised."""
    limiter = limiter_of("a")
    with pytest.raises(error):
        async with limiter:
            raise error
    with move_on_after(1):
        async with limiter as resource:
            return resource.in_use == 1
    return False


async def a_cancelled_waiter_takes_nothing(ticks: int, rate: LeakyBucket | None) -> bool:
    """Whether both resources are lent again after waiters were cancelled, so long after they were returned."""
    limiter, started = limiter_of("a", "b", rate=rate), []
    release = Event()

    async def hold_until_released() -> None:
        async with limiter:
            await release.wait()

    async with create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(hold_until_released)
        await wait_all_tasks_blocked()
        async with create_task_group() as waiters:
            for _ in range(5):
                waiters.start_soon(hold, limiter, started, 0)
            await wait_all_tasks_blocked()
            release.set()
            for _ in range(ticks):
                await checkpoint()
            waiters.cancel_scope.cancel()
    with move_on_after(10):
        async with limiter as first, limiter as second:
            return {first.data, second.data} == {"a", "b"} and (first.in_use, second.in_use) == (1, 1)
    return False


def stay(pool: Any, waiter: Any) -> None:
    """In place of `Pool.leave`: who is cancelled stays in line, or keeps what it was lent."""


async def keep(limiter: RoundRobinLimiter, *exc_info: object) -> None:
    """In place of `RoundRobinLimiter.__aexit__`."""


class TestCapacity:
    async def test_never_more_at_once_than_a_resource_carries(self) -> None:
        """L1: 200 tasks share one limiter, at random; each key stays within its capacity, and is used to it."""
        limiter, chance = limiter_of("a", "b", "c", capacity=3), random.Random(1)
        in_use = dict.fromkeys("abc", 0)
        peak = dict.fromkeys("abc", 0)

        async def use(delay: float) -> None:
            for _ in range(2):
                async with limiter as resource:
                    in_use[resource.data] += 1
                    peak[resource.data] = max(peak[resource.data], in_use[resource.data])
                    await sleep(delay)
                    in_use[resource.data] -= 1

        async with create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(use, chance.choice([0, 1, 2]))
        assert peak == {"a": 3, "b": 3, "c": 3}

    async def test_resources_take_turns(self) -> None:
        """L1: the next request goes to the next free resource in turn."""
        limiter, started = limiter_of("a", "b", "c"), []
        for _ in range(7):
            await hold(limiter, started, 0)
        assert started == list("abcabca")

    async def test_a_busy_resource_is_passed_over(self) -> None:
        """L1: a resource that is in use keeps nobody from the free ones."""
        limiter, started = limiter_of("a", "b"), []
        async with limiter as first:
            assert first.data == "a"
            for _ in range(3):
                await hold(limiter, started, 0)
        assert started == ["b", "b", "b"]

    async def test_first_come_first_served(self) -> None:
        """L1: whoever waits longer is served first."""
        limiter, order = limiter_of("a"), []

        async def ask(number: int) -> None:
            async with limiter:
                order.append(number)
                await sleep(1)

        async with create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(ask, number)
                await wait_all_tasks_blocked()
        assert order == list(range(20))

    async def test_one_task_may_hold_several(self) -> None:
        """L1, L2: what a task took last, it returns first."""
        limiter = limiter_of("a", "b")
        async with limiter as first, limiter as second:
            assert (first.data, second.data) == ("a", "b")
            assert (first.in_use, second.in_use) == (1, 1)
        assert (first.in_use, second.in_use) == (0, 0)

    async def test_a_resource_added_while_others_wait_is_lent(self) -> None:
        """L1: keys may be added at any time."""
        limiter, started = limiter_of("a"), []
        async with create_task_group() as tasks:
            async with limiter:
                tasks.start_soon(hold, limiter, started)
                await wait_all_tasks_blocked()
                assert started == []
                limiter.add_resource("b")
                tasks.start_soon(hold, limiter, started)
                await wait_all_tasks_blocked()
                assert started == ["b"]

    async def test_one_limiter_serves_event_loop_after_event_loop(self) -> None:
        """L1: a notebook that runs `anyio.run` again and again keeps its limiter."""
        limiter, started = limiter_of("a", "b"), []

        def run(backend: str) -> None:
            name, options = jumping(backend)
            anyio.run(hold, limiter, started, backend=name, backend_options=options)

        for backend in ("asyncio", "trio", "asyncio"):
            await anyio.to_thread.run_sync(run, backend)
        assert started == ["a", "b", "a"]  # and goes on where it was

    async def test_without_resources_it_says_what_to_do(self) -> None:
        with pytest.raises(RuntimeError, match=r"add_resource\(key\) first"):
            async with RoundRobinLimiter():
                pass

    async def test_unlimited_lends_at_once(self) -> None:
        """L1: without limits there are none."""
        limiter = UnlimitedLimiter("key")
        async with limiter as first, limiter as second:
            assert (first.data, second.data) == ("key", "key")

    def test_the_name_of_old(self) -> None:
        assert AsyncRoundRobinLimiter is RoundRobinLimiter

    @pytest.mark.parametrize("capacity", [0, -1, 1.5, True, "2"])
    def test_a_capacity_is_a_positive_integer(self, capacity) -> None:
        with pytest.raises(ValueError, match="capacity must be an integer of at least 1"):
            RoundRobinLimiter().add_resource("a", capacity)

    async def test_a_key_is_never_shown(self) -> None:
        """D4: neither where a resource nor where a limiter is printed."""
        limiter = limiter_of("sk-secret", capacity=2)
        async with limiter as resource:
            assert repr(resource) == "<Resource 1 of 2 in use>"
            assert repr(limiter) == "<RoundRobinLimiter: 1 of 1 resources left, 1 request in flight, 0 wait>"


class TestReturn:
    async def test_it_comes_back_after_an_error(self) -> None:
        """L2: whatever the block raises."""
        for error in (ValueError, KeyboardInterrupt):
            assert await comes_back_after(error)

    async def test_control_what_is_kept_is_missed(self, leaks: Leaks, monkeypatch: pytest.MonkeyPatch) -> None:
        """L2: the test above fails when nothing is taken back, and so does every test that leaves it at that."""
        monkeypatch.setattr(RoundRobinLimiter, "__aexit__", keep)
        assert not await comes_back_after(ValueError)
        assert any(leak.startswith("a loan") for leak in leaks.found())

    async def test_it_comes_back_when_its_holder_is_cancelled(self) -> None:
        """L2: cancelled while it works."""
        limiter, started = limiter_of("a"), []
        async with create_task_group() as tasks:
            tasks.start_soon(hold, limiter, started, 1000)
            await wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        with fail_after(1):
            await hold(limiter, started, 0)
        assert started == ["a", "a"]

    @pytest.mark.parametrize("ticks", range(12))
    @pytest.mark.parametrize("rate", [None, LeakyBucket(requests=1, period=1)])
    async def test_a_cancelled_waiter_takes_nothing(self, ticks: int, rate: LeakyBucket | None) -> None:
        """L2: cancelled at any moment of its waiting, also in the one in which its turn comes."""
        assert await a_cancelled_waiter_takes_nothing(ticks, rate)

    async def test_control_what_a_waiter_takes_along_is_missed(
        self, leaks: Leaks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """L2: the test above fails when a waiter keeps its token that is cancelled while it waits for the rate."""
        monkeypatch.setattr(_pool.Pool, "leave", stay)
        rate = LeakyBucket(requests=1, period=1)
        assert not all([await a_cancelled_waiter_takes_nothing(ticks, rate) for ticks in range(12)])
        assert any(leak.startswith("a loan") for leak in leaks.found())

    async def test_a_failed_call_returns_it(self, cache: Cache) -> None:
        """L2: a Dispatcher's resource is back after errors of the model."""
        model = CountingModel(failures=[ValueError("no"), ValueError("no"), None])
        async with Cacher(Dispatcher(model, limiter_of("a")), cache) as api:
            for _ in range(2):
                with pytest.raises(ValueError, match="no"):
                    await api.request("p")
            with fail_after(1):
                assert (await api.request("p")).data == ["p#0"]


class Spy:
    """A model that tells which key it was called with, when, and how many ran at once."""

    cache_scope = "spy"

    def __init__(self, seconds: float = 1.0, usage: int | None = None) -> None:
        self.seconds = seconds
        self.usage = usage
        self.keys: list[str] = []
        self.times: list[float] = []
        self.running = self.peak = 0

    async def request(self, prompt: str, resource: Resource) -> dict[str, object]:
        key = resource.data
        self.keys.append(key)
        self.times.append(current_time())
        self.running += 1
        self.peak = max(self.peak, self.running)
        await sleep(self.seconds)
        self.running -= 1
        assert resource.data == key
        answer: dict[str, object] = {"prompt": prompt, "key": key}
        if self.usage is not None:
            answer["usage"] = {"prompt_tokens": 0, "completion_tokens": self.usage}
        return answer


class TestDispatching:
    async def test_the_key_travels_with_its_request(self, cache: Cache) -> None:
        """L3, L1: twelve requests over four keys; each sees one key from its start to its end."""
        model = Spy()
        async with Cacher(Dispatcher(model, limiter_of(*"abcd")), cache) as api:
            responses = await api.batch_request([Request(f"p{number}") for number in range(12)])
        assert [response[0]["prompt"] for response in responses] == [f"p{number}" for number in range(12)]
        waves = [sorted(model.keys[start : start + 4]) for start in (0, 4, 8)]  # whichever is back first is next
        assert waves == [list("abcd")] * 3
        assert model.peak == 4

    async def test_a_hit_takes_no_resource(self, cache: Cache) -> None:
        """F1, L1: with every key in use, what is known is answered."""
        limiter = limiter_of("a")
        async with Cacher(Dispatcher(Spy(), limiter), cache) as api:
            await api.request("p", namespace="one")
            async with limiter:
                with fail_after(1):
                    assert (await api.request("p", namespace="two")).cached == [True]

    async def test_a_model_of_batches_gets_it_too(self, cache: Cache) -> None:
        """L3: where the signature of `batch_request` has it."""
        keys = []

        class Model:
            async def batch_request(self, prompts: list[str], resource: Resource) -> list[str]:
                keys.append(resource.data)
                return prompts

        async with Cacher(Dispatcher(Model(), limiter_of("a")), cache) as api:
            await api.request("p")
        assert keys == ["a"]


class TestRate:
    async def test_requests_are_spaced_evenly(self) -> None:
        """L4: two a second, and no more."""
        model = Spy(seconds=0)
        limiter = limiter_of("a", capacity=10, rate=LeakyBucket(requests=2, period=1))
        async with Dispatcher(model, limiter) as api:
            await api.request("p", n=6)
        assert _since_first(model.times) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])

    async def test_a_burst_goes_at_once(self) -> None:
        """L4: up to `burst` after a rest, then evenly."""
        model = Spy(seconds=0)
        limiter = limiter_of("a", capacity=10, rate=LeakyBucket(requests=2, period=1, burst=3))
        async with Dispatcher(model, limiter) as api:
            await api.request("p", n=5)
        assert _since_first(model.times) == pytest.approx([0, 0, 0, 0.5, 1])

    async def test_tokens_are_charged_when_they_are_known(self) -> None:
        """L4: an answer of 20 tokens at 10 a second holds the next request back for two seconds."""
        model = Spy(seconds=0, usage=20)
        async with Dispatcher(model, limiter_of("a", rate=LeakyBucket(tokens=10, period=1))) as api:
            for prompt in "pqr":
                await api.request(prompt)
        assert _since_first(model.times) == pytest.approx([0, 2, 4])

    async def test_a_slow_key_does_not_hold_up_a_fast_one(self) -> None:
        """L4, L5: while one waits for its rate or rests, the others go on."""
        limiter, started = RoundRobinLimiter(), []
        limiter.add_resource("slow", rate=LeakyBucket(requests=1, period=100))
        limiter.add_resource("fast")
        for _ in range(4):
            await hold(limiter, started, 0)
        assert started == ["slow", "fast", "fast", "fast"]

    async def test_a_resource_at_rest_is_not_lent(self) -> None:
        """L5: it rests for as long as it was told to; waiters keep their order."""
        limiter, started = limiter_of("a"), []
        async with limiter as resource:
            resource.rest(5)
        start = current_time()
        await hold(limiter, started, 0)
        assert current_time() - start == pytest.approx(5)

    @pytest.mark.parametrize("seed", range(10))
    async def test_no_window_holds_more_than_its_rate(self, seed: int) -> None:
        """L4, L1: random arrivals, lengths and cancellations; excess 0, and first come, first served."""
        chance = random.Random(seed)
        rate = LeakyBucket(
            requests=chance.randint(1, 20), period=chance.choice([1.0, 10.0]), burst=chance.randint(1, 5)
        )
        limiter = limiter_of("a", capacity=chance.randint(1, 4), rate=rate)
        times: list[float] = []
        order: list[int] = []

        async def ask(number: int, seconds: float, patience: float) -> None:
            with anyio.move_on_after(patience):
                async with limiter:
                    times.append(current_time())
                    order.append(number)
                    await sleep(seconds)

        async with create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(ask, number, chance.choice([0, 0.3, 2]), chance.choice([0.5, 5, 1000]))
                if chance.random() < 0.5:
                    await sleep(chance.random())
                await wait_all_tasks_blocked()
        assert [number for _, number in sorted(zip(times, order, strict=True))] == sorted(order)
        per_second = rate.requests / rate.period
        for first in range(len(times)):
            for last in range(first, len(times)):
                window = times[last] - times[first]
                assert last - first + 1 <= rate.burst + per_second * window + 1e-6

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({}, "needs requests, tokens, or both"),
            ({"requests": 0}, "requests must be a positive number"),
            ({"tokens": -1}, "tokens must be a positive number"),
            ({"requests": 1, "period": float("inf")}, "period must be a positive number"),
            ({"requests": 1, "burst": 0}, "burst must be an integer"),
            ({"tokens": 1, "burst": 2}, "give requests as well"),
        ],
    )
    def test_a_bucket_that_makes_no_sense(self, wrong, message) -> None:
        with pytest.raises(ValueError, match=message):
            LeakyBucket(**wrong)

    async def test_a_rate_is_a_bucket_and_a_rest_is_seconds(self) -> None:
        with pytest.raises(TypeError, match="must be a LeakyBucket"):
            RoundRobinLimiter().add_resource("a", rate=500)
        async with limiter_of("a") as resource:
            with pytest.raises(ValueError, match="number of seconds"):
                resource.rest(-1)


def _since_first(times: list[float]) -> list[float]:
    return [time - times[0] for time in times]
