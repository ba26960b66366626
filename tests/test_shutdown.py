"""The end of a run: drained, stopped, or broken; nobody is left waiting, nothing paid for is lost."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from anyio import (
    TASK_STATUS_IGNORED,
    CancelScope,
    Event,
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
    Inbox,
    Reorderer,
    Response,
    Stage,
    StageCrashed,
    Ticket,
    _stage,
    local,
    online,
)
from cachesaver._collecting import Collecting
from cachesaver.testing import CountingModel, FakeBatchModel

pytestmark = pytest.mark.anyio

PRESETS = [online, local, Cacher]


async def answer_of(api: Stage, results: list[Any], *request: Any) -> None:
    try:
        results.append(await api.request(*request))
    except Exception as error:
        results.append(error)


class Ticking(CountingModel):
    """Takes some turns of the event loop for each call, more for each prompt, and tells of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.called = Event()

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        self.called.set()
        for _ in range(6 + 4 * prompt):
            await checkpoint()
        return await super().request(prompt, n)


async def unrecorded(stack: Any, ticks: int, path: Path) -> int:
    """How many samples the model has sold and the cache lacks, when all is stopped so long after a call of it.

    Turns of the loop are counted from there, for how many the cache's thread takes before it is left to chance.
    """
    model = Ticking()
    with Cache(path) as cache:
        with CancelScope() as scope:
            async with create_task_group() as tasks:
                async with stack(model, cache) as api:
                    for prompt in range(4):
                        for namespace in "ab":
                            tasks.start_soon(api.request, prompt, 2, namespace)
                    await model.called.wait()
                    for _ in range(ticks):
                        await checkpoint()
                    scope.cancel()
                    await checkpoint()
    with Cache(path) as cache:
        return model.sold - sum(known.samples for known in cache.known_prompts(9).result())


async def answer_of_a_cleanup(stack: Any, cache: Cache) -> Any:
    """What a block gets that asks when it was cancelled already."""
    results: list[Any] = []
    with move_on_after(1):
        async with stack(CountingModel(delay=1), cache) as api:
            try:
                await sleep_forever()
            finally:
                with CancelScope(shield=True):
                    await answer_of(api, results, "p")
    return results[0]


def without_the_shield(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stage, "CancelScope", lambda shield: CancelScope())


class Deaf(Stage):
    """Does not hear that its block has been left."""

    grace = 2.0

    async def run(self, inbox: Any) -> None:
        await sleep(1000)


async def seconds_of(stage: Stage) -> float:
    """How long a block lasts that is cancelled after a second."""
    start = current_time()
    with move_on_after(1):
        async with stage as api:
            await api.request("p")
    return current_time() - start


class Buggy(Stage):
    """Breaks a second after it was asked."""

    async def run(self, inbox: Any) -> None:
        await inbox.receive()
        await sleep(1)
        raise LookupError("a bug")


async def answers_of_a_broken(stage: Stage) -> tuple[list[Any], StageCrashed]:
    """What three callers get from a stage that breaks, and what its block raises."""
    results: list[Any] = []
    with pytest.raises(StageCrashed) as crash:
        async with stage as api, create_task_group() as tasks:
            for prompt in "abc":
                tasks.start_soon(answer_of, api, results, prompt)
            with move_on_after(10):
                await sleep_forever()
    return results, crash.value


class Forgetful(Stage):
    """Drops what it is asked."""

    async def run(self, inbox: Any) -> None:
        async for _ in inbox:
            pass


async def answers_of_a_forgetful_stage() -> list[Any]:
    """What a caller gets within ten seconds after the end of a stage that has dropped its ticket."""
    results: list[Any] = []
    with move_on_after(10):
        async with create_task_group() as tasks:
            async with Forgetful(Dispatcher(CountingModel())) as api:
                tasks.start_soon(answer_of, api, results, "p")
                await wait_all_tasks_blocked()
    return results


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

    @pytest.mark.parametrize("ticks", range(30))
    @pytest.mark.parametrize("stack", PRESETS)
    async def test_what_the_model_has_returned_is_recorded(self, stack: Any, ticks: int, tmp_path: Path) -> None:
        """F7, D1: stopped at any tick, what was bought is in the cache."""
        assert await unrecorded(stack, ticks, tmp_path) == 0

    async def test_control_without_what_keeps_them_samples_are_lost(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """F7, D1: the test above fails without the shield and without the spilling; each alone is enough."""
        without_the_shield(monkeypatch)
        monkeypatch.setattr(Collecting, "end", lambda collecting, unsettled: None)
        lost = [await unrecorded(online, ticks, tmp_path / str(ticks)) for ticks in range(30)]
        assert sum(lost) > 0

    @pytest.mark.parametrize("stack", PRESETS)
    async def test_only_leaving_the_block_ends_a_stage(self, stack: Any, cache: Cache) -> None:
        """F7: a block that has been cancelled may ask while it cleans up."""
        assert isinstance(await answer_of_a_cleanup(stack, cache), Response)

    async def test_control_without_the_shield_cancelling_ends_it(
        self, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """F7: the test above fails without the shield."""
        without_the_shield(monkeypatch)
        assert isinstance(await answer_of_a_cleanup(online, cache), Closed)

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
        assert await seconds_of(Deaf()) == pytest.approx(3)

    async def test_control_without_its_deadline_a_shield_lasts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """F7: the test above fails when nobody sets it."""
        monkeypatch.setattr(Stage, "abort", lambda stage: None)
        assert await seconds_of(Deaf()) == pytest.approx(1000)


class TestBreaking:
    @pytest.mark.parametrize(
        "wrap", [lambda stage: stage, Batcher, Reorderer, Deduplicator], ids=["alone", "batcher", "reorderer", "dedup"]
    )
    async def test_a_bug_in_a_stage_fails_every_caller_and_leaves_the_block(self, wrap: Any) -> None:
        """F9: nobody is left waiting, and the cause is chained."""
        results, crash = await answers_of_a_broken(wrap(Buggy()))
        assert [type(result) for result in results] == [Closed] * 3
        causes: list[BaseException] = [crash]
        while not isinstance(causes[-1], LookupError):
            cause = causes[-1].__cause__
            assert isinstance(cause, BaseException)
            causes.append(cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause)

    async def test_control_a_broken_stage_that_fails_nobody(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """F9: the test above fails when a stage that ends forgets what it owes."""
        monkeypatch.setattr(Stage, "_fail", fail_nobody)
        results, _ = await answers_of_a_broken(Buggy())
        assert [type(result) for result in results] != [Closed] * 3

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
        assert [type(result) for result in await answers_of_a_forgetful_stage()] == [Closed]

    async def test_control_a_forgotten_ticket_that_nobody_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """F9: the test above fails when a stage that ends forgets what it owes."""
        monkeypatch.setattr(Stage, "_fail", fail_nobody)
        assert await answers_of_a_forgetful_stage() == []


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


def fail_nobody(stage: Stage, tickets: Any, error: Closed) -> None:
    """In place of `Stage._fail`."""


def raise_(error: Exception) -> None:
    raise error


class Stuck(Stage):
    """Never takes what it is given."""

    async def submit(self, tickets: list[Ticket]) -> None:
        await sleep_forever()

    async def run(self, inbox: Inbox) -> None:
        async for _ in inbox:
            pass


async def test_merged_requests_that_no_stage_has_taken_yet() -> None:
    """F7: the block is left by an error while they are between two stages; every caller hears of it."""
    errors: list[Exception] = []

    async def ask(api: Stage) -> None:
        try:
            await api.request("p")
        except Closed as error:
            errors.append(error)

    with fail_after(60):
        async with create_task_group() as tasks:
            with pytest.raises(LookupError, match="the user's"):
                async with Batcher(Deduplicator(Stuck())) as api:
                    tasks.start_soon(ask, api)
                    tasks.start_soon(ask, api)
                    await wait_all_tasks_blocked()
                    raise LookupError("the user's")
    assert len(errors) == 2
