"""The sampling promises S1-S14, through the public door and a counting model."""

from __future__ import annotations

import random
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from cachesaver import Cache, CacheMiss, Cacher, Request, Response, _reads, _store, local, online
from cachesaver._records import Loaded, Query
from cachesaver.testing import CountingModel

from ._asking import gather

pytestmark = pytest.mark.anyio

STACKS = [online, local, Cacher]


@pytest.mark.parametrize("stack", STACKS)
async def test_a_namespace_never_gets_a_sample_twice(stack, cache: Cache) -> None:
    """S1: every repeat of a prompt in a namespace is a new sample."""
    async with stack(CountingModel(), cache) as api:
        first = await api.request("p", n=2, namespace="a")
        second = await api.request("p", n=3, namespace="a")
    assert first.data + second.data == ["p#0", "p#1", "p#2", "p#3", "p#4"]
    assert first.positions + second.positions == [0, 1, 2, 3, 4]
    assert first.cached == [False, False]


class Noting(Cache):
    """Notes of which namespaces and prompts its file is asked who has drawn what."""

    asked: frozenset[tuple[str, bytes]] = frozenset()

    def load(self, query: Query) -> Future[Loaded]:
        self.asked |= {*query.draws}
        return super().load(query)


@pytest.mark.parametrize("stack", STACKS)
async def test_a_new_namespace_is_looked_up_once(stack, tmp_path: Path) -> None:
    """S2, S5: it has drawn nothing, of whatever prompt; one that an earlier run has used may have."""
    prompts = ["p", "q", "r"]
    with Noting(tmp_path) as cache:
        for lookups in (1, len(prompts)):
            async with stack(CountingModel(), cache) as api:
                for prompt in prompts:
                    await api.request(prompt, namespace="a")
                cache.asked = frozenset()
                for prompt in prompts * 2:
                    response = await api.request(prompt, n=2, namespace="b")
                    assert response.cached[0] or response.positions == [2, 3]
            assert len(cache.asked) == lookups


@pytest.mark.parametrize("stack", STACKS)
async def test_a_program_that_runs_again_looks_up_many_prompts_at_a_time(
    stack, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S6: where it asks for one after another in the order of the run before; in any other order it gets the same."""
    lookups: list[Any] = []

    def stocks(connection: Any, *args: Any) -> Any:
        lookups.append(args)
        return _reads.stocks(connection, *args)

    monkeypatch.setattr(_store, "reads", SimpleNamespace(**{**vars(_reads), "stocks": stocks}))
    prompts = [f"p{number}" for number in range(200)]
    shuffled = random.Random(1).sample(prompts, len(prompts))
    async with stack(CountingModel(), cache) as api:
        for prompt in prompts:
            await api.request(prompt, n=2)
    for order, most in ((prompts, 50), (prompts[50:], 50), (shuffled, 400), (prompts[::-1], 400)):
        lookups.clear()
        async with stack(CountingModel(), cache) as api:
            for prompt in order:
                first, second = await api.request(prompt), await api.request(prompt)
                assert first.data + second.data == [f"{prompt}#0", f"{prompt}#1"]
                assert first.cached + second.cached == [True, True]
        assert len(lookups) <= most


@pytest.mark.parametrize("stack", STACKS)
async def test_namespaces_share_samples_by_position(stack, cache: Cache) -> None:
    """S2, S3: the second namespace reuses two samples and buys exactly one."""
    model = CountingModel()
    async with stack(model, cache) as api:
        await api.request("p", n=2, namespace="a")
        response = await api.request("p", n=3, namespace="b")
    assert response.data == ["p#0", "p#1", "p#2"]
    assert response.cached == [True, True, False]
    assert model.calls == [("p", 2), ("p", 1)]


@pytest.mark.parametrize("stack", STACKS)
async def test_a_hundred_namespaces_at_once_buy_the_maximum_of_one(stack, cache: Cache) -> None:
    """S2, S4: exactly max-over-namespaces samples, whatever the concurrency."""
    model = CountingModel(delay=1)
    async with stack(model, cache) as api:
        asked = [Request("p", n=1 + i % 7, namespace=f"ns-{i}") for i in range(100)]
        responses = await gather(api, asked)
    assert model.sold == 7
    assert [r.positions for r in responses] == [list(range(request.n)) for request in asked]


async def test_requests_of_one_namespace_are_bought_at_once(cache: Cache) -> None:
    """S4: ten equal prompts of one namespace take as long as one."""

    class Single(CountingModel):
        async def request(self, prompt):  # takes no n
            return (await super().request(prompt, 1))[0]

    model = Single(delay=10)
    async with online(model, cache) as api:
        start = anyio.current_time()
        responses = await gather(api, [Request("p") for _ in range(10)])
        assert anyio.current_time() - start == pytest.approx(10, abs=0.1)
    assert model.peak == 10
    assert sorted(r.positions[0] for r in responses) == list(range(10))


async def test_the_same_program_again_buys_nothing(cache: Cache) -> None:
    """S5: a replay gets the same answers, free."""

    async def program(model: CountingModel) -> list[list[str]]:
        async with online(model, cache) as api:
            return [
                (await api.request(p, n=n, namespace=ns)).data
                for p, n, ns in [("p", 2, "a"), ("q", 1, "a"), ("p", 3, "b"), ("p", 1, "a")]
            ]

    first = await program(CountingModel())
    replay = CountingModel()
    assert await program(replay) == first
    assert replay.calls == []


async def test_a_replay_in_another_order_is_the_same(cache: Cache) -> None:
    """S6, S7: with request ids the order of arrival does not matter."""
    requests = [Request("p", request_id=f"agent-{i}") for i in range(5)]
    async with online(CountingModel(), cache) as api:
        first = {r.request_id: (await api.request("p", request_id=r.request_id)).data for r in requests}
    model = CountingModel()
    async with online(model, cache) as api:
        again = {r.request_id: (await api.request("p", request_id=r.request_id)).data for r in reversed(requests)}
        other = {
            r.request_id: (await api.request("p", namespace="new", request_id=r.request_id)).data
            for r in reversed(requests)
        }
    assert again == other == first
    assert model.calls == []


async def test_unstable_ids_cost_nothing(cache: Cache) -> None:
    """S6: ids that change from run to run get known samples, and a warning."""
    async with online(CountingModel(), cache) as api:
        for i in range(3):
            await api.request("p", request_id=f"first-{i}")
    model = CountingModel()
    with pytest.warns(UserWarning, match="not used in this namespace before"):
        async with online(model, cache) as api:
            got = [(await api.request("p", request_id=f"second-{i}")).data[0] for i in range(3)]
    assert sorted(got) == ["p#0", "p#1", "p#2"]
    assert model.calls == []


async def test_a_repeated_id_is_another_request(cache: Cache) -> None:
    """S9: the same id twice in a run is two samples."""
    async with online(CountingModel(), cache) as api:
        one = await api.request("p", request_id="x")
        two = await api.request("p", request_id="x")
    assert [one.data, two.data] == [["p#0"], ["p#1"]]


async def test_offline_a_missing_sample_is_an_error(cache: Cache) -> None:
    """S10: CacheMiss names prompt, scope, how many are known and the nearest prompt."""
    async with online(CountingModel(), cache) as api:
        await api.request({"q": "six", "t": 1})
    model = CountingModel()
    async with online(model, cache, mode="offline") as api:
        assert (await api.request({"q": "six", "t": 1})).data
        with pytest.raises(CacheMiss) as miss:
            await api.request({"q": "six", "t": 2})
        with pytest.raises(CacheMiss, match="holds 1 sample"):
            await api.request({"q": "six", "t": 1})
    assert model.calls == []
    assert miss.value.known == 0
    assert miss.value.scope == "counting-model"
    assert miss.value.nearest == {"q": "six", "t": 1}
    assert miss.value.differences == ("t: 1 -> 2",)


async def test_refresh_appends_and_bypass_leaves_no_trace(cache: Cache) -> None:
    """S11."""
    model = CountingModel()
    async with online(model, cache) as api:
        await api.request("p")
    async with online(model, cache, mode="refresh") as api:
        fresh = await api.request("p")
    assert (fresh.data, fresh.positions) == (["p#1"], [1])
    async with online(model, cache, mode="bypass") as api:
        assert (await api.request("p")).data == ["p#2"]
    async with online(model, cache) as api:
        assert (await api.request("p", n=3)).data == ["p#0", "p#1", "p#3"]


@pytest.mark.parametrize("stack", STACKS)
async def test_repeat_is_for_functions_of_the_prompt(stack, cache: Cache) -> None:
    """S4, S5: whoever asks, and however often, one answer is bought; n asks for the first n."""
    model = CountingModel(delay=1)
    for _ in range(2):
        async with stack(model, cache, mode="repeat") as api:
            together = await gather(api, [Request("p", request_id=name) for name in ("a", "a", "b", None)])
            again = await api.request("p", n=3)
            assert [response.data for response in together] == [["p#0"]] * 4
            assert (again.data, again.positions) == (["p#0", "p#1", "p#2"], [0, 1, 2])
            assert (await api.request("p")).data == ["p#0"]
        assert model.sold == 3
    async with stack(model, cache) as api:  # it has left no record of who got what
        assert (await api.request("p", request_id="b")).positions == [0]
        assert (await api.request("p", request_id="a")).positions == [1]


async def test_repeat_after_a_failure_and_a_cancellation(cache: Cache) -> None:
    """S4, F5, F6: who waits takes over from a buyer that failed; what a buyer left behind is stored, and everyone's."""
    model = CountingModel(delay=1, failures=[OSError("down")])
    async with online(model, cache, mode="repeat") as api:
        results = await gather(api, [Request("p", namespace=f"ns-{i}") for i in range(3)])
        assert sum(isinstance(result, OSError) for result in results) == 1
        assert [r.data for r in results if isinstance(r, Response)] == [["p#0"], ["p#0"]]
        with anyio.move_on_after(0.5) as scope:
            await api.request("q")
        assert scope.cancelled_caught
        assert (await api.request("q")).data == ["q#0"]
    assert model.sold == 2


async def test_repeat_is_not_shared(cache: Cache) -> None:
    """S1: there is nothing that processes would have to share out."""
    with pytest.raises(ValueError, match="leave `shared` out"):
        online(CountingModel(), cache, mode="repeat", shared=True)


async def test_an_answer_is_the_callers_own(cache: Cache) -> None:
    """S13: changing an answer changes nobody else's."""

    async def model(prompt):
        return {"list": [1]}

    async with online(model, cache) as api:
        first = await api.request("p", namespace="a")
        first.data[0]["list"].append(2)
        second = await api.request("p", namespace="b")
    assert second.data == [{"list": [1]}]


async def test_a_failure_consumes_nothing(cache: Cache) -> None:
    """S14, F4: the retry gets what the failed request would have got."""
    model = CountingModel(failures=[OSError("down")])
    async with online(model, cache) as api:
        with pytest.raises(OSError, match="down"):
            await api.request("p", request_id="x")
        response = await api.request("p", request_id="x")
        assert response.positions == [0]
    async with online(model, cache) as api:
        assert (await api.request("p", request_id="x")).data == response.data


async def test_a_waiter_takes_over_from_a_failed_buyer(cache: Cache) -> None:
    """F5: a stranger's error fails nobody else."""
    model = CountingModel(delay=1, failures=[OSError("down")])
    async with online(model, cache) as api:
        results = await gather(api, [Request("p", namespace=f"ns-{i}") for i in range(3)])
    assert sum(isinstance(result, OSError) for result in results) == 1
    assert [r.data for r in results if isinstance(r, Response)] == [["p#0"], ["p#0"]]
    assert model.sold == 1
