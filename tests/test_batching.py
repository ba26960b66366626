"""Batcher, Reorderer and Deduplicator, alone and stacked."""

from __future__ import annotations

import anyio
import pytest
from anyio import create_task_group, current_time

from cachesaver import (
    Batcher,
    Cache,
    Cacher,
    Deduplicator,
    Dispatcher,
    ModelError,
    Reorderer,
    Request,
    Stage,
    local,
    online,
)
from cachesaver.testing import CountingModel, FakeBatchModel

from ._asking import gather

pytestmark = pytest.mark.anyio


async def test_a_batch_leaves_when_it_is_full(cache: Cache) -> None:
    """F2: four requests and a size of two make two batches, at once."""
    model = FakeBatchModel()
    async with Batcher(model, batch_size=2, timeout=100) as api:
        start = current_time()
        await gather(api, [Request(f"p{i}") for i in range(4)])
        assert current_time() - start < 1
    assert [n for _, n in model.calls] == [2, 2]


async def test_a_batch_leaves_when_its_oldest_member_has_waited() -> None:
    """F2: two requests and a size of three leave after the timeout, counted from the first."""
    model = FakeBatchModel()
    async with Batcher(model, batch_size=3, timeout=5) as api, create_task_group() as tasks:
        start = current_time()
        tasks.start_soon(api.request, "p0")
        await anyio.sleep(3)
        await api.request("p1")
        waited = current_time() - start
    assert waited == pytest.approx(5, abs=0.1)
    assert [n for _, n in model.calls] == [2]


async def test_batches_are_pipelined() -> None:
    """F2: a batch fills and leaves while earlier ones are being answered."""
    model = FakeBatchModel(delay=10)
    async with Batcher(model, batch_size=2) as api:
        start = current_time()
        await gather(api, [Request(f"p{i}") for i in range(8)])
        assert current_time() - start == pytest.approx(10, abs=0.5)


async def test_backlog_makes_batches_fuller() -> None:
    """F2: a hundred requests that queued for longer than the timeout make ten batches of ten."""
    model = FakeBatchModel(delay=0.1)
    async with Batcher(model, batch_size=10, timeout=0.05) as api:
        await gather(api, [Request(f"p{i}") for i in range(100)])
    assert [n for _, n in model.calls] == [10] * 10


async def test_no_batch_of_prompts_is_larger_than_its_size() -> None:
    """F2: a request for n samples counts n, and is spread over batches of prompts."""
    model = FakeBatchModel()
    async with Batcher(model, batch_size=4) as api:
        response = await api.request("p", n=10)
    assert sorted(response.data) == sorted(f"p#{i}" for i in range(10))
    assert [n for _, n in model.calls] == [4, 4, 2]


async def test_a_model_that_takes_n_gets_it_whole() -> None:
    """S4: one call with n=k where the model takes n, whatever the batch size."""
    model = CountingModel()
    async with Batcher(model, batch_size=4) as api:
        await api.request("p", n=10)
    assert model.calls == [("p", 10)]


async def test_hits_do_not_fill_hardware_batches(cache: Cache) -> None:
    """F1, F2: behind the Cacher only misses make a batch, and a hit waits for no timeout."""
    model = FakeBatchModel()
    async with local(model, cache, batch_size=2, timeout=1000) as api:
        await gather(api, [Request("a"), Request("b")])
        start = current_time()
        assert (await api.request("a", namespace="other")).cached == [True]
        assert current_time() == start
        await gather(api, [Request("a", namespace="third"), Request("c"), Request("d")])
    assert [sorted(prompts) for prompts, _ in model.calls] == [["a", "b"], ["c", "d"]]


async def test_a_hit_does_not_wait_for_its_batch_mates(cache: Cache) -> None:
    """F1: a hit that came in one list with a slow miss is answered at once; so is its merged mate."""
    model = CountingModel()
    async with online(model, cache) as api:
        await api.request("known")
        model.delay = 100
        answered: dict[str, float] = {}

        async def ask(prompt: str, namespace: str, name: str) -> None:
            await api.request(prompt, namespace=namespace)
            answered[name] = current_time()

        start = current_time()
        async with create_task_group() as tasks:
            tasks.start_soon(ask, "unknown", "x", "miss")
            tasks.start_soon(ask, "known", "x", "first")
            tasks.start_soon(ask, "known", "x", "second")
    times = sorted(answered.values())
    assert times[0] - start < 1
    assert times[1] - start == pytest.approx(100, abs=1)


async def test_one_failing_request_fails_alone(cache: Cache) -> None:
    """F3, F4: its batch mates are served; the caller gets the model's own exception."""

    class Picky(CountingModel):
        async def request(self, prompt, n=1):
            if prompt == "bad":
                raise ZeroDivisionError(prompt)
            return await super().request(prompt, n)

    async with online(Picky(), cache, batch_size=3) as api:
        results = await gather(api, [Request("a"), Request("bad"), Request("b")])
    assert type(results[1]) is ZeroDivisionError
    assert [results[0].data, results[2].data] == [["a#0"], ["b#0"]]


async def test_a_failed_batch_fails_exactly_that_batch() -> None:
    """F3: and every caller gets an exception of its own."""
    model = FakeBatchModel(failures=[RuntimeError("out of memory")])
    async with Batcher(model, batch_size=2) as api:
        results = await gather(api, [Request(f"p{i}") for i in range(4)])
    errors = [result for result in results if isinstance(result, RuntimeError)]
    assert len(errors) == 2
    assert errors[0] is not errors[1]
    assert sum(not isinstance(result, Exception) for result in results) == 2


async def test_an_exception_in_a_list_of_answers_fails_that_prompt() -> None:
    """F3: a batch model may fail single prompts."""

    async def halves(prompts):
        return [KeyError(p) if p == "bad" else p.upper() for p in prompts]

    class Model:
        batch_request = staticmethod(halves)

    async with Batcher(Model(), batch_size=3) as api:
        results = await gather(api, [Request("a"), Request("bad"), Request("b")])
    assert isinstance(results[1], KeyError)
    assert [results[0].data, results[2].data] == [["A"], ["B"]]


async def test_a_batch_of_the_wrong_length_is_an_error_of_the_model() -> None:
    """F3: nobody is left waiting, nobody gets a stranger's answer."""

    class Model:
        def batch_request(self, prompts):
            return prompts[1:]

    async with Batcher(Model(), batch_size=3) as api:
        results = await gather(api, [Request("a"), Request("b"), Request("c")])
    assert all(isinstance(result, ModelError) for result in results)


async def test_equal_prompts_of_a_namespace_are_one_call(cache: Cache) -> None:
    """S1, S4: requests for 1, 2 and 3 samples make one call for 6, dealt out in order of ids."""
    model = CountingModel()
    async with Batcher(Reorderer(Deduplicator(model)), batch_size=100, timeout=1) as api:
        asked = [Request("p", n, request_id=f"r-{n}") for n in (3, 1, 2)]
        results = await gather(api, asked)
    assert model.calls == [("p", 6)]
    assert {r.request.n: r.data for r in results} == {1: ["p#0"], 2: ["p#1", "p#2"], 3: ["p#3", "p#4", "p#5"]}
    assert [r.duplicated for r in sorted(results, key=len)] == [[False], [True, True], [True, True, True]]


async def test_namespaces_are_not_merged() -> None:
    """S1: without a Cacher every namespace gets samples of its own."""
    model = CountingModel()
    async with Batcher(Deduplicator(model), batch_size=2, timeout=1) as api:
        results = await gather(api, [Request("p", namespace="a"), Request("p", namespace="b")])
    assert model.calls == [("p", 1), ("p", 1)]
    assert results[0].data != results[1].data


async def test_ids_are_ordered_as_people_number_things(cache: Cache) -> None:
    """S6: on an empty cache the order in a list is that of ids: step-2 before step-10."""
    seen: list[str | None] = []

    class Watch(Stage):
        async def run(self, inbox):
            async for tickets in inbox:
                seen.extend(ticket.request_id for ticket in tickets)
                for ticket in tickets:
                    ticket.reply([ticket.prompt.fresh()])

    names = (None, "step-10", "step-2", "a", "step-1", "step-007")
    async with Reorderer(Watch()) as api:
        await api.batch_request([Request("p", request_id=name) for name in names])
    assert seen == ["a", "step-1", "step-2", "step-007", "step-10", None]


class Engine:
    """One batch at a time, each for a second; what was in them."""

    cache_scope = "engine"

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._device = anyio.Lock()

    async def batch_request(self, prompts: list[str]) -> list[str]:
        async with self._device:
            self.batches.append(prompts)
            await anyio.sleep(1)
        return prompts


async def test_batches_of_similar_length(cache: Cache) -> None:
    """F2: what was collected is sorted and cut, so that each batch has prompts of a length."""
    engine = Engine()
    stack = local(engine, cache, batch_size=4, timeout=60, by=len)
    prompts = [chr(97 + number) * (number * 7 % 20 + 1) for number in range(20)]
    async with stack as api:
        start = current_time()
        results = await gather(api, [Request(prompt) for prompt in prompts])
        assert current_time() - start == pytest.approx(5, abs=0.1)
    assert [response.data for response in results] == [[prompt] for prompt in prompts]
    assert [len(batch) for batch in engine.batches] == [4] * 5
    collected = [prompt for batch in engine.batches[:4] for prompt in batch]  # the fifth waited for these
    assert collected == sorted(collected, key=len)


async def test_a_prompt_that_cannot_be_placed_fails_alone() -> None:
    """F3: an error of *by*, or a value that is no number, is that of its request."""
    model = FakeBatchModel()
    lengths = {"a": 2, "b": "long", "c": 1}
    async with Batcher(Reorderer(Batcher(model), by=lambda prompt: lengths[prompt]), batch_size=4, timeout=1) as api:
        results = await gather(api, [Request(name) for name in "abcd"])
        with pytest.raises(KeyError):
            await api.request("e")
    assert [type(result).__name__ for result in results] == ["Response", "ValueError", "Response", "KeyError"]
    assert model.calls == [(["c", "a"], 2)]


async def test_every_stage_is_a_model(cache: Cache, tmp_path) -> None:
    """S1: stages nest in any order, and a whole stack is the model of another."""
    model = CountingModel()
    with Cache(tmp_path / "outer") as outer:
        stack = Cacher(online(model, cache), outer)
        async with Batcher(Cacher(Batcher(Deduplicator(stack)), outer, scope="top")) as api:
            stage = api
            while stage is not None:
                assert len(await stage.request("p", n=2)) == 2
                stage = stage.below


async def test_a_stack_of_caches_never_repeats_a_sample(cache: Cache, tmp_path) -> None:
    """S1, S2: positions bought for different namespaces come from different positions below, in every run."""
    model = CountingModel()
    for run in range(2):
        with Cache(tmp_path / "outer") as outer:
            async with Cacher(online(model, cache), outer) as api:
                await api.request("p", namespace="a", n=1 + run)
                response = await api.request("p", namespace="b", n=3 + run)
        assert response.data == [f"p#{i}" for i in range(3 + run)]
    assert model.sold == 4


async def test_an_entered_stack_is_used_and_left_running(cache: Cache, tmp_path) -> None:
    """F7: a stack that is running already belongs to whoever entered it."""
    async with online(CountingModel(), cache) as inner:
        with Cache(tmp_path / "outer") as outer:
            async with Cacher(inner, outer, scope="outer") as api:
                await api.request("p")
        assert (await inner.request("q")).data == ["q#0"]


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
async def test_a_batch_size_is_a_positive_integer(size) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        Batcher(CountingModel(), batch_size=size)


async def test_dispatcher_alone_is_a_stage() -> None:
    """F7: one door for all."""
    async with Dispatcher(CountingModel()) as api:
        assert (await api.request("p", n=2)).data == ["p#0", "p#1"]


class TestLeavingEarly:
    """F2: behind another stage a batch waits for nobody who cannot come."""

    async def test_a_lone_request(self, cache: Cache) -> None:
        """Whatever the timeout: 5 ms at most."""
        model = FakeBatchModel(delay=1)
        async with local(model, cache, batch_size=64, timeout=1000) as api:
            start = current_time()
            await api.request("p")
            assert current_time() - start <= 1.005

    async def test_all_that_are_there(self, cache: Cache) -> None:
        """Ten of sixty-four, when nobody else is in the stack."""
        model = FakeBatchModel(delay=1)
        async with local(model, cache, batch_size=64, timeout=1000) as api:
            start = current_time()
            await gather(api, [Request(f"p{number}") for number in range(10)])
            assert current_time() - start <= 1.005
        assert [n for _, n in model.calls] == [10]

    async def test_not_while_the_model_is_busy(self, cache: Cache) -> None:
        """What comes while it is fills the next batch, and so do those who have waited for it."""
        model = FakeBatchModel(delay=10)

        async def agent(name: str) -> None:
            for step in range(3):
                await api.request(f"{name}, step {step}")

        async with local(model, cache, batch_size=64, timeout=1000) as api:
            start = current_time()
            async with create_task_group() as tasks:
                for number in range(4):
                    tasks.start_soon(agent, f"early {number}")
                await anyio.sleep(5)
                for number in range(4):
                    tasks.start_soon(agent, f"late {number}")
            assert current_time() - start == pytest.approx(40, abs=0.1)
        assert [n for _, n in model.calls] == [4, 8, 8, 4]

    async def test_the_timeout_holds_all_the_same(self, cache: Cache) -> None:
        """A model that is busy for longer than that gets the next batch meanwhile."""
        model = FakeBatchModel(delay=10)
        async with local(model, cache, batch_size=64, timeout=2) as api:
            start = current_time()
            async with create_task_group() as tasks:
                tasks.start_soon(api.request, "first")
                await anyio.sleep(1)
                await api.request("second")
            assert current_time() - start == pytest.approx(13, abs=0.1)

    async def test_through_other_stages(self, cache: Cache) -> None:
        """Merging between them changes nothing."""
        model = FakeBatchModel(delay=1)
        stack = Cacher(Reorderer(Batcher(Deduplicator(model), batch_size=64, timeout=1000)), cache)
        async with stack as api:
            start = current_time()
            await gather(api, [Request(f"p{number % 3}", namespace=f"n{number}") for number in range(9)])
            assert current_time() - start <= 1.005
            await gather(api, [Request(f"q{number}") for number in range(3)])
            assert current_time() - start <= 2.02

    async def test_not_where_anybody_may_ask(self, cache: Cache) -> None:
        """On top of a stack, or shared by several, it cannot know."""
        model = FakeBatchModel()
        async with Batcher(model, batch_size=64, timeout=5) as shared, Cacher(shared, cache) as api:
            start = current_time()
            await api.request("p")
            assert current_time() - start == pytest.approx(5, abs=0.1)
