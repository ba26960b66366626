"""Rejected samples: drawn anew, never given again, while all else stays where it is."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from anyio import create_task_group, fail_after, wait_all_tasks_blocked

from cachesaver import (
    Cache,
    CacheError,
    Cacher,
    CacheUnavailable,
    Request,
    Response,
    Sample,
    Stage,
    StageCrashed,
    local,
    online,
    request_id,
)
from cachesaver._collecting import Collecting
from cachesaver._prompt import Prompt
from cachesaver._records import Record
from cachesaver.testing import CountingModel

pytestmark = pytest.mark.anyio

STACKS = pytest.mark.parametrize("stack", [online, local, Cacher])


@STACKS
@pytest.mark.parametrize("label", [None, "step-1"])
async def test_the_same_request_gets_a_new_sample(stack: Any, label: str | None, cache: Cache) -> None:
    """S1, S14: its ordinal is offered again, its position is not."""
    model = CountingModel()
    async with stack(model, cache) as api:
        first = await api.request("p", request_id=label)
        await api.reject(first, "no number in it")
        second = await api.request("p", request_id=label)
        third = await api.request("p", request_id=label)
    assert (first.positions, second.positions, third.positions) == ([0], [1], [2])
    assert model.sold == 3


@STACKS
@pytest.mark.parametrize("label", [None, "step-1"])
async def test_retry_until_valid_is_replayed_without_the_bad_one(stack: Any, label: str | None, cache: Cache) -> None:
    """S5: the run again gets what the first run kept, at once, and buys nothing."""
    model = CountingModel()

    async def run() -> list[list[int | None]]:
        async with stack(model, cache) as api:
            kept = [await api.request("p", n=2, request_id=label)]
            answer = await api.request("p", request_id=label)
            while answer.positions == [2] or answer.positions == [3]:
                await api.reject(answer)
                answer = await api.request("p", request_id=label)
            kept += [answer, await api.request("p", request_id=label)]
            return [response.positions for response in kept]

    first, sold = await run(), model.sold
    assert first == [[0, 1], [4], [5]]
    assert await run() == first
    assert model.sold == sold


@STACKS
async def test_only_some_of_a_response(stack: Any, cache: Cache) -> None:
    async with stack(CountingModel(), cache) as api:
        first = await api.request("p", n=3)
        await api.reject(first, which=[1])
        assert (await api.request("p", n=2)).positions == [3, 4]
    async with stack(CountingModel(), cache) as api:
        replayed = await api.request("p", n=3)
        assert replayed.positions == [0, 3, 2]  # the second draw was drawn anew
        assert (await api.request("p")).positions == [4]


@STACKS
async def test_no_namespace_gets_it_and_later_positions_stay(stack: Any, cache: Cache) -> None:
    """S2: what is left is shared as before; a namespace that had it draws anew, and keeps the rest."""
    model = CountingModel()
    async with stack(model, cache) as api:
        await api.request("p", n=3, namespace="old")
        bad = await api.request("p", n=3, namespace="strict")
        await api.reject(bad, which=[0])
        assert (await api.request("p", n=2, namespace="new")).positions == [1, 2]
    assert model.sold == 3
    async with stack(model, cache) as api:
        assert (await api.request("p", n=3, namespace="old")).positions == [3, 1, 2]
        assert (await api.request("p", n=3, namespace="newer")).positions == [1, 2, 3]
    assert model.sold == 4


@STACKS
async def test_with_ids_others_follow_the_one_that_rejected(stack: Any, cache: Cache) -> None:
    """S7: the same id gets the same sample in a new namespace: the one that was kept."""
    async with stack(CountingModel(), cache) as api:
        await api.request("p", n=2, namespace="other")
        with request_id("judge"):
            bad = await api.request("p", namespace="a")
            await api.reject(bad)
            good = await api.request("p", namespace="a")
            same_run = await api.request("p", namespace="b")
        assert (bad.positions, good.positions, same_run.positions) == ([0], [1], [1])
    async with stack(CountingModel(), cache) as api:
        assert (await api.request("p", namespace="c", request_id="judge")).positions == [1]


async def test_the_audit_trail_stays(cache: Cache) -> None:
    """D6: the sample, who had it, and why it was rejected."""
    async with online(CountingModel(), cache) as api:
        bad = await api.request("p", namespace="a", request_id="x")
        await api.reject(bad, "a refusal")
        await api.reject(bad, "said twice")
    with closing(sqlite3.connect(cache.path)) as connection:
        rows = connection.execute("SELECT position, namespace, request_id, rejected FROM overview").fetchall()
    assert rows == [(0, "a", "x", "a refusal")]


async def test_another_process_learns_of_it(tmp_path: Path) -> None:
    """D2: with the next prompt that it asks the cache for."""
    with Cache(tmp_path) as one, Cache(tmp_path / "cache.db") as other:
        async with online(CountingModel(), one) as api, online(CountingModel(), other) as beside:
            bad = await api.request("p")
            await api.reject(bad)
            assert (await beside.request("p")).positions == [1]


async def test_in_a_shared_namespace(cache: Cache) -> None:
    """S1 across stacks: the draw is dealt anew, and no other gets the rejected one."""
    model = CountingModel()
    async with online(model, cache, shared=True) as one:
        bad = await one.request("p", request_id="a")
        await one.reject(bad)
        good = await one.request("p", request_id="a")
    async with online(model, cache, shared=True) as other:
        assert (await other.request("p", request_id="a")).positions == good.positions == [1]
        assert (await other.request("p", request_id="b")).positions == [2]


async def test_right_after_the_answer(cache: Cache) -> None:
    """A record that is still on its way does not keep the draw."""
    async with online(CountingModel(), cache) as api:
        for number in range(50):
            answer = await api.request(f"p{number}")
            await api.reject(answer)
            assert (await api.request(f"p{number}")).positions == [1]


async def test_side_by_side(cache: Cache) -> None:
    """S1: many at once reject and ask again; nobody gets a position twice, or one that was rejected."""
    kept: list[int | None] = []
    rejected: list[int | None] = []

    async def insist(api: Any, number: int) -> None:
        answer = await api.request("p", request_id=f"agent-{number}")
        for _ in range(number % 3):
            await api.reject(answer)
            rejected.extend(answer.positions)
            answer = await api.request("p", request_id=f"agent-{number}")
        kept.extend(answer.positions)

    async with online(CountingModel(delay=1), cache) as api, create_task_group() as tasks:
        for number in range(30):
            tasks.start_soon(insist, api, number)
    assert len({*kept, *rejected}) == len(kept) + len(rejected) == 60


async def test_where_nothing_can_be_rejected(cache: Cache) -> None:
    async with online(CountingModel(), cache, mode="bypass") as api:
        with pytest.raises(ValueError, match="no Cacher in this stack"):
            await api.reject(await api.request("p"))
    async with online(CountingModel(), cache) as api:
        await api.request("p")
    async with online(CountingModel(), cache, mode="offline") as api:
        with pytest.raises(CacheUnavailable, match="offline"):
            await api.reject(await api.request("p"))


async def test_what_was_never_stored_cannot_be_rejected(cache: Cache) -> None:
    stranger = Response(Request("p"), (Sample("answer", 0),))
    async with online(CountingModel(), cache) as api:
        with pytest.raises(CacheError, match="no sample 0 of this prompt"):
            await api.reject(stranger)
        assert (await api.request("p")).positions == [0]
        await api.request("q")
        with pytest.raises(CacheError, match="no sample 7 of this prompt"):
            await api.reject(Response(Request("p"), (Sample("answer", 7),)))


async def test_after_the_run(cache: Cache) -> None:
    """A response may be looked at when the stack is left; the next run draws anew."""
    api = online(CountingModel(), cache)
    async with api:
        response = await api.request("p")
    await api.reject(response)
    async with api:
        assert (await api.request("p")).positions == [1]


@pytest.mark.filterwarnings("ignore:request id 'b'")
async def test_of_a_sample_that_was_recorded_for_another(cache: Cache) -> None:
    """S6, S14: the draw that had it is offered again, and not the one it is recorded for."""
    model = CountingModel()
    async with Cacher(model, cache) as api:
        await api.request("p", request_id="a")
    async with Cacher(model, cache) as api:
        stolen = await api.request("p", request_id="b")
        assert stolen.positions == [0]
        await api.reject(stolen)
        with fail_after(10):
            assert (await api.request("p", request_id="a", n=2)).positions == [1, 2]
            assert (await api.request("p", request_id="b")).positions == [3]


async def test_a_claim_that_came_late_to_a_rejected_sample(tmp_path: Path) -> None:
    """S1: in a shared namespace, what one process rejects is not recorded for another that had it in hand."""
    with Cache(tmp_path) as cache:
        async with Cacher(CountingModel(), cache) as api:
            response = await api.request("p", namespace="n", request_id="x")
            await api.reject(response)
        late = Record("n", Prompt("p").key("counting-model"), "y", 0, 0)
        assert cache.settle([], [late], sole=True).result().lost == [late]
        assert cache.settle([], [late], sole=False).result().lost == []


async def test_over_another_cacher(tmp_path: Path) -> None:
    """One that only passes on rejects where the samples are."""
    with Cache(tmp_path / "upper") as upper, Cache(tmp_path / "lower") as lower:
        async with Cacher(Cacher(CountingModel(), lower), upper, mode="bypass") as api:
            await api.reject(await api.request("p"))
            assert (await api.request("p")).positions == [1]


async def test_a_rejection_that_raises_has_no_effect(cache: Cache) -> None:
    """S2: neither in the file nor in this run."""
    async with online(CountingModel(), cache) as api:
        first = await api.request("p")
        with pytest.raises(TypeError, match="reason must be a string"):
            await api.reject(first, ValueError("no number"))  # type: ignore[arg-type]
        with pytest.raises(CacheError, match="no sample 1"):
            await api.reject(Response(Request("p"), (Sample("answer", 1),)))
        assert (await api.request("p", n=2, namespace="other")).positions == [0, 1]


async def test_none_of_a_response(cache: Cache) -> None:
    """Nothing to do, and nobody waits for it."""
    async with online(CountingModel(), cache) as api:
        first = await api.request("p")
        with fail_after(5):
            await api.reject(first, which=[])
        assert (await api.request("p", namespace="other")).positions == [0]


async def test_a_bug_on_its_way_to_the_file(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """F9: who waits for a rejection, in the block or beside it, is told."""
    told: list[CacheError] = []

    async def reject(api: Stage, response: Response) -> None:
        with pytest.raises(CacheError, match="reject it again") as raised:
            await api.reject(response)
        told.append(raised.value)

    async def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with fail_after(5):
        async with create_task_group() as beside:
            with pytest.raises(StageCrashed):
                async with online(CountingModel(), cache) as api:
                    first = await api.request("p")
                    monkeypatch.setattr(Collecting, "_settle", broken)
                    beside.start_soon(reject, api, first)
                    await wait_all_tasks_blocked()
    assert len(told) == 1
