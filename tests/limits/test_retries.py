"""Asking again: by what became of the request, on another resource, within bounds."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
import pytest
import sniffio
from anyio import create_task_group, current_time, fail_after, move_on_after, sleep, wait_all_tasks_blocked

from cachesaver import CacheSaverWarning, Dispatcher, NoResources, Resource, RoundRobinLimiter

from ..test_suspensions import WAYS, moments, ways
from ._provider import APIStatusError

pytestmark = pytest.mark.anyio


def limiter_of(*names: str, **options: Any) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter(**options)
    for name in names:
        limiter.add_resource(name, 10)
    return limiter


class Script:
    """Fails as it is told, then answers with the key."""

    def __init__(self, *errors: Exception | None) -> None:
        self.errors = list(errors)
        self.keys: list[str] = []
        self.times: list[float] = []

    async def __call__(self, resource: Any) -> str:
        self.keys.append(resource.data)
        self.times.append(current_time())
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return resource.data


async def test_refused_is_asked_again_at_once_elsewhere() -> None:
    """L5: no time passes while another key is free."""
    limiter, script, start = limiter_of("a", "b"), Script(APIStatusError(429, {"retry-after": "9"})), current_time()
    assert await limiter.request().call(script) == "b"
    assert current_time() == start


async def test_refused_waits_where_there_is_no_other() -> None:
    """L5: as long as the server says."""
    limiter, script, start = limiter_of("a"), Script(APIStatusError(503, {"retry-after": "9"})), current_time()
    assert await limiter.request().call(script) == "a"
    assert 9 <= current_time() - start <= 10


async def test_who_is_asked_again_has_its_place_still() -> None:
    """L1: a refusal does not send it behind those that came later."""
    limiter, order = RoundRobinLimiter(), []
    limiter.add_resource("a")
    refuse_once = [APIStatusError(429, {"retry-after": "5"})]

    async def ask(number: int) -> None:
        async def answer(_: Any) -> None:
            await sleep(1)
            if number == 0 and refuse_once:
                raise refuse_once.pop()
            order.append(number)

        await limiter.request().call(answer)

    async with create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(ask, number)
            await wait_all_tasks_blocked()
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("error", [httpx.ConnectError("m"), httpx.ConnectTimeout("m"), ConnectionRefusedError()])
async def test_what_was_not_sent_is_free(error: Exception) -> None:
    """R1: and spends nothing of the rate."""
    limiter, script = limiter_of("a"), Script(error, error)
    assert await limiter.request().call(script) == "a"
    assert len(script.keys) == 3


MAYBE = [httpx.ReadTimeout("m"), httpx.ReadError("m"), APIStatusError(500), APIStatusError(502), APIStatusError(504)]


@pytest.mark.parametrize("error", MAYBE)
async def test_what_may_be_billed_is_not_sent_again(error: Exception) -> None:
    """R1: unless that is allowed."""
    script = Script(error)
    with pytest.raises(type(error)):
        await limiter_of("a", "b").request().call(script)
    assert script.keys == ["a"]
    script = Script(error, error)
    with pytest.raises(type(error)):
        await limiter_of("a", "b", resend=1).request().call(script)
    assert script.keys == ["a", "b"]
    script = Script(error)
    assert await limiter_of("a", "b", resend=1).request().call(script) == "b"


@pytest.mark.parametrize("error", [ValueError("m"), APIStatusError(400), APIStatusError(404), APIStatusError(422)])
async def test_what_is_wrong_stays_wrong(error: Exception) -> None:
    """F4: the caller gets the model's own exception, at once."""
    script = Script(error)
    with pytest.raises(type(error)) as raised:
        await limiter_of("a", "b", resend=5).request().call(script)
    assert raised.value is error
    assert script.keys == ["a"]


async def test_attempts_have_an_end() -> None:
    """R3: and the last error is the provider's own."""
    errors = [APIStatusError(429, {"retry-after": "1"}) for _ in range(9)]
    script = Script(*errors)
    with pytest.raises(APIStatusError) as raised:
        await limiter_of("a").request().call(script)
    assert raised.value is errors[5]
    assert len(script.keys) == 6


async def test_time_has_an_end_too() -> None:
    """R3: where no resource will be ready within the patience, nobody waits for it."""
    start, script = current_time(), Script(APIStatusError(429, {"retry-after": "301"}))
    with pytest.raises(APIStatusError):
        await limiter_of("a").request().call(script)
    assert current_time() == start
    script = Script(*[APIStatusError(429, {"retry-after": "20"}) for _ in range(9)])
    with pytest.raises(APIStatusError):
        await limiter_of("a", patience=50).request().call(script)
    assert len(script.keys) == 3  # at 0, 20 and 40 seconds, and a little


async def test_patience_ends_a_wait_for_room() -> None:
    """R3: a request that was refused does not wait for ever behind others."""
    limiter = RoundRobinLimiter(patience=10)
    limiter.add_resource("a")
    error, script = APIStatusError(429, {"retry-after": "1"}), Script()
    script.errors = [error]

    async def hold() -> None:
        async with limiter.request(priority=1):
            await sleep(100)

    async def ask() -> None:
        with pytest.raises(APIStatusError) as raised:
            await limiter.request().call(script)
        assert raised.value is error
        assert 10 <= current_time() - start <= 11

    async with create_task_group() as tasks:
        async with limiter:
            start = current_time()
            tasks.start_soon(ask)
            await wait_all_tasks_blocked()
        await sleep(0.5)  # it was refused, and rests
        tasks.start_soon(hold)
    assert script.keys == ["a"]


async def test_dead_keys_are_passed_over() -> None:
    """R5: five of six keys are refused for good; the request is answered, and no attempt is used up."""
    limiter, script = limiter_of(*"abcdef", attempts=1), Script(*[APIStatusError(401) for _ in range(5)])
    with pytest.warns(CacheSaverWarning, match="is retired") as told:
        assert await limiter.request().call(script) == "f"
    assert len(told) == 5


async def test_the_last_key_dies() -> None:
    """R5, F4: the request gets the provider's error, with ours as a note; those after it get ours at once."""
    limiter, script = limiter_of("a"), Script(APIStatusError(401))
    with pytest.warns(CacheSaverWarning, match="0 of 1 are left"), pytest.raises(APIStatusError):
        await limiter.request().call(script)
    with fail_after(1), pytest.raises(NoResources, match="every resource"):
        await limiter.request().call(script)
    assert script.keys == ["a"]


async def test_cancelled_while_it_waits_to_ask_again() -> None:
    """L2, F6: nothing is kept."""
    limiter, script = limiter_of("a"), Script(APIStatusError(429, {"retry-after": "100"}))
    with move_on_after(5) as scope:
        await limiter.request().call(script)
    assert scope.cancelled_caught
    assert repr(limiter) == "<RoundRobinLimiter: 1 of 1 resources left, 0 requests in flight, 0 wait>"


async def test_every_suspension_of_a_call_that_is_asked_again() -> None:
    """L2, L4: cancelled while it waits, works, is refused, waits again: the key comes back."""
    for way in ways(sniffio.current_async_library()):
        for at in moments(way):
            limiter = RoundRobinLimiter()
            limiter.add_resource("key")  # nothing that takes time, which would stand still between the turns
            refusals = [APIStatusError(429, {"retry-after": "0"}), None, None]

            async def ask(resource: Resource, refusals: list[Any] = refusals) -> Any:
                await anyio.lowlevel.checkpoint()
                if error := refusals.pop(0):
                    raise error
                return resource.data

            async def call(limiter: RoundRobinLimiter = limiter, ask: Any = ask) -> Any:
                return await limiter.request(tokens=3).call(ask)

            async with create_task_group() as tasks:
                tasks.start_soon(call)
                struck, _ = await WAYS[way](at, call)
            assert repr(limiter) == "<RoundRobinLimiter: 1 of 1 resources left, 0 requests in flight, 0 wait>"
            with fail_after(1):
                async with limiter as resource:
                    assert resource.data == "key"
            if not struck:
                break
        assert at > 2


class Model:
    """Fails as it is told, under a Dispatcher."""

    cache_scope = "model"

    def __init__(self, *errors: Exception | None) -> None:
        self.script = Script(*errors)

    async def request(self, prompt: str, resource: Any) -> str:
        return f"{prompt} by {await self.script(resource)}"


class TestInAStack:
    async def test_a_refusal_is_nobodys_error(self) -> None:
        """L5, F4: the caller notices nothing; the counts tell."""
        model = Model(APIStatusError(429, {"retry-after": "9"}))
        async with Dispatcher(model, limiter_of("a", "b")) as api:
            assert (await api.request("p")).data == ["p by b"]
            assert (api.stats.calls, api.stats.errors, api.stats.refused, api.stats.maybe_billed) == (2, 1, 1, 0)

    async def test_what_may_be_billed_is_counted(self) -> None:
        """R1: so that a bill that is higher than the answers has an explanation."""
        model = Model(httpx.ReadTimeout("m"))
        async with Dispatcher(model, limiter_of("a", "b")) as api:
            with pytest.raises(httpx.ReadTimeout):
                await api.request("p")
            assert (api.stats.refused, api.stats.maybe_billed) == (0, 1)

    async def test_batches_too(self) -> None:
        """L5: a batch that was refused is asked again whole."""
        script = Script(APIStatusError(529))

        class Batches:
            async def batch_request(self, prompts: list[str], resource: Any) -> list[str]:
                await script(resource)
                return prompts

        async with Dispatcher(Batches(), limiter_of("a", "b")) as api:
            assert (await api.request("p", n=2)).data == ["p", "p"]
        assert script.keys == ["a", "b"]

    async def test_nobody_waits_for_it_any_more(self) -> None:
        """F6, L4: a caller who left before its turn has spent nothing of the rate."""
        limiter, model = RoundRobinLimiter(), Model()
        limiter.add_resource("a", 1)
        async with Dispatcher(model, limiter) as api:
            async with limiter:
                with move_on_after(1):
                    await api.request("p")
            assert (await api.request("q")).data == ["q by a"]
        assert model.script.keys == ["a"]
