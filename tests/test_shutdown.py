"""The end of a run: drained, stopped, or broken; nobody is left waiting, nothing paid for is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from anyio import (
    TASK_STATUS_IGNORED,
    CancelScope,
    create_task_group,
    current_time,
    fail_after,
    move_on_after,
    sleep,
    sleep_forever,
    wait_all_tasks_blocked,
)
from anyio.lowlevel import checkpoint

from cachesaver import (
    Batcher,
    Cache,
    Cacher,
    Closed,
    Deduplicator,
    Dispatcher,
    Reorderer,
    Response,
    Stage,
    StageCrashed,
    local,
    online,
)
from cachesaver.testing import CountingModel, FakeBatchModel

pytestmark = pytest.mark.anyio

PRESETS = [online, local, Cacher]


async def answer_of(api: Stage, results: list[Any], *request: Any) -> None:
    try:
        results.append(await api.request(*request))
    except Exception as error:
        results.append(error)


class TestDraining:
    @pytest.mark.parametrize("stack", PRESETS)
    async def test_everything_accepted_is_answered_and_recorded(self, stack: Any, cache: Cache) -> None:
        """F7: leaving normally drains, and callers outside the block get their answers."""
        model = CountingModel(delay=10)
        results: list[Any] = []
        async with create_task_group() as tasks:
            async with stack(model, cache) as api:
                for prompt in "abc":
                    tasks.start_soon(answer_of, api, results, prompt)
                await wait_all_tasks_blocked()
        assert sorted(response.data for response in results) == [["a#0"], ["b#0"], ["c#0"]]
        async with stack(model, cache, mode="offline") as api:
            assert [(await api.request(prompt)).data for prompt in "abc"] == [["a#0"], ["b#0"], ["c#0"]]

    async def test_a_partly_filled_batch_leaves_at_once(self, cache: Cache) -> None:
        """F7, F2: nothing else can arrive, so nothing is waited for."""
        model = FakeBatchModel()
        results: list[Any] = []
        async with create_task_group() as tasks:
            async with local(model, cache, batch_size=10, timeout=1000) as api:
                tasks.start_soon(answer_of, api, results, "p")
                await wait_all_tasks_blocked()
                start = current_time()
        assert current_time() - start < 1
        assert [response.data for response in results] == [["p#0"]]

    async def test_an_idle_stack_leaves_at_once(self, cache: Cache) -> None:
        """F7."""
        with fail_after(1):
            async with online(CountingModel(), cache):
                pass


class TestStopping:
    @pytest.mark.parametrize("stack", PRESETS)
    async def test_an_error_of_the_block_stops_fast_and_is_plain(self, stack: Any, cache: Cache) -> None:
        """F7, F4: the block's own error, in no group; those who waited get one that says what to do."""
        model = CountingModel(delay=1000)
        results: list[Any] = []
        start = current_time()
        async with create_task_group() as tasks:
            with pytest.raises(ZeroDivisionError):
                async with stack(model, cache) as api:
                    for prompt in "abc":
                        tasks.start_soon(answer_of, api, results, prompt)
                    await wait_all_tasks_blocked()
                    raise ZeroDivisionError
        assert current_time() - start < 1
        assert [type(result) for result in results] == [Closed] * 3
        assert all("ask again in a new run" in str(result) for result in results)
        assert len({id(result) for result in results}) == 3

    @pytest.mark.parametrize("stack", PRESETS)
    async def test_a_cancelled_block_stops_fast(self, stack: Any, cache: Cache) -> None:
        """F7, F6: a shield has no say about how long."""
        model = CountingModel(delay=1000)
        results: list[Any] = []
        start = current_time()
        async with create_task_group() as tasks:
            with move_on_after(1):
                async with stack(model, cache) as api:
                    tasks.start_soon(answer_of, api, results, "p")
                    await sleep_forever()
        assert current_time() - start < 2
        assert [type(result) for result in results] == [Closed]

    @pytest.mark.parametrize("ticks", range(0, 60, 2))
    @pytest.mark.parametrize("stack", PRESETS)
    async def test_what_the_model_has_returned_is_recorded(self, stack: Any, ticks: int, tmp_path: Path) -> None:
        """F7, D1: stopped at any tick, what was bought is in the cache."""
        model = CountingModel()
        with Cache(tmp_path) as cache:
            with CancelScope() as scope:
                async with create_task_group() as tasks:
                    async with stack(model, cache) as api:
                        for namespace in "ab":
                            tasks.start_soon(api.request, "p", 2, namespace)
                        for _ in range(ticks):
                            await checkpoint()
                        scope.cancel()
                        await checkpoint()
            assert sum(known.samples for known in cache.known_prompts(9).result()) == model.sold

    async def test_a_model_that_cannot_be_cancelled_is_left_behind(self, cache: Cache) -> None:
        """F7: a thread that is stuck does not hold up the end."""
        release = threading.Event()

        def stuck(prompt: str) -> str:
            release.wait(60)
            return prompt

        try:
            with pytest.raises(ZeroDivisionError):
                async with online(stuck, cache) as api, create_task_group() as tasks:
                    tasks.start_soon(answer_of, api, [], "p")
                    await wait_all_tasks_blocked()
                    raise_(ZeroDivisionError())
        except* ZeroDivisionError:
            pass
        finally:
            release.set()

    async def test_a_stage_that_ignores_its_end_is_cut_off(self) -> None:
        """F7: the shield has a deadline, `grace`."""

        class Deaf(Stage):
            grace = 2.0

            async def run(self, inbox: Any) -> None:
                await sleep(1000)

        start = current_time()
        with move_on_after(1):
            async with Deaf() as api:
                await api.request("p")
        assert current_time() - start == pytest.approx(3)


class TestBreaking:
    @pytest.mark.parametrize(
        "wrap", [lambda stage: stage, Batcher, Reorderer, Deduplicator], ids=["alone", "batcher", "reorderer", "dedup"]
    )
    async def test_a_bug_in_a_stage_fails_every_caller_and_leaves_the_block(self, wrap: Any) -> None:
        """F9: nobody is left waiting, and the cause is chained."""

        class Buggy(Stage):
            async def run(self, inbox: Any) -> None:
                await inbox.receive()
                await sleep(1)
                raise LookupError("a bug")

        results: list[Any] = []
        with pytest.raises(StageCrashed) as crash:
            async with wrap(Buggy()) as api, create_task_group() as tasks:
                for prompt in "abc":
                    tasks.start_soon(answer_of, api, results, prompt)
                with move_on_after(10):
                    await sleep_forever()
        assert [type(result) for result in results] == [Closed] * 3
        causes: list[BaseException] = [crash.value]
        while not isinstance(causes[-1], LookupError):
            cause = causes[-1].__cause__
            assert isinstance(cause, BaseException)
            causes.append(cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause)

    async def test_a_bug_above_a_cacher_loses_nothing_bought(self, cache: Cache) -> None:
        """F9, D1: what was on its way when the stage broke is kept."""

        class Buggy(Stage):
            async def run(self, inbox: Any) -> None:
                assert self.below is not None
                await self.below.submit(await inbox.receive())
                await sleep(5)
                raise LookupError("a bug")

        model = CountingModel(delay=1)
        with pytest.raises(StageCrashed):
            async with Buggy(Cacher(model, cache)) as api:
                assert (await api.request("p")).data == ["p#0"]
                await sleep_forever()
        async with Cacher(model, cache) as api:
            assert (await api.request("p")).cached == [True]

    async def test_a_request_after_the_crash_raises_at_once(self) -> None:
        """F9, F7."""

        class Buggy(Stage):
            async def run(self, inbox: Any) -> None:
                raise LookupError("a bug")

        stage = Buggy()
        with pytest.raises(StageCrashed):
            async with stage:
                await sleep_forever()
        with fail_after(1), pytest.raises(Closed):
            await stage.request("p")

    async def test_a_stage_that_forgets_a_ticket_fails_it(self) -> None:
        """F9: a ticket dropped by a bug is an error, not a hang."""

        class Forgetful(Stage):
            async def run(self, inbox: Any) -> None:
                async for _ in inbox:
                    pass

        results: list[Any] = []
        async with create_task_group() as tasks:
            async with Forgetful(Dispatcher(CountingModel())) as api:
                tasks.start_soon(answer_of, api, results, "p")
                await wait_all_tasks_blocked()
        assert [type(result) for result in results] == [Closed]


class TestResuming:
    async def test_a_run_that_died_is_resumed(self, cache: Cache) -> None:
        """S8: delivered, or bought and not delivered, it comes from the cache; only the rest is bought."""
        model = CountingModel(delay=1)

        async def program(api: Stage, die_at: int | None = None) -> list[Any]:
            answers: list[Any] = []
            for step in range(6):
                if step == die_at:
                    async with create_task_group() as tasks:  # bought, and never delivered
                        tasks.start_soon(api.request, f"step {step}")
                        await sleep(0.5)
                        tasks.cancel_scope.cancel()
                    await sleep(2)
                    raise ZeroDivisionError
                answers += (await api.request(f"step {step}")).data
            return answers

        with pytest.raises(ZeroDivisionError):
            async with online(model, cache) as api:
                await program(api, die_at=3)
        assert model.sold == 4
        async with online(model, cache) as api:
            assert await program(api) == [f"step {step}#0" for step in range(6)]
        assert model.sold == 6
        assert api.stats.hits == 4


async def test_callers_on_both_sides_of_the_end(cache: Cache) -> None:
    """F7: a request that arrives while the stack drains is answered or refused, and never waits for ever."""
    model = CountingModel(delay=1)
    results: list[Any] = []

    async def keep_asking(*, task_status: Any = TASK_STATUS_IGNORED) -> None:
        task_status.started()
        for number in range(40):
            await answer_of(api, results, f"p{number}")
            await checkpoint()

    with fail_after(100):
        async with create_task_group() as tasks:
            async with online(model, cache) as api:
                await tasks.start(keep_asking)
                await sleep(5)
    kinds = [isinstance(result, Response) for result in results]
    assert kinds == sorted(kinds, reverse=True)
    assert True in kinds
    assert False in kinds


def raise_(error: Exception) -> None:
    raise error
