"""Several stacks at work in the same namespaces at the same time, each with a connection of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext as _nothing
from pathlib import Path
from typing import Any

import pytest
from anyio import Event, create_task_group, sleep, to_thread, wait_all_tasks_blocked

from cachesaver import Cache, Request, Response, _writes, local, online
from cachesaver.testing import CountingModel

pytestmark = pytest.mark.anyio


async def asked(
    folder: Path, model: CountingModel, workers: int, ids: int, *, shared: bool = True, n: int = 1
) -> dict[str, Response]:
    """What *workers* stacks got for *ids* ids each, all in one namespace."""
    got: dict[str, Response] = {}

    async def work(number: int) -> None:
        with Cache(folder) as cache:
            async with online(model, cache, shared=shared) as api:

                async def one(name: str) -> None:
                    got[name] = await api.request("p", n, "team", name)

                async with create_task_group() as tasks:
                    for which in range(ids):
                        tasks.start_soon(one, f"worker {number}, step {which}")

    async with create_task_group() as tasks:
        for number in range(workers):
            tasks.start_soon(work, number)
    return got


def positions(got: dict[str, Response]) -> list[int]:
    return sorted(position for response in got.values() for position in response.positions)


@pytest.mark.parametrize("n", [1, 3])
async def test_no_sample_is_given_twice(tmp_path: Path, n: int) -> None:
    """S1, S2: whichever stack asks; and no more are bought than are asked."""
    model = CountingModel()
    got = await asked(tmp_path, model, workers=4, ids=5, n=n)
    assert positions(got) == list(range(20 * n))
    assert model.sold == 20 * n


@pytest.mark.filterwarnings("ignore:request id")
async def test_control_stacks_that_do_not_share_are_runs_of_their_own(tmp_path: Path) -> None:
    """S5: without it each is the same program again."""
    got = await asked(tmp_path, CountingModel(), workers=4, ids=5, shared=False)
    assert len(set(positions(got))) < 20


async def test_control_without_the_check_a_sample_is_given_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S1: what a stack has read of the others is never enough."""
    monkeypatch.setattr(_writes, "contested", lambda *_: [])  # pyright: ignore
    got = await asked(tmp_path, CountingModel(), workers=4, ids=5)
    assert len(set(positions(got))) < 20


async def test_the_same_again_is_free(tmp_path: Path) -> None:
    """S6, S8: an id gets its sample whichever stack asks for it, and a new one what nobody has."""
    model = CountingModel()
    first = await asked(tmp_path, model, workers=3, ids=4)
    more = await asked(tmp_path, model, workers=4, ids=5)
    assert {name: more[name].data for name in first} == {name: response.data for name, response in first.items()}
    assert positions(more) == list(range(20))
    assert model.sold == 20


async def test_a_sample_two_ids_have_from_earlier_runs_goes_to_one(tmp_path: Path) -> None:
    """S1: runs that did not share may have given it to two ids; the one that had it last keeps it."""
    model = CountingModel()
    with Cache(tmp_path) as cache:
        for name in ("x", "y"):  # ids that change from run to run cost nothing
            with pytest.warns(match="not used in this namespace before") if name == "y" else _nothing():
                async with online(model, cache) as api:
                    assert (await api.request("p", 1, "team", name)).positions == [0]
        async with local(model, cache, shared=True) as one, local(model, cache, shared=True) as two:
            assert (await one.request("p", 1, "team", "x")).positions == [1]
            assert (await two.request("p", 1, "team", "y")).positions == [0]


async def test_a_request_without_an_id_is_refused(cache: Cache) -> None:
    """S6: among processes there is no order of arrival; nothing is sent."""
    model = CountingModel()
    async with online(model, cache, shared=True) as api:
        with pytest.raises(ValueError, match="needs one"):
            await api.request("p")
        named, _ = await api.batch_request([Request("p", request_id="a"), Request("p", request_id="b")])
        assert named.positions == [0]
    assert model.sold == 2


async def test_a_stack_over_another(tmp_path: Path) -> None:
    """S1: what the upper one buys has no ids, and needs none below."""
    model = CountingModel()
    with Cache(tmp_path / "upper") as upper, Cache(tmp_path / "lower") as lower:
        async with local(local(model, lower, shared=True), upper, shared=True) as api:
            assert (await api.request("p", 2, "team", "x")).positions == [0, 1]
            assert (await api.request("p", 1, "team", "y")).positions == [2]
    assert model.sold == 3


class Held(Cache):
    """What is done is told only when it is let go, if its name is in `hold`."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.hold: set[str] = set()
        self._held: dict[str, Callable[[], None]] = {}

    def read(self, places: Any) -> Future[Any]:
        return self._told("read", super().read(places))

    def settle(self, bought: Any, records: Any, *more: Any, **how: Any) -> Future[Any]:
        return self._told("record" if records else "store", super().settle(bought, records, *more, **how))

    async def let_go(self, name: str) -> None:
        await self.held(name)
        await to_thread.run_sync(self._held.pop(name))
        await wait_all_tasks_blocked()

    async def held(self, name: str) -> None:
        while name not in self._held:  # noqa: ASYNC110 (it comes from the cache's own thread)
            await sleep(0.01)

    def _told(self, name: str, done: Future[Any]) -> Future[Any]:
        if name not in self.hold:
            return done
        late: Future[Any] = Future()
        self._held[name] = lambda: late.set_result(done.result())
        return late


async def test_what_is_being_recorded_is_not_answered_by_another(tmp_path: Path) -> None:
    """S6: a request that is filled while its neighbour is read is answered once it is recorded, not before."""
    sold = Event()

    async def model(prompt: str) -> str:
        if prompt == "slow":
            await sold.wait()
        return prompt

    with Held(tmp_path) as cache:
        async with local(model, cache, shared=True) as api:
            await api.request("many", 9, "other", "x")
        async with local(model, cache, shared=True) as api, create_task_group() as tasks:
            got: list[Any] = []

            async def ask_both() -> None:
                both = [Request("many", 9, "team", "x"), Request("slow", 1, "team", "y")]
                async with api.map(both, ordered=False) as responses:
                    got.extend([response[0] async for response in responses])

            tasks.start_soon(api.request, "slow", 1, "other", "y")
            await wait_all_tasks_blocked()
            cache.hold = {"read", "record"}
            tasks.start_soon(ask_both)
            await cache.held("read")
            sold.set()
            await cache.held("record")
            await cache.let_go("read")
            assert api.stats.requests == 3
            assert [each.answered for each in api.owed if each.request_id == "y"] == [False, False]
            cache.hold = set()
            await cache.let_go("record")
        assert sorted(got) == ["many", "slow"]
