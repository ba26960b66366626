"""One test for each race and each broken neighbour that was found the hard way."""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest
from anyio import (
    CancelScope,
    create_task_group,
    current_time,
    fail_after,
    move_on_after,
    sleep,
    sleep_forever,
    wait_all_tasks_blocked,
)

from cachesaver import (
    Batcher,
    Cache,
    CacheBusy,
    Cacher,
    CacheSaverWarning,
    Closed,
    Dispatcher,
    ModelError,
    Request,
    RoundRobinLimiter,
    Stage,
    _desk,
    local,
    online,
)
from cachesaver._desk import GROUP
from cachesaver.testing import CountingModel, FakeBatchModel

pytestmark = pytest.mark.anyio


class SlowCache(Cache):
    """Its owner thread takes a while for each job, as on a busy disk."""

    def _submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        def slowly(store: Any) -> Any:
            time.sleep(0.05)
            return work(store)

        return super()._submit(slowly)

    _look = _submit


class BusyCache(Cache):
    """Its first commits fail."""

    failures = 2

    def settle(self, bought: Sequence[Any], records: Sequence[Any], *more: Any, **how: Any) -> Future[Any]:
        if self.failures and (bought or records):
            self.failures -= 1
            failed: Future[Any] = Future()
            failed.set_exception(CacheBusy("as scripted"))
            return failed
        return super().settle(bought, records, *more, **how)


class HeldCache(Cache):
    """Its commits wait for a sign."""

    held: list[Callable[[], None]] | None = None

    def settle(self, *what: Any, **how: Any) -> Future[Any]:
        if self.held is None:
            return super().settle(*what, **how)
        done: Future[Any] = Future()
        self.held.append(lambda: done.set_result(Cache.settle(self, *what, **how).result()))
        return done


async def test_a_purchase_fails_while_its_mates_are_read(tmp_path: Path) -> None:
    """F3, F9: a failed position is not looked for among those that were read."""
    model = CountingModel()
    with SlowCache(tmp_path) as cache:
        async with online(model, cache) as api:
            await api.request("p", n=20)
        model.failures.append(OSError("no line"))
        async with online(model, cache) as api:
            with pytest.raises(OSError, match="no line"):
                await api.request("p", n=21)
            assert len(await api.request("p", n=21)) == 21


@pytest.mark.parametrize("behind", [_desk.MOST_BEHIND, 0])
async def test_answers_do_not_run_away_from_their_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    """F8: what waits to be written down is bounded."""
    answered: list[Any] = []

    async def ask(api: Stage) -> None:
        answered.extend((await api.request("p", namespace="later")).positions)

    monkeypatch.setattr(_desk, "MOST_BEHIND", behind)
    wanted = behind + 3 * GROUP
    with HeldCache(tmp_path) as cache:
        async with Cacher(CountingModel(), cache) as api:
            await api.request("p", wanted)
            await ask(api)
            cache.held = []
            async with create_task_group() as tasks:
                for _ in range(wanted - 1):
                    tasks.start_soon(ask, api)
                await wait_all_tasks_blocked()
                assert behind <= len(answered) <= behind + GROUP + 1
                held, cache.held = cache.held, None
                for go_on in held:
                    go_on()
    assert sorted(answered) == [*range(wanted)]


async def test_a_caller_leaves_while_it_is_recorded(tmp_path: Path) -> None:
    """S14, S6: the position stays with the id that it was written down for."""
    model = CountingModel()
    with SlowCache(tmp_path) as cache:
        async with online(model, cache) as api:
            await api.request("p", n=2, namespace="b")
            with move_on_after(0.12):
                await api.batch_request([Request("p", 1, "a", "x"), Request("p", 1, "a", None)])
            first = [(await api.request("p", 1, "a", name)).positions for name in (None, "x")]
        async with online(model, cache) as api:
            assert [(await api.request("p", 1, "a", name)).positions for name in (None, "x")] == first
    assert model.sold == 2


async def test_a_request_without_an_id_whose_place_went_to_a_new_id(cache: Cache) -> None:
    """S5: it is found again where it was sent instead."""
    model = CountingModel()

    async def run(*names: str | None) -> list[int]:
        async with online(model, cache) as api:
            return [(await api.request("p", 1, "a", name)).positions[0] for name in names]

    assert await run(None, "y") == [0, 1]
    with pytest.warns(match="not used in this namespace before"):
        assert await run("x", None) == [0, 1]
    assert await run("x", None) == [0, 1]
    assert model.sold == 2


async def test_two_faultless_runs_after_one_that_failed_agree(cache: Cache) -> None:
    """S6, S8: what an id was given last is what it gets again."""

    async def program(model: CountingModel) -> dict[str, Any]:
        got: dict[str, Any] = {}
        async with online(model, cache) as api:
            for name in ("step-0", "step-1", "step-2"):
                try:
                    got[name] = (await api.request("p", 1, "a", name))[0]
                except OSError:
                    got[name] = None
        return got

    model = CountingModel(failures=[OSError("no line")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheSaverWarning)
        await program(model)
        second = await program(model)
        assert await program(model) == second
    assert sorted(second.values()) == ["p#0", "p#1", "p#2"]
    assert model.sold == 3


async def test_a_shared_stack_outlives_those_above_it(cache: Cache) -> None:
    """F6, F3: a stack left by an error stops what it has entered itself, and nothing else."""
    model = CountingModel(delay=5)
    got: list[Any] = []

    async def ask() -> None:
        got.append((await other.request("q")).data)

    async with Dispatcher(model) as shared, Cacher(shared, cache, scope="B") as other, create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_all_tasks_blocked()
        with pytest.raises(ZeroDivisionError):
            async with Cacher(shared, cache, scope="A") as api:
                with move_on_after(1):
                    await api.request("p")
                raise ZeroDivisionError
        got.append((await other.request("r")).data)
    assert sorted(got) == [["q#0"], ["r#0"]]


async def test_an_answer_that_comes_after_the_end_is_kept(cache: Cache) -> None:
    """F7, F4, D1: a model that does not listen to its cancellation breaks nothing, and what it sells is stored."""

    class Deaf(CountingModel):
        async def request(self, prompt: Any, n: int = 1) -> list[Any]:
            with CancelScope(shield=True):
                await sleep(8)
                return await super().request(prompt, n)

    model = Deaf()
    results: list[Exception] = []

    async def ask() -> None:
        with pytest.raises(Closed) as closed:
            await api.request("p")
        results.append(closed.value)

    async with create_task_group() as tasks:
        with pytest.raises(ZeroDivisionError):
            async with online(model, cache) as api:
                tasks.start_soon(ask)
                await sleep(0.5)
                raise ZeroDivisionError
    assert len(results) == 1
    async with online(model, cache) as api:
        assert (await api.request("p")).cached == [True]
    assert model.sold == 1


def test_a_model_that_leaks_a_cancellation(tmp_path: Path) -> None:
    """F3, F4: some library awaited a task that somebody cancelled; that call fails, and no other."""

    async def model(prompt: str) -> str:
        if prompt == "bad":
            task = asyncio.ensure_future(asyncio.sleep(10))
            await asyncio.sleep(0)
            task.cancel()
            await task
        await asyncio.sleep(0.01)
        return prompt

    async def main() -> list[Any]:
        with Cache(tmp_path) as cache:
            async with online(model, cache) as api:
                asked = (api.request(prompt) for prompt in ("good", "bad"))
                return [*await asyncio.gather(*asked, return_exceptions=True), await api.request("later")]

    good, bad, later = asyncio.run(main())
    assert (good.data, later.data) == (["good"], ["later"])
    assert isinstance(bad, ModelError)


async def test_a_stage_that_returns_too_early() -> None:
    """F9: the block ends with an error, and does not go on without it."""
    from cachesaver import StageCrashed

    class Hasty(Stage):
        async def run(self, inbox: Any) -> None:
            for ticket in await inbox.receive():
                ticket.reply(["once"])

    with pytest.raises(StageCrashed):
        async with Hasty() as api:
            assert (await api.request("p")).data == ["once"]
            await sleep_forever()


async def test_an_id_of_five_thousand_digits(cache: Cache) -> None:
    """F3: Python refuses to read such a number; ordering does not need it."""
    async with online(CountingModel(), cache) as api:
        assert (await api.request("p", request_id="1" * 5000)).data == ["p#0"]


async def test_a_map_that_was_left_asks_nothing_more(cache: Cache) -> None:
    """S14, F6: not even in the tick in which room was made."""
    model = CountingModel()
    async with online(model, cache) as api:
        async with api.map(["p"] * 3, window=1) as responses:
            async for _ in responses:
                break
        assert (await api.request("p", request_id="1")).positions == [1]
    assert model.sold == 2


async def test_a_warning_turned_into_an_error_consumes_nothing(cache: Cache) -> None:
    """S14: neither at `request` nor at `map`."""
    model = CountingModel()
    async with online(model, cache) as api:
        await api.request("p", request_id="first")
    for ask in ("request", "map"):
        async with online(model, cache) as api:
            with warnings.catch_warnings():
                warnings.simplefilter("error", CacheSaverWarning)
                with pytest.raises(CacheSaverWarning):
                    if ask == "request":
                        await api.request("p", request_id=f"other {ask}")
                    else:
                        async with api.map([Request("p", request_id=f"other {ask}")]) as responses:
                            await anext(responses)
            assert (await api.request("p", request_id="first")).positions == [0]
    assert model.sold == 1


async def test_a_batcher_is_cut_off_with_part_of_a_request_in_hand() -> None:
    """F7, F9: the rest of a request that was split is owed too."""

    class Stuck(Stage):
        takes_prompts = True  # type: ignore[assignment]

        async def run(self, inbox: Any) -> None:
            await sleep_forever()

    results: list[Any] = []

    async def ask() -> None:
        with pytest.raises(Closed):
            await api.request("p", n=100)
        results.append("told")

    with fail_after(60):
        async with create_task_group() as tasks:
            with pytest.raises(ZeroDivisionError):
                async with Batcher(Stuck(), batch_size=1) as api:
                    tasks.start_soon(ask)
                    await wait_all_tasks_blocked()
                    raise ZeroDivisionError
    assert results == ["told"]


async def test_a_ticket_may_be_waited_for_twice() -> None:
    """F4: a stage that waits for a ticket does not rob its caller of the wake-up."""

    class Watching(Stage):
        async def run(self, inbox: Any) -> None:
            assert self.below is not None
            async for tickets in inbox:
                await self.below.submit(tickets)
                await tickets[0].settlement()

    with fail_after(60):
        async with Watching(Dispatcher(CountingModel(delay=1))) as api:
            assert (await api.request("p")).data == ["p#0"]


async def test_two_readers_share_a_map() -> None:
    """F4: neither takes the wake-up of the other."""
    got: list[Any] = []

    async def read(responses: Any) -> None:
        async for response in responses:
            got.append(response[0])  # noqa: PERF401 (two tasks append)

    with fail_after(60):
        async with Dispatcher(CountingModel(delay=1)) as api:
            async with api.map([f"p{number}" for number in range(8)], window=2) as responses:
                async with create_task_group() as readers:
                    for _ in range(2):
                        readers.start_soon(read, responses)
    assert sorted(got) == [f"p{number}#0" for number in range(8)]


@pytest.mark.filterwarnings("ignore::cachesaver.CacheSaverWarning")
async def test_assignments_outlive_a_busy_disk(tmp_path: Path) -> None:
    """S6, D5: what could not be written is written with the next commit, samples and assignments."""
    model = CountingModel()
    with BusyCache(tmp_path) as cache:
        async with online(model, cache) as api:
            first = {name: (await api.request("p", request_id=name))[0] for name in "xyz"}
        async with online(model, cache) as api:
            assert {name: (await api.request("p", request_id=name))[0] for name in "zyx"} == first
    assert model.sold == 3


async def test_a_batch_that_everybody_left_is_not_bought(cache: Cache) -> None:
    """F6: it waited for a resource, and nothing was sent."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("key")
    model = FakeBatchModel()
    async with local(model, cache, limiter=limiter) as api:
        async with limiter:
            with move_on_after(1):
                await api.batch_request([Request(prompt) for prompt in "abc"])
        assert (await api.request("d")).data == ["d#0"]
    assert [prompts for prompts, _ in model.calls] == [["d"]]


async def test_in_refresh_old_positions_are_out_of_bounds(cache: Cache) -> None:
    """S7, S11: a second namespace gets the new samples by the ids of the first."""
    async with online(CountingModel(), cache) as api:
        for name in "xy":
            await api.request("p", 1, "a", name)
    async with online(CountingModel(), cache, mode="refresh") as api:
        first = {name: (await api.request("p", 1, "a", name)).positions for name in "yx"}
        second = {name: (await api.request("p", 1, "b", name)).positions for name in "xy"}
    assert first == second
    assert sorted(first.values()) == [[2], [3]]


async def test_offline_a_request_that_misses_keeps_nothing_from_others(cache: Cache) -> None:
    """S10, S14: in the same list too."""
    async with online(CountingModel(), cache) as api:
        await api.request("p", n=2)
    async with Batcher(Cacher(CountingModel(), cache, mode="offline")) as api:
        outcomes: dict[int, str] = {}

        async def ask(n: int) -> None:
            try:
                await api.request("p", n=n)
                outcomes[n] = "hit"
            except Exception as error:
                outcomes[n] = type(error).__name__

        async with create_task_group() as tasks:
            tasks.start_soon(ask, 3)
            await anyio.lowlevel.checkpoint()
            tasks.start_soon(ask, 1)
        assert outcomes == {3: "CacheMiss", 1: "hit"}


async def test_a_key_added_while_another_rests_is_used() -> None:
    """L1, L5: whoever waits for the rest to end may take it."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a")
    async with limiter as resource:
        resource.rest(100)

    async def use() -> None:
        async with limiter as resource:
            got.append((resource.data, current_time()))

    got: list[tuple[str, float]] = []
    start = current_time()
    async with create_task_group() as tasks:
        tasks.start_soon(use)
        await wait_all_tasks_blocked()
        limiter.add_resource("b")
        tasks.start_soon(use)
    assert got[0][0] == "b"
    assert got[0][1] - start < 1


@pytest.mark.parametrize("stack", [online, local, Cacher])
async def test_a_stage_that_asks_on_behalf_of_a_caller_that_left(stack: Any, cache: Cache) -> None:
    """F6, F7, S14: it hears of it, so that its task ends; what it had drawn is offered again."""

    class Delegating(Stage):
        async def run(self, inbox: Any) -> None:
            async with create_task_group() as tasks:
                async for tickets in inbox:
                    for ticket in tickets:
                        tasks.start_soon(self.ask, ticket)

        async def ask(self, ticket: Any) -> None:
            assert self.below is not None
            child = ticket.child()
            await self.below.submit([child])
            try:
                ticket.answer(await child.result())
            except Exception as error:
                ticket.fail(error)

    model = CountingModel(delay=10)
    with fail_after(100):
        async with Delegating(stack(model, cache)) as api:
            with move_on_after(1):
                await api.request("p", request_id="x")
            assert (await api.request("p", request_id="x")).positions == [0]
    assert model.sold == 1


@pytest.mark.parametrize("trouble", ["the cache is closed", "the commit fails"])
async def test_a_late_answer_that_cannot_be_stored_is_spilled(trouble: str, tmp_path: Path) -> None:
    """F7, D5: nothing paid for is lost, however late it comes."""

    class Deaf(CountingModel):
        async def request(self, prompt: Any, n: int = 1) -> list[Any]:
            with CancelScope(shield=True):
                await sleep(8)
                return await super().request(prompt, n)

    model = Deaf()
    cache = BusyCache(tmp_path)
    cache.failures = 99 if trouble == "the commit fails" else 0
    cache.__enter__()
    async with create_task_group() as tasks:

        async def ask() -> None:
            with pytest.raises(Closed):
                await api.request("p")
            if trouble == "the cache is closed":
                cache.close()

        with pytest.raises(ZeroDivisionError):
            async with online(model, cache) as api:
                tasks.start_soon(ask)
                await sleep(0.5)
                raise ZeroDivisionError
    cache.close()
    assert model.sold == 1
    with Cache(tmp_path) as cache:
        async with online(model, cache, mode="offline") as api:
            assert (await api.request("p")).data == ["p#0"]
