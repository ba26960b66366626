"""Pushback: who rests, for how long, with whom; and who is never lent again."""

from __future__ import annotations

import math
from typing import Any

import anyio
import pytest
from anyio import create_task_group, current_time, fail_after, sleep, wait_all_tasks_blocked

from cachesaver import (
    CacheSaverWarning,
    Dispatcher,
    LeakyBucket,
    NoResources,
    Request,
    Resource,
    RoundRobinLimiter,
    UnlimitedLimiter,
)
from cachesaver._dispatcher import model_of

from ._provider import APIStatusError

pytestmark = pytest.mark.anyio


def limiter_of(*names: str, group: str | None = None, **options: Any) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter(**options)
    for name in names:
        limiter.add_resource(name, 10, group=group)
    return limiter


async def refuse(limiter: RoundRobinLimiter, error: Exception, **labels: Any) -> str:
    """Have the next resource refused, and tell which it was."""
    key = ""
    with pytest.raises(type(error)):
        async with limiter.request(**labels) as resource:
            key = resource.data
            raise error
    return key


async def next_key(limiter: RoundRobinLimiter, **labels: Any) -> str:
    async with limiter.request(**labels) as resource:
        return resource.data


class TestRest:
    @pytest.mark.parametrize("status", [429, 503, 529])
    async def test_for_as_long_as_the_server_says(self, status: int) -> None:
        """L5: a little longer, so that many processes do not come back as one."""
        limiter, start = limiter_of("a"), current_time()
        await refuse(limiter, APIStatusError(status, {"retry-after": "5"}))
        await next_key(limiter)
        assert 5 <= current_time() - start <= 5.5

    async def test_the_others_go_on(self) -> None:
        """L5: while one rests."""
        limiter = limiter_of("a", "b", "c")
        assert await refuse(limiter, APIStatusError(429, {"retry-after": "5"})) == "a"
        start = current_time()
        assert [await next_key(limiter) for _ in range(4)] == list("bcbc")
        assert current_time() == start
        await sleep(6)
        assert {await next_key(limiter) for _ in range(3)} == set("abc")

    async def test_keys_of_a_group_rest_together(self) -> None:
        """L5: an organisation has one quota."""
        limiter = RoundRobinLimiter()
        for key, group in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b")):
            limiter.add_resource(key, 10, group=group)
        assert await refuse(limiter, APIStatusError(429, {"retry-after": "5"})) == "a1"
        start = current_time()
        assert [await next_key(limiter) for _ in range(4)] == ["b1", "b2", "b1", "b2"]
        assert current_time() == start

    async def test_a_group_keeps_one_rate(self) -> None:
        """L4: two keys of it are no faster than one; of two groups each has its own."""
        limiter, rate = RoundRobinLimiter(), LeakyBucket(requests=1, period=1)
        for key, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            limiter.add_resource(key, 10, rate, group)
        starts: list[tuple[str, float]] = []
        begin = current_time()
        for _ in range(6):
            async with limiter as resource:
                starts.append((resource.data[0], round(current_time() - begin, 6)))
        assert sorted(starts) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]

    async def test_a_model_rests_alone(self) -> None:
        """L5: other models under the same key go on."""
        limiter = limiter_of("a")
        await refuse(limiter, APIStatusError(429, {"retry-after": "5"}), model="large")
        start = current_time()
        assert await next_key(limiter, model="small") == "a"
        assert current_time() == start
        await next_key(limiter, model="large")
        assert current_time() - start >= 5

    async def test_models_have_rates_of_their_own(self) -> None:
        """L4: and one that is at its limit holds up no other, whoever came first."""
        limiter = RoundRobinLimiter()
        limiter.add_resource(
            "a", 10, {"slow": LeakyBucket(requests=1, period=10), "fast": LeakyBucket(requests=1, period=5)}
        )
        order: list[str] = []

        async def ask(model: str) -> None:
            async with limiter.request({"model": model}):
                order.append(model)

        start = current_time()
        async with create_task_group() as tasks:
            for model in ("slow", "slow", "fast", "fast", "none", "none"):
                tasks.start_soon(ask, model)
                await sleep(0.1)
        assert order == ["slow", "fast", "none", "none", "fast", "slow"]
        assert current_time() - start == pytest.approx(10)

    async def test_without_a_word_it_is_longer_each_time(self) -> None:
        """L5: full jitter, between nothing and half a second, doubled with each refusal in a row, up to a minute."""
        limiter, rests = limiter_of("a"), []
        for _ in range(60):
            start = current_time()
            await refuse(limiter, APIStatusError(429))
            rests.append(current_time() - start)
        assert all(rest <= min(60, 0.5 * 2 ** (number - 1)) + 1e-6 for number, rest in enumerate(rests))
        assert max(rests[8:]) > 30
        assert max(rests) <= 60
        assert min(rests[8:]) < 20

    async def test_a_success_starts_it_anew(self) -> None:
        """L5: refusals count while they are in a row."""
        limiter = limiter_of("a")
        for _ in range(8):
            await refuse(limiter, APIStatusError(429))
        await next_key(limiter)
        await refuse(limiter, APIStatusError(429))
        start = current_time()
        await next_key(limiter)
        assert current_time() - start <= 0.5

    async def test_refusals_of_one_burst_are_one(self) -> None:
        """L5: nine requests that were sent together and refused together are no reason to wait for minutes."""
        limiter = limiter_of("a")

        async def fail() -> None:
            await refuse_later(limiter)

        start = current_time()
        async with create_task_group() as tasks:
            for _ in range(9):
                tasks.start_soon(fail)
        await next_key(limiter)
        assert current_time() - start <= 1.5

    async def test_a_rest_has_an_end(self) -> None:
        """L5: a server that says a week is asked again after an hour."""
        limiter, start = limiter_of("a"), current_time()
        await refuse(limiter, APIStatusError(429, {"retry-after": str(7 * 86400)}))
        await next_key(limiter)
        assert 3600 <= current_time() - start <= 3601

    async def test_by_hand(self) -> None:
        """L5: `rest` is exact, and a shorter one does not shorten it."""
        limiter, start = limiter_of("a"), current_time()
        async with limiter as resource:
            resource.rest(5)
            resource.rest(1)
        await next_key(limiter)
        assert current_time() - start == pytest.approx(5)

    async def test_from_a_thread(self) -> None:
        """L5: a model that is not async has its resource in a worker thread."""
        limiter = limiter_of("a")
        async with limiter as resource:
            await anyio.to_thread.run_sync(resource.rest, 0.2)
            await anyio.to_thread.run_sync(lambda: resource.used(tokens=3))

    async def test_unlimited_rests_too(self) -> None:
        """L5: no limit of ours does not lift the provider's."""
        limiter, start = UnlimitedLimiter("a"), current_time()
        async with limiter as first, limiter as second:
            assert (first.data, second.data) == ("a", "a")
        await refuse(limiter, APIStatusError(429, {"retry-after": "5"}))
        await next_key(limiter)
        assert current_time() - start >= 5

    async def test_other_errors_say_nothing(self) -> None:
        """L5: a request that was wrong, or a server that fell over, sets nobody to rest."""
        limiter, start = limiter_of("a"), current_time()
        for status in (400, 404, 422, 500, 502):
            await refuse(limiter, APIStatusError(status))
        await refuse(limiter, ValueError())
        await next_key(limiter)
        assert current_time() == start


async def refuse_later(limiter: RoundRobinLimiter) -> None:
    with pytest.raises(APIStatusError):
        async with limiter:
            await sleep(1)
            raise APIStatusError(429)


INVALID = APIStatusError(401)
USED_UP = APIStatusError(429, body={"error": {"code": "insufficient_quota"}})


class TestRetire:
    async def test_a_key_that_was_refused(self) -> None:
        """L1: is never lent again, and that is told once."""
        limiter = limiter_of("a", "b")
        with pytest.warns(
            CacheSaverWarning, match="resource number 1 is retired: its key was refused .status 401.; 1 of 2"
        ):
            assert await refuse(limiter, INVALID) == "a"
        assert [await next_key(limiter) for _ in range(3)] == list("bbb")
        assert repr(limiter) == "<RoundRobinLimiter: 1 of 2 resources left, 0 requests in flight, 0 wait>"

    async def test_a_quota_takes_its_group_along(self) -> None:
        """L1: an organisation that has not paid has not paid for any of its keys."""
        limiter = RoundRobinLimiter()
        for key, group in (("a1", "a"), ("a2", "a"), ("b1", "b")):
            limiter.add_resource(key, 10, group=group)
        with pytest.warns(CacheSaverWarning, match="its quota is used up") as told:
            await refuse(limiter, USED_UP)
        assert len(told) == 2
        assert [await next_key(limiter) for _ in range(2)] == ["b1", "b1"]

    async def test_all_of_them(self) -> None:
        """L2: whoever waits, and whoever comes, is told at once, with the reasons."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("sk-one")
        limiter.add_resource("sk-two", group="org")
        errors: list[NoResources] = []

        async def wait() -> None:
            with pytest.raises(NoResources) as told:
                await next_key(limiter)
            errors.append(told.value)

        async def hold_and_fail(error: Exception) -> None:
            with pytest.raises(APIStatusError):
                async with limiter:
                    await sleep(1)
                    raise error

        async def storm() -> None:
            async with create_task_group() as tasks:
                tasks.start_soon(hold_and_fail, INVALID)
                tasks.start_soon(hold_and_fail, USED_UP)
                await wait_all_tasks_blocked()
                for _ in range(3):
                    tasks.start_soon(wait)

        with pytest.warns(CacheSaverWarning):
            await storm()
        with fail_after(1):
            await wait()
        assert len(errors) == 4
        message = str(errors[-1])
        assert "every resource of this limiter is retired" in message
        assert "number 1: its " in message
        assert "number 2 (org): its " in message
        assert "add_resource" in message
        assert "sk-" not in message

    async def test_a_new_one_goes_on(self) -> None:
        """L1: as the message says."""
        limiter = limiter_of("a")
        with pytest.warns(CacheSaverWarning):
            await refuse(limiter, INVALID)
        limiter.add_resource("b")
        assert await next_key(limiter) == "b"

    async def test_by_hand(self) -> None:
        """L1: for a provider whose errors nobody can read."""
        limiter = limiter_of("a", "b")
        async with limiter as resource:
            resource.retire("it is the intern's")
        assert [await next_key(limiter) for _ in range(2)] == list("bb")


class TestModels:
    async def test_in_a_stack_each_has_its_own(self) -> None:
        """L4: told by the prompt; one waits for its rate, the other does not."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 10, {"slow": LeakyBucket(requests=1, period=10)})
        times: dict[str, list[float]] = {"slow": [], "fast": []}

        async def model(prompt: Any) -> str:
            times[prompt["model"]].append(current_time())
            return "yes"

        async with Dispatcher(model, limiter) as api:
            start = current_time()
            await api.batch_request([Request({"model": name, "n": k}) for name in times for k in range(2)])
        assert [at - start for at in times["slow"]] == pytest.approx([0, 10])
        assert [at - start for at in times["fast"]] == pytest.approx([0, 0])

    @pytest.mark.parametrize(
        ("prompt", "scope", "name"),
        [
            ({"model": "m"}, None, "m"),
            ({}, "host/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
            ({"model": 7}, "host/v1/chat/completions", None),
            ("text", None, None),
        ],
    )
    async def test_its_name(self, prompt: Any, scope: str | None, name: str | None) -> None:
        """L4: in the prompt, or in the path."""
        assert model_of(prompt, scope) == name


class TestLearning:
    async def test_what_is_left_is_spread_until_the_reset(self) -> None:
        """L4: five left for ten seconds: one every two."""
        limiter, starts = limiter_of("a"), []
        begin = current_time()
        async with limiter as resource:
            resource.announced({"x-ratelimit-remaining": "5", "x-ratelimit-reset": "10"})
        for _ in range(6):
            async with limiter:
                starts.append(current_time() - begin)
        assert starts == pytest.approx([0, 2.5, 5, 7.5, 10, 10], abs=2.6)
        assert starts[-1] >= 9

    async def test_opting_out(self) -> None:
        """L4: then only the rates that were given count."""
        limiter = limiter_of("a", learn=False)
        start = current_time()
        for _ in range(6):
            async with limiter as resource:
                resource.announced({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "10"})
        assert current_time() == start

    async def test_tokens_too(self) -> None:
        """L4: 100 tokens left for ten seconds, and 50 wanted: five seconds."""
        limiter, start = limiter_of("a"), current_time()
        async with limiter as resource:
            resource.announced({"x-ratelimit-remaining-tokens": "100", "x-ratelimit-reset-tokens": "10s"})
        async with limiter.request(tokens=50):
            assert current_time() == start
        async with limiter:
            assert current_time() - start == pytest.approx(10, abs=5)

    async def test_a_limit_by_the_day_is_not_spread(self) -> None:
        """L4: a researcher wants today's requests now."""
        limiter, start = limiter_of("a"), current_time()
        for _ in range(20):
            async with limiter as resource:
                resource.announced({"x-ratelimit-remaining-requests": "900", "x-ratelimit-reset-requests": "23h"})
        assert current_time() == start


class TestTokens:
    async def test_they_are_reserved(self) -> None:
        """L4: ten requests of 50 tokens at 100 a second start half a second apart, before any has ended."""
        limiter, starts = RoundRobinLimiter(), []
        limiter.add_resource("a", 100, LeakyBucket(tokens=100, period=1))
        begin = current_time()

        async def ask() -> None:
            async with limiter.request(tokens=50):
                starts.append(current_time() - begin)
                await sleep(100)

        async with create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(ask)
        assert starts == pytest.approx([number / 2 for number in range(10)])

    async def test_what_was_not_used_is_given_back(self) -> None:
        """L4: 50 reserved, 10 used: the next one need not wait for the other 40."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 100, LeakyBucket(tokens=10, period=1))
        start = current_time()
        async with limiter.request(tokens=50) as resource:
            resource.used(tokens=10)
        async with limiter.request(tokens=50):
            assert current_time() - start == pytest.approx(1)

    async def test_what_was_used_beyond_it_is_owed(self) -> None:
        """L4: also when it is told after the resource came back."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 100, LeakyBucket(tokens=10, period=1))
        start = current_time()
        async with limiter.request(tokens=10) as resource:
            pass
        resource.used(tokens=40)
        resource.used(tokens=40)
        async with limiter:
            assert current_time() - start == pytest.approx(4)

    async def test_nothing_is_spent_where_nothing_was_sent(self) -> None:
        """L4: a refused connection, or a caller who left, has used neither a request nor tokens."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 100, LeakyBucket(requests=1, tokens=10, period=10))
        start = current_time()
        async with limiter.request(tokens=50) as resource:
            resource.unused()
        async with limiter:
            assert current_time() == start

    async def test_an_answer_is_estimated_by_the_answers_before(self) -> None:
        """L4: the first by what the prompt allows, the next by what the first had."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 100, LeakyBucket(tokens=100, period=1))
        prompt = {"model": "m", "messages": [{"role": "user", "content": "x" * 80}], "max_tokens": 400}
        starts: list[float] = []
        begin = current_time()
        for _ in range(4):
            async with limiter.request(prompt) as resource:
                starts.append(current_time() - begin)
                resource.used(tokens=130)
        assert starts == pytest.approx([0, 1.3, 2.6, 3.9])

    async def test_an_estimate_of_ones_own(self) -> None:
        """L4: a function of the prompt and n."""
        asked: list[tuple[Any, int]] = []

        def estimate(prompt: Any, n: int) -> float:
            asked.append((prompt, n))
            return 30.0 * n

        limiter = RoundRobinLimiter(estimate=estimate)
        limiter.add_resource("a", 100, LeakyBucket(tokens=10, period=1))
        start = current_time()
        async with limiter.request("p", 2):
            pass
        async with limiter.request("p"):
            assert current_time() - start == pytest.approx(6)
        assert asked == [("p", 2), ("p", 1)]

    @pytest.mark.parametrize("tokens", [-1, math.nan, math.inf])
    async def test_tokens_are_a_number(self, tokens: float) -> None:
        async with limiter_of("a") as resource:
            with pytest.raises(ValueError, match="tokens must be a number"):
                resource.used(tokens=tokens)


async def test_a_group_has_one_rate() -> None:
    """L4: two rates for one group are a mistake, and are said to be one."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a", rate=LeakyBucket(requests=1), group="org")
    limiter.add_resource("b", group="org")  # has it already
    with pytest.raises(ValueError, match="all keys of the group 'org' share one rate"):
        limiter.add_resource("c", rate=LeakyBucket(requests=2), group="org")
    with pytest.raises(TypeError, match="or one for each model, not int"):
        limiter.add_resource("d", rate={"m": 5})  # pyright: ignore[reportArgumentType]


async def test_a_resource_tells_what_it_carries() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource("a", None)
    async with limiter as resource:
        assert isinstance(resource, Resource)
        assert (resource.capacity, resource.in_use, repr(resource)) == (None, 1, "<Resource 1 in use>")
