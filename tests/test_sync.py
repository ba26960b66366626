"""sync: stacks for plain code."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
import trio
from anyio.from_thread import BlockingPortal

import cachesaver
from cachesaver import Cache, Closed, Request, namespace, online, request_id
from cachesaver.testing import CountingModel

Backend = Literal["asyncio", "trio"]
pytestmark = pytest.mark.parametrize("backend", ["asyncio", "trio"])
SOON = 20.0


class Waiting(CountingModel):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        self.asked.set()
        await anyio.to_thread.run_sync(self.go_on.wait, SOON)
        return await super().request(prompt, n)


class Refusing(CountingModel):
    """Fails one prompt."""

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        if prompt == "bad":
            raise LookupError("the model's own error")
        return await super().request(prompt, n)


def test_all_its_doors(tmp_path: Path, backend: Backend) -> None:
    """S1, S2, S3: as under `async with`; labels come from the caller's context; run again, all is free."""
    for bought in (6, 0):
        model = CountingModel()
        with Cache(tmp_path) as cache, cachesaver.sync(online(model, cache), backend=backend) as api:
            assert api.request("p", n=2).data == ["p#0", "p#1"]
            with namespace("other"), request_id("x"):
                response = api.request("p")
                assert (response.data, response.request.namespace, response.request.request_id) == (
                    ["p#0"],
                    "other",
                    "x",
                )
            answers = api.batch_request([Request("p", namespace="third", n=3), Request("q")])
            assert [answer.data for answer in answers] == [["p#0", "p#1", "p#2"], ["q#0"]]
            with namespace("map"), api.map(["p", "r", Request("s", namespace="own")]) as responses:
                assert [response.data for response in responses] == [["p#0"], ["r#0"], ["s#0"]]
            assert (api.stats.bought, model.sold) == (bought, bought)


def test_errors_are_the_models_own(tmp_path: Path, backend: Backend) -> None:
    """F3: also in the middle of a map, which goes on."""
    with Cache(tmp_path) as cache:
        with cachesaver.sync(online(Refusing(), cache), backend=backend) as api:
            with pytest.raises(LookupError, match="own error"):
                api.request("bad")
            with pytest.raises(TypeError, match="must be JSON"):
                api.request(object())
            with api.map(["a", "bad", "b"]) as responses:
                assert next(responses).data == ["a#0"]
                with pytest.raises(LookupError):
                    next(responses)
                assert [response.data for response in responses] == [["b#0"]]
        with pytest.raises((Closed, RuntimeError)):
            api.request("later")
        with pytest.raises(TypeError, match="such as online"), cachesaver.sync(Refusing()):  # type: ignore[arg-type]
            pass


def test_the_blocks_own_error_comes_as_it_is(tmp_path: Path, backend: Backend) -> None:
    """F4: no group around it, and what was bought is kept."""
    model = CountingModel()
    with Cache(tmp_path) as cache:
        with (
            pytest.raises(LookupError, match="the user's"),
            cachesaver.sync(online(model, cache), backend=backend) as api,
        ):
            api.request("p")
            raise LookupError("the user's")
        with cachesaver.sync(online(model, cache), backend=backend) as api:
            assert api.request("p").data == ["p#0"]
    assert model.sold == 1


def test_a_bad_sample_is_drawn_anew(tmp_path: Path, backend: Backend) -> None:
    """S14: in plain code as elsewhere."""
    with Cache(tmp_path) as cache, cachesaver.sync(online(CountingModel(), cache), backend=backend) as api:
        api.reject(api.request("p", n=2), "no number in it", which=[0])
        assert api.request("p").positions == [2]


def test_a_map_that_is_left_early_gives_back(tmp_path: Path, backend: Backend) -> None:
    """S14: what nobody took is the next one's."""
    model = CountingModel()
    with Cache(tmp_path) as cache, cachesaver.sync(online(model, cache), backend=backend) as api:
        with api.map(["p"] * 4, window=4) as responses:
            assert next(responses).positions == [0]
        with api.map(["p"] * 4, window=4) as responses:
            assert [response.positions for response in responses] == [[1], [2], [3], [4]]


def test_many_threads(tmp_path: Path, backend: Backend) -> None:
    """S1: no two of them get the same sample."""
    with Cache(tmp_path) as cache, cachesaver.sync(online(CountingModel(), cache), backend=backend) as api:
        with ThreadPoolExecutor(8) as threads:
            got = [response.data[0] for response in threads.map(lambda _: api.request("p"), range(40))]
    assert sorted(got) == sorted(f"p#{number}" for number in range(40))


def test_inside_a_running_loop(tmp_path: Path, backend: Backend) -> None:
    """As a notebook cell does: plain code that a loop of either kind has called."""

    async def cell() -> None:
        with Cache(tmp_path) as cache, cachesaver.sync(online(CountingModel(), cache), backend=backend) as api:
            assert api.request("p").data == ["p#0"]

    asyncio.run(cell())
    if backend == "asyncio":
        trio.run(cell)
    else:
        with pytest.raises(RuntimeError, match="inside a program on trio"):
            trio.run(cell)


def test_nobody_waits_any_more(tmp_path: Path, backend: Backend) -> None:
    """S14, F6: Ctrl-C while it waits; the sample that was on its way is given to who asks next."""
    main = threading.main_thread().ident
    assert main == threading.get_ident()

    def strike() -> None:
        model.asked.wait(SOON)
        end = time.monotonic() + SOON
        while sys._current_frames()[main].f_code.co_name != "wait" and time.monotonic() < end:
            time.sleep(0.001)  # until it waits for its answer
        signal.pthread_kill(main, signal.SIGINT)

    model = Waiting()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Cache(tmp_path) as cache, cachesaver.sync(online(model, cache), backend=backend) as api:
            striking = threading.Thread(target=strike)
            striking.start()
            with pytest.raises(KeyboardInterrupt):
                api.request("p")
            striking.join()
            model.go_on.set()
            assert api.request("p").positions == [0]
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.sold == 1


def test_ctrl_c_between_asking_and_waiting(tmp_path: Path, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """S14, F6: it strikes while the request is handed over; nobody takes what that buys, and the next one does."""
    start = BlockingPortal.start_task_soon

    def struck(self: BlockingPortal, *args: Any, **options: Any) -> Any:
        started = start(self, *args, **options)
        signal.raise_signal(signal.SIGINT)
        return started

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    model = Waiting()
    try:
        with Cache(tmp_path) as cache, cachesaver.sync(online(model, cache), backend=backend) as api:
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(BlockingPortal, "start_task_soon", struck)
                api.request("p")
            model.go_on.set()
            assert api.request("p").positions == [0]
    finally:
        signal.signal(signal.SIGINT, before)
    assert model.sold == 1
