"""One client anywhere: in any thread and event loop, across forks, and until the program's end."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import weakref
from _thread import interrupt_main
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from textwrap import dedent
from threading import Event, Thread
from typing import Any

import anyio
import httpx2
import pytest
import trio
from anyio import CancelScope, create_task_group, fail_after, to_thread

from cachesaver import Cache, Cacher, CacheUnavailable, online
from cachesaver._http import _home, _transport
from cachesaver.http import CachingTransport, HTTPModel
from cachesaver.models.openai import AsyncOpenAI, OpenAI
from cachesaver.testing import CountingModel

from ._provider_server import ProviderServer, provider_server
from .test_suspensions import Suspensions

ROOT = Path(__file__).parents[1]
SOON = 20.0  #: seconds in which whatever ends must have ended

Client = httpx2.Client
AsyncClient = httpx2.AsyncClient


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@contextmanager
def sync_client(server: ProviderServer, where: Any, **options: Any) -> Iterator[Client]:
    with Client(base_url=server.url, transport=CachingTransport(where, **options), timeout=None) as client:
        yield client


@asynccontextmanager
async def async_client(server: ProviderServer, where: Any, **options: Any) -> AsyncGenerator[AsyncClient]:
    transport = CachingTransport(where, **options)
    async with AsyncClient(base_url=server.url, transport=transport, timeout=None) as client:
        yield client


def asked(text: str, name: str = "a") -> dict[str, Any]:
    """The arguments of a POST."""
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return {"url": "/v1/chat/completions", "json": body, "headers": {"x-cachesaver-namespace": name}}


def text_of(response: httpx2.Response) -> str:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def ask(client: Client, text: str, name: str = "a") -> str:
    return text_of(client.post(**asked(text, name)))


async def ask_async(client: AsyncClient, text: str, name: str = "a") -> str:
    return text_of(await client.post(**asked(text, name)))


def refused(response: httpx2.Response) -> str:
    """The message of an error of ours."""
    assert response.status_code == 424
    assert response.headers["x-cachesaver"] == "Closed"
    return response.json()["error"]["message"]


def samples(folder: Path) -> int:
    """How many the file holds."""
    with Cache(folder) as cache:
        return sum(known.samples for known in cache.known_prompts(1000).result())


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def in_threads(jobs: list[Callable[[], Any]]) -> list[Any]:
    """What they return, all at once."""
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result(SOON) for future in [pool.submit(job) for job in jobs]]


def homes() -> list[Thread]:
    return [thread for thread in threading.enumerate() if thread.name in ("cachesaver-http", "cachesaver")]


# ---------------------------------------------------------------------------------------------------------------------
# Loops and threads


class TestOneClient:
    def test_loop_after_loop(self, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S2: one run over several asyncio.run, trio.run and plain code, sync and async."""
        transport = CachingTransport(tmp_path)
        with Client(base_url=server.url, transport=transport) as plain:
            client = AsyncClient(base_url=server.url, transport=transport)
            got = [asyncio.run(ask_async(client, "p")), asyncio.run(ask_async(client, "p"))]
            got += [trio.run(ask_async, client, "p"), trio.run(ask_async, client, "p"), ask(plain, "p")]
            got += [asyncio.run(ask_async(client, "p"))]
            assert got == [f"answer {number}" for number in range(6)]
            assert asyncio.run(ask_async(client, "p", "b")) == trio.run(ask_async, client, "p", "c") == "answer 0"
            assert server.sold == 6

    def test_an_sdk_in_loop_after_loop(self, server: ProviderServer, tmp_path: Path) -> None:
        """S1: the SDK's own client, made before there was any loop."""
        client = AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", cachedir=tmp_path)

        async def create() -> str | None:
            messages: Any = [{"role": "user", "content": "p"}]
            completion = await client.chat.completions.create(model="m", messages=messages)
            return completion.choices[0].message.content

        assert [asyncio.run(create()), asyncio.run(create()), trio.run(create)] == ["answer 0", "answer 1", "answer 2"]
        asyncio.run(client.close())

    def test_sixteen_threads(self, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S2: equal and distinct prompts in equal and distinct namespaces; exactly the most of one are bought."""
        with sync_client(server, tmp_path) as client:

            def work(number: int) -> list[tuple[str, str, str]]:
                name = f"{number % 2}"
                prompts = ["same", f"own {number}"] * 6
                return [(name, text, ask(client, text, name)) for text in prompts]

            got = list(chain(*in_threads([partial(work, number) for number in range(16)])))
        assert max(Counter(got).values()) == 1
        assert {answer for name, text, answer in got if (name, text) == ("0", "same")} == {
            answer for name, text, answer in got if (name, text) == ("1", "same")
        }
        assert server.sold == 8 * 6 + 16 * 6

    def test_threads_and_two_loops_at_once(self, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S2: 8 threads, a loop of asyncio and one of trio, all in one namespace."""
        transport = CachingTransport(tmp_path)
        plain = Client(base_url=server.url, transport=transport)
        client = AsyncClient(base_url=server.url, transport=transport)

        async def side_by_side() -> list[str]:
            got: list[str] = []

            async def task() -> None:
                got.extend([await ask_async(client, "p") for _ in range(5)])

            async with create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(task)
            return got

        jobs: list[Callable[[], list[str]]] = [lambda: [ask(plain, "p") for _ in range(5)]] * 8
        with plain:
            got = list(chain(*in_threads([*jobs, lambda: asyncio.run(side_by_side()), lambda: trio.run(side_by_side)])))
        assert len(set(got)) == len(got) == server.sold == 80

    def test_stress(self, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S2: memory hits, disk hits and misses from many threads; every sample that is sold is given."""
        with sync_client(server, tmp_path) as client:
            for number in range(40):
                ask(client, f"disk {number}", "earlier")
        with sync_client(server, tmp_path) as client:
            end = time.monotonic() + 3

            def work(seed: int) -> list[tuple[str, str, str]]:
                dice, got = random.Random(seed), []
                while time.monotonic() < end:
                    text = dice.choice([f"disk {dice.randrange(40)}", "memory", f"{seed} {len(got)}"])
                    name = f"{dice.randrange(3)}" if text != "memory" else f"{seed} {len(got)}"
                    got.append((name, text, ask(client, text, name)))
                return got

            async def loop(seed: int) -> list[tuple[str, str, str]]:
                asynchronous = AsyncClient(base_url=server.url, transport=client._transport)
                got = []
                while time.monotonic() < end:
                    text = f"disk {len(got) % 40}"
                    got.append((f"{seed}", text, await ask_async(asynchronous, text, f"{seed}")))
                return got

            jobs = [partial(work, seed) for seed in range(16)]
            jobs += [lambda: asyncio.run(loop(100)), lambda: trio.run(loop, 101)]
            got = list(chain(*in_threads(jobs)))
        assert max(Counter(got).values()) == 1
        sold = {(text, answer) for _, text, answer in got} | {(f"disk {n}", f"answer {n}") for n in range(40)}
        assert len(sold) == server.sold == samples(tmp_path)

    def test_hits_do_not_starve_a_miss(self, server: ProviderServer, tmp_path: Path) -> None:
        """F1 the other way: threads that take hits all the time leave the loop its turns."""
        with sync_client(server, tmp_path) as client:
            ask(client, "hit")
            stop = Event()

            def hits(seed: int) -> None:
                count = 0
                while not stop.is_set():
                    count += 1
                    ask(client, "hit", f"{seed} {count}")

            threads = [Thread(target=hits, args=(seed,)) for seed in range(8)]
            for thread in threads:
                thread.start()
            start = time.monotonic()
            for number in range(5):
                ask(client, f"miss {number}")
            took = time.monotonic() - start
            stop.set()
            for thread in threads:
                thread.join()
        assert took < 5

    def test_sync_inside_a_running_loop(self, server: ProviderServer, tmp_path: Path) -> None:
        """As in a cell of a notebook; and from a thread of the loop."""
        with sync_client(server, tmp_path) as client:

            async def cell() -> list[str]:
                return [ask(client, "p"), await to_thread.run_sync(ask, client, "p")]

            assert asyncio.run(cell()) == ["answer 0", "answer 1"]
            assert trio.run(cell) == ["answer 2", "answer 3"]

    def test_async_in_a_loop_that_lives_on(self, server: ProviderServer, tmp_path: Path) -> None:
        """A notebook's loop, which runs a while for each cell, and stands still between."""
        loop = asyncio.new_event_loop()
        client = AsyncClient(base_url=server.url, transport=CachingTransport(tmp_path))
        got = [loop.run_until_complete(ask_async(client, "p")) for _ in range(3)]
        task = loop.create_task(ask_async(client, "p"))
        loop.run_until_complete(asyncio.sleep(0))
        until(lambda: server.sold == 4)  # answered while the loop stands still
        got.append(loop.run_until_complete(task))
        assert got == [f"answer {number}" for number in range(4)]
        loop.run_until_complete(client.aclose())
        loop.close()

    def test_passing_from_several_loops(self, server: ProviderServer, tmp_path: Path) -> None:
        """What is no generation goes through from anywhere."""
        with OpenAI(api_key="k", base_url=f"{server.url}/v1", cachedir=tmp_path) as plain:
            client = AsyncOpenAI(api_key="k", base_url=f"{server.url}/v1", cachedir=tmp_path)

            async def models() -> list[str]:
                return [model.id async for model in await client.models.list()]

            got = [asyncio.run(models()), asyncio.run(models()), trio.run(models)]
            got += in_threads([lambda: asyncio.run(models()), lambda: [model.id for model in plain.models.list()]] * 3)
            asyncio.run(client.close())
        assert got == [["model-1"]] * 9
        assert server.sold == 0


# ---------------------------------------------------------------------------------------------------------------------
# Over a stack that was entered


@asynccontextmanager
async def stack(folder: Path) -> AsyncGenerator[CachingTransport]:
    with Cache(folder) as cache:
        async with HTTPModel() as model, online(model, cache) as api:
            yield CachingTransport(api)


class TestEnteredStack:
    @pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)], ids=["asyncio", "trio"])
    def test_from_its_loop_and_its_threads(self, server: ProviderServer, tmp_path: Path, run: Any) -> None:
        """S1: sync clients ask from threads."""

        async def main() -> list[str]:
            async with stack(tmp_path) as transport:
                async with AsyncClient(base_url=server.url, transport=transport) as client:
                    plain = Client(base_url=server.url, transport=transport)
                    return [await ask_async(client, "p"), await to_thread.run_sync(ask, plain, "p")]

        assert run(main()) == ["answer 0", "answer 1"]

    def test_a_sync_call_in_the_loop_itself(self, server: ProviderServer, tmp_path: Path) -> None:
        """F4: it would wait for itself for ever; it is told so."""

        async def main() -> str:
            async with stack(tmp_path) as transport:
                return refused(Client(base_url=server.url, transport=transport).post(**asked("p")))

        assert "would block the event loop" in asyncio.run(main())

    @pytest.mark.parametrize("home", ["asyncio", "trio"])
    def test_another_loop(self, server: ProviderServer, tmp_path: Path, home: str) -> None:
        """F4: the stack's tasks live in one event loop."""

        async def other(transport: CachingTransport) -> str:
            return refused(await AsyncClient(base_url=server.url, transport=transport).post(**asked("p")))

        async def main() -> list[str]:
            async with stack(tmp_path) as transport:
                return [
                    await to_thread.run_sync(lambda: asyncio.run(other(transport))),
                    await to_thread.run_sync(lambda: trio.run(other, transport)),
                ]

        assert all("in another event loop" in message for message in anyio.run(main, backend=home))

    def test_a_stack_that_was_left(self, server: ProviderServer, tmp_path: Path) -> None:
        """F7: a request outside of the block raises at once, in its loop, in another, and in none."""

        async def ask_it(transport: CachingTransport) -> str:
            return refused(await AsyncClient(base_url=server.url, transport=transport).post(**asked("p")))

        async def main() -> tuple[CachingTransport, list[str]]:
            async with stack(tmp_path) as transport:
                pass
            plain = Client(base_url=server.url, transport=transport)
            in_thread = await to_thread.run_sync(lambda: refused(plain.post(**asked("p"))))
            return transport, [await ask_it(transport), in_thread, refused(plain.post(**asked("p")))]

        transport, messages = asyncio.run(main())
        messages += [asyncio.run(ask_it(transport)), trio.run(ask_it, transport)]
        messages += [refused(Client(base_url=server.url, transport=transport).post(**asked("p")))]
        assert [message for message in messages if "not running" not in message] == []

    def test_a_stack_that_was_never_entered(self, server: ProviderServer, cache: Cache) -> None:
        """F7: the same error, not one of another loop."""
        transport = CachingTransport(online(HTTPModel(), cache))

        async def main() -> str:
            return refused(await AsyncClient(base_url=server.url, transport=transport).post(**asked("p")))

        assert "not running" in asyncio.run(main())
        assert "not running" in refused(Client(base_url=server.url, transport=transport).post(**asked("p")))

    def test_a_loop_that_stands_still(self, server: ProviderServer, tmp_path: Path) -> None:
        """F4: no answer can come out of a loop between two `run_until_complete`; it is told so."""
        loop = asyncio.new_event_loop()
        given: list[CachingTransport] = []
        end = asyncio.Event()

        async def hold() -> None:
            async with stack(tmp_path) as transport:
                given.append(transport)
                await end.wait()

        async def begun() -> None:
            while not given:  # noqa: ASYNC110 (set by another thread)
                await asyncio.sleep(0.001)

        task = loop.create_task(hold())
        loop.run_until_complete(begun())
        got: list[str] = []
        plain = Client(base_url=server.url, transport=given[0])
        thread = Thread(target=lambda: got.append(refused(plain.post(**asked("p")))), daemon=True)
        thread.start()
        thread.join(2)
        end.set()
        loop.run_until_complete(task)
        loop.close()
        assert len(got) == 1
        assert "stands still" in got[0]

    def test_a_cache_closed_too_early(self, tmp_path: Path) -> None:
        """F4, F9: an error for the caller, not a stage that breaks."""

        async def main() -> None:
            with Cache(tmp_path) as cache:
                async with online(CountingModel(), cache) as api:
                    cache.close()
                    with pytest.raises(CacheUnavailable):
                        await api.request("p")

        asyncio.run(main())


# ---------------------------------------------------------------------------------------------------------------------
# Order


async def two_tasks(client: AsyncClient) -> tuple[list[str], list[str]]:
    """What two tasks get that ask the same side by side, each five times."""
    got: tuple[list[str], list[str]] = ([], [])

    async def task(mine: list[str]) -> None:
        for _ in range(5):
            mine.append(await ask_async(client, "p"))  # noqa: PERF401 (in turn)

    await ask_async(client, "p", "before")
    await anyio.wait_all_tasks_blocked()
    async with create_task_group() as tasks:
        for mine in got:
            tasks.start_soon(task, mine)
    return got


async def in_own_thread(server: ProviderServer, folder: Path) -> tuple[list[str], list[str]]:
    async with async_client(server, folder) as client:
        return await two_tasks(client)


async def in_a_stack(server: ProviderServer, folder: Path) -> tuple[list[str], list[str]]:
    async with _transport.own_stack(folder, None, "reuse", None) as api:  # a bare Cacher, which answers in no task
        async with AsyncClient(base_url=server.url, transport=CachingTransport(api)) as client:
            return await two_tasks(client)


def in_turn(server: ProviderServer, folder: Path) -> tuple[list[str], list[str]]:
    """Buys five samples for each of two tasks, where they came in turn: A, B, A, B, ..."""

    async def buy() -> tuple[list[str], list[str]]:
        async with async_client(server, folder) as client:
            got: tuple[list[str], list[str]] = ([], [])
            for number in range(10):
                got[number % 2].append(await ask_async(client, "p"))
            return got

    return asyncio.run(buy())


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk and busy the machine are: who comes first is not a matter of time."""
    monkeypatch.setattr("cachesaver._threads.AT_ONCE", SOON)
    monkeypatch.setattr("cachesaver._http._home.AT_ONCE", SOON)


@pytest.mark.usefixtures("quick_disk")
class TestOrder:
    @pytest.mark.parametrize("where", [in_own_thread, in_a_stack])
    def test_tasks_side_by_side(self, server: ProviderServer, tmp_path: Path, where: Any) -> None:
        """S5: as they came in turn when they bought, so they do when all is cached: a hit does not rush ahead."""
        bought = in_turn(server, tmp_path)
        assert [asyncio.run(where(server, tmp_path)) for _ in range(3)] == [bought] * 3
        assert server.sold == 10

    @pytest.mark.parametrize("where", [in_own_thread, in_a_stack])
    def test_control_without_the_checkpoint_one_task_takes_all(
        self, server: ProviderServer, tmp_path: Path, where: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """S5: the test above fails where a hit gives nobody else a turn."""

        async def none() -> None:
            pass

        monkeypatch.setattr(_transport, "checkpoint", none)
        monkeypatch.setattr("cachesaver._cacher.checkpoint", none)
        bought = in_turn(server, tmp_path)
        assert any(asyncio.run(where(server, tmp_path)) != bought for _ in range(10))  # a slow disk hides it

    def test_nobody_overtakes_who_waits_in_line(
        self, server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """S5: one who could not be served at once, and is handed on by the loop, keeps its place meanwhile."""
        handing_on = Event()

        async def pausing() -> None:
            handing_on.set()
            await anyio.sleep(0.1)

        monkeypatch.setattr("cachesaver._cacher.checkpoint", pausing)
        with Cache(tmp_path) as cache, sync_client(server, cache) as client:
            ask(client, "p", "before")
            ask(client, "p", "before")
            handing_on.clear()
            monkeypatch.setattr(Cacher, "submit_at_once", not_the_first(Cacher.submit_at_once))
            first: Future[str] = Future()
            thread = Thread(target=lambda: first.set_result(ask(client, "p")))
            thread.start()
            assert handing_on.wait(SOON)
            second = ask(client, "p")
            thread.join()
        assert (first.result(), second) == ("answer 0", "answer 1")


def not_the_first(original: Callable[[Cacher, Any], bool]) -> Callable[[Cacher, Any], bool]:
    """As if the cache were slow, once."""
    refusals = [False]

    def submit_at_once(stage: Cacher, tickets: Any) -> bool:
        return original(stage, tickets) if not refusals else refusals.pop()

    return submit_at_once


# ---------------------------------------------------------------------------------------------------------------------
# Who goes away, and what is closed


Mode = Callable[[ProviderServer, Path], Any]


@asynccontextmanager
async def over_a_stack(server: ProviderServer, folder: Path) -> AsyncGenerator[AsyncClient]:
    async with stack(folder) as transport:
        async with AsyncClient(base_url=server.url, transport=transport) as client:
            yield client


@pytest.mark.parametrize("mode", [async_client, over_a_stack])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestCancelled:
    def test_at_every_suspension(self, server: ProviderServer, tmp_path: Path, backend: str, mode: Mode) -> None:
        """F6, S14: the next request gets what the cancelled one would have got, and nothing is bought twice."""
        server.delay = 0.02

        async def main() -> int:
            for at in range(1, 50):
                before = server.sold
                async with mode(server, tmp_path / f"{at}") as client:
                    with CancelScope() as scope:
                        watched = Suspensions(ask_async(client, "p"), at, scope.cancel)
                        await watched
                    if not watched.struck:
                        return at
                    assert await ask_async(client, "p") == f"answer {before}"
                assert server.sold - before == await to_thread.run_sync(samples, tmp_path / f"{at}") == 1
            raise AssertionError

        assert anyio.run(main, backend=backend) > 1

    def test_while_the_server_works(self, server: ProviderServer, tmp_path: Path, backend: str, mode: Mode) -> None:
        """F6: what was sent is stored though nobody waits for it."""
        server.delay = 0.1

        async def main() -> None:
            async with mode(server, tmp_path) as client:
                async with create_task_group() as tasks:
                    tasks.start_soon(ask_async, client, "p")
                    with fail_after(SOON):
                        while not server.requests:  # noqa: ASYNC110 (of another thread)
                            await anyio.sleep(0.001)
                    tasks.cancel_scope.cancel()

        anyio.run(main, backend=backend)
        assert server.sold == samples(tmp_path) == 1


class TestClosed:
    def test_while_others_wait(self, server: ProviderServer, tmp_path: Path) -> None:
        """F7: they are answered; whoever asks later begins a new run."""
        server.delay = 0.2
        transport = CachingTransport(tmp_path)
        client = Client(base_url=server.url, transport=transport)
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, client, "p") for _ in range(8)]
            until(lambda: len(server.requests) == 8)
            transport.close()
            assert {future.result(SOON) for future in asking} == {f"answer {number}" for number in range(8)}
        assert samples(tmp_path) == 8
        assert client.post(**asked("p")).headers["x-cachesaver"] == "hit; position=0"
        client.close()

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_async_while_others_wait(self, server: ProviderServer, tmp_path: Path, backend: str) -> None:
        """F7: the same with `aclose`, which holds up no loop."""
        server.delay = 0.2

        async def main() -> None:
            transport = CachingTransport(tmp_path)
            client = AsyncClient(base_url=server.url, transport=transport)
            got: list[str] = []

            async def one() -> None:
                got.append(await ask_async(client, "p"))

            async with create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(one)
                while len(server.requests) < 8:  # noqa: ASYNC110 (of another thread)
                    await anyio.sleep(0.001)
                await transport.aclose()
            assert len(set(got)) == 8
            await client.aclose()

        anyio.run(main, backend=backend)
        assert samples(tmp_path) == 8

    def test_again_and_again_while_others_ask(self, server: ProviderServer, tmp_path: Path) -> None:
        """F7: each gets an answer or one clear error, and nobody hangs."""
        transport = CachingTransport(tmp_path)
        client = Client(base_url=server.url, transport=transport)
        stop = Event()

        def work(number: int) -> int:
            count = 0
            while not stop.is_set():
                response = client.post(**asked("p", f"{number}"))
                if response.status_code == 200:
                    count += 1
                else:
                    assert "client was closed" in refused(response)
            return count

        with ThreadPoolExecutor(6) as pool:
            asking = [pool.submit(work, number) for number in range(6)]
            for _ in range(40):
                transport.close()
            stop.set()
            assert sum(future.result(SOON) for future in asking) > 0
        client.close()
        assert samples(tmp_path) == server.sold

    def test_by_force(self, server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """F7: who still stands in line when patience ends gets an error too."""

        async def stuck() -> None:
            await anyio.sleep(60)

        with sync_client(server, tmp_path) as client:
            ask(client, "other")
            monkeypatch.setattr("cachesaver._cacher.checkpoint", stuck)
            monkeypatch.setattr(Cacher, "submit_at_once", lambda stage, tickets: False)
            got: list[str] = []
            thread = Thread(target=lambda: got.append(refused(client.post(**asked("p")))), daemon=True)
            thread.start()
            home = client._transport._home
            until(lambda: home._waiting or home._inbox)
            home.close(0.05)
            thread.join(5)
        assert len(got) == 1
        assert "was closed" in got[0]

    def test_a_cache_closed_too_early(
        self, server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """F4: the caller is told, where it is served at once and where the loop serves it."""
        for debugs in (False, True):
            monkeypatch.setattr(_home, "debugs", lambda token, debugs=debugs: debugs)
            with Cache(tmp_path) as cache, sync_client(server, cache) as client:
                ask(client, "p")
                cache.close()
                got: list[httpx2.Response] = []
                thread = Thread(target=lambda: got.append(client.post(**asked("q"))), daemon=True)  # noqa: B023
                thread.start()
                thread.join(5)
                assert [(one.status_code, one.headers["x-cachesaver"]) for one in got] == [(424, "CacheUnavailable")]

    def test_what_cannot_begin_says_why(self, server: ProviderServer, tmp_path: Path) -> None:
        """D5: each caller gets the error of the cache, and no thread is left."""
        (tmp_path / "cache.db").write_bytes(b"no database" * 1000)
        with sync_client(server, tmp_path) as client:
            for _ in range(2):
                response = client.post(**asked("p"))
                assert (response.status_code, response.headers["x-cachesaver"]) == (424, "CacheCorrupt")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As in a shell; a process that a shell has started in the background does not listen to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    report = sys.unraisablehook

    def reports(what: sys.UnraisableHookArgs) -> None:
        # one that strikes in a finalizer is lost there, as Python has it; pytest's own hook would be struck again
        if what.exc_type is not KeyboardInterrupt:
            report(what)

    sys.unraisablehook = reports
    yield
    sys.unraisablehook = report
    signal.signal(signal.SIGINT, before)


class TestInterrupted:
    def test_anywhere(self, server: ProviderServer, tmp_path: Path, ctrl_c: None) -> None:
        """F6: Ctrl-C strikes at any line of a loop of hits; what goes on afterwards is whole."""
        with sync_client(server, tmp_path) as client:
            ask(client, "p", "first")
            ask(client, "p", "first")
            stop = Event()

            def strike() -> None:
                dice = random.Random(1)
                while not stop.wait(dice.uniform(0.001, 0.004)):
                    interrupt_main()

            thread = Thread(target=strike)
            thread.start()
            struck = count = 0
            end = time.monotonic() + 3
            while time.monotonic() < end:
                with suppress(httpx2.HTTPError):
                    try:
                        while time.monotonic() < end:
                            count += 1
                            ask(client, "p", f"{count}")
                    except KeyboardInterrupt:
                        struck += 1
            try:
                stop.set()
                thread.join()
                time.sleep(0.01)  # the last one strikes here
            except KeyboardInterrupt:
                thread.join()
            assert struck > 20
            got: list[str] = []
            last = Thread(target=lambda: got.append(ask(client, "p", "last")), daemon=True)
            last.start()
            last.join(SOON)
            assert got == ["answer 0"]
            home = client._transport._home
            home.begin_close()
            home._thread.join(SOON)
            assert not home._thread.is_alive()
        assert server.sold == 2


class TestDropped:
    def test_its_threads_end(self, server: ProviderServer, tmp_path: Path) -> None:
        """F6: who forgets to close a client has no thread left when it is collected; all is stored."""
        before = set(homes())
        client = OpenAI(api_key="k", base_url=f"{server.url}/v1", cachedir=tmp_path)
        messages: Any = [{"role": "user", "content": "p"}]
        client.chat.completions.create(model="m", messages=messages)
        assert len(set(homes()) - before) == 2
        del client
        gc.collect()
        until(lambda: set(homes()) <= before)
        assert samples(tmp_path) == 1

    def test_two_hundred(self, server: ProviderServer, tmp_path: Path) -> None:
        """F6: made, used and dropped; there are never many, and none in the end."""
        before = set(homes())
        for number in range(200):
            client = Client(base_url=server.url, transport=CachingTransport(tmp_path))
            assert ask(client, "p", f"{number}") == "answer 0"
            if number % 20 == 0:
                until(lambda: len(set(homes()) - before) < 20)
        del client
        gc.collect()
        until(lambda: set(homes()) <= before)

    def test_a_cache_ends_its_thread(self, tmp_path: Path) -> None:
        """F6: a cache that nobody closed and nobody has any more."""
        before = set(homes())
        cache = Cache(tmp_path).__enter__()
        dropped = weakref.ref(cache)
        del cache
        gc.collect()
        assert dropped() is None
        until(lambda: set(homes()) <= before)

    def test_a_job_of_the_cache_that_is_cancelled(self, tmp_path: Path) -> None:
        """F6: whoever cancels what it asked of the cache takes nothing from others."""
        go = Event()
        with Cache(tmp_path) as cache:
            blocked = cache._submit(lambda store: go.wait(SOON))
            cancelled = cache.known_prompts(1)
            assert cancelled.cancel()
            go.set()
            assert blocked.result(SOON)
            assert cache.known_prompts(1).result(SOON) == []

    def test_an_error_in_a_job_of_the_cache(self, tmp_path: Path) -> None:
        """F9: whatever a job raises is its own; closing again is harmless, from any thread."""
        with Cache(tmp_path) as cache:
            for error in (LookupError, SystemExit, KeyboardInterrupt):
                with pytest.raises(error):
                    cache._submit(partial(raising, error)).result(SOON)
            assert cache.known_prompts(1).result(SOON) == []
            in_threads([cache.close] * 4)
            cache.close()
            with pytest.raises(CacheUnavailable):
                cache.known_prompts(1)

    def test_runs_leave_nothing_in_memory(self, server: ProviderServer, tmp_path: Path) -> None:
        """F8: a transport that is closed and asked again keeps nothing of its earlier runs."""
        with sync_client(server, tmp_path) as client:
            ask(client, "p")
            earlier = weakref.ref(client._transport._home)
            client._transport.close()
            ask(client, "p")
            gc.collect()
            assert earlier() is None


def raising(error: type[BaseException], store: Any) -> None:
    raise error


# ---------------------------------------------------------------------------------------------------------------------
# The program's end, and forks

PRELUDE = """
    import os, sys, threading, time, signal, asyncio, multiprocessing
    import httpx2
    from cachesaver.http import CachingTransport
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a shell, also where this runs in the background
    url, folder = sys.argv[1:]

    def body(text, **more):
        return {"model": "m", "messages": [{"role": "user", "content": text}], **more}

    client = httpx2.Client(base_url=url, transport=CachingTransport(folder), timeout=None)
    aclient = httpx2.AsyncClient(base_url=url, transport=CachingTransport(folder), timeout=None)

    def ask(text, client=client):
        response = client.post("/v1/chat/completions", json=body(text))
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"]

    async def ask_async(text):
        response = await aclient.post("/v1/chat/completions", json=body(text))
        assert response.status_code == 200, response.text
        return response.json()["choices"][0]["message"]["content"]
"""


def started(program: str, url: str, folder: Path, *options: str) -> subprocess.Popen[str]:
    script = folder.parent / "program.py"
    script.write_text(dedent(PRELUDE) + dedent(program))
    command = [sys.executable, *options, str(script), url, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=folder.parent, start_new_session=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit status and what it said; it ends within seconds."""
    try:
        output, errors = process.communicate(timeout=SOON)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its children hold the pipes open
        output, errors = process.communicate()
        raise AssertionError(f"it hangs: {output} {errors}") from None
    said = [line for line in errors.splitlines() if not line.startswith("Executing ")]  # asyncio's, on a slow machine
    return process.returncode, output, "\n".join(said)


NEVER_CLOSED = "print(ask('p'), asyncio.run(ask_async('p')))"

BROKEN_OFF = """
    with client.stream("POST", "/v1/chat/completions", json=body("p", stream=True)) as response:
        for line in response.iter_lines():
            break
"""

IN_FLIGHT = """
    for number in range(4):
        threading.Thread(target=ask, args=(f"{number}",), daemon=True).start()
    while len(client.get("/v1/models").json()["data"]) != 1:
        pass
    time.sleep(0.1)
"""

AN_EXCEPTION = """
    ask("p")
    raise LookupError("the user's own")
"""

EXIT_IN_A_THREAD = """
    def leave():
        ask("leave")
        sys.exit(3)

    def others(name):
        for number in range(5):
            ask(f"{name} {number}")

    for job in [leave, lambda: others("x"), lambda: others("y")]:
        threading.Thread(target=job).start()
    threading.Thread(target=lambda: [ask(f"z {number}") for number in range(10**9)], daemon=True).start()
"""

LATE = """
    def late():
        threading.main_thread().join()
        print(ask("p"), asyncio.run(ask_async("p")))

    threading.Thread(target=late).start()
"""


class TestExit:
    @pytest.mark.parametrize(
        ("program", "options"),
        [
            (NEVER_CLOSED, ()),
            (NEVER_CLOSED, ("-X", "dev")),
            (BROKEN_OFF, ()),
            (IN_FLIGHT, ()),
            (EXIT_IN_A_THREAD, ()),
            (LATE, ()),
        ],
        ids=["never closed", "never closed, dev", "broken off", "in flight", "exit in a thread", "after main"],
    )
    def test_all_is_stored(
        self, server: ProviderServer, tmp_path: Path, program: str, options: tuple[str, ...]
    ) -> None:
        """D1, F7: it ends within seconds and silently, and what was sold is in the file."""
        server.delay = 0.2 if program in (IN_FLIGHT, EXIT_IN_A_THREAD) else 0.0
        url = server.url.replace("127.0.0.1", "localhost")  # to be looked up
        status, _, errors = ended(started(program, url, tmp_path / "cache", *options))
        assert (status, "cachesaver" in errors, "Traceback" in errors) == (0, False, False), errors
        assert server.sold == samples(tmp_path / "cache") > 0

    def test_an_exception(self, server: ProviderServer, tmp_path: Path) -> None:
        """D1, F7: the traceback is that of the program, and no other."""
        status, _, errors = ended(started(AN_EXCEPTION, server.url, tmp_path / "cache"))
        assert (status, errors.count("Traceback"), "LookupError" in errors) == (1, 1, True)
        assert server.sold == samples(tmp_path / "cache") == 1

    @pytest.mark.parametrize("call", ["ask('p')", "asyncio.run(ask_async('p'))"], ids=["sync", "async"])
    def test_interrupted(self, server: ProviderServer, tmp_path: Path, call: str) -> None:
        """F6, F7: Ctrl-C while a request is in flight; one traceback, and what was sold is stored."""
        server.delay = 0.5
        process = started(call, server.url, tmp_path / "cache")
        until(lambda: server.requests)
        process.send_signal(signal.SIGINT)
        status, _, errors = ended(process)
        assert status in (-signal.SIGINT, 130, 1)
        assert "KeyboardInterrupt" in errors
        assert "Exception ignored" not in errors
        assert "Exception in thread" not in errors
        assert server.sold == samples(tmp_path / "cache") == 1

    def test_debug_mode(self, server: ProviderServer, tmp_path: Path) -> None:
        """What asyncio forbids in debug mode is not done: no loop is touched from another thread."""
        program = """
            print([ask("p") for _ in range(3)], [asyncio.run(ask_async("q")) for _ in range(2)])
            threads = [threading.Thread(target=ask, args=("p",)) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            client.close()
            asyncio.run(aclient.aclose())
        """
        status, output, errors = ended(started(program, server.url, tmp_path / "cache", "-X", "dev", "-W", "error"))
        assert (status, errors) == (0, "")
        assert output.startswith("['answer 0', 'answer 1', 'answer 2'] ['answer 3', 'answer 4']")
        assert server.sold == samples(tmp_path / "cache") == 13


FORKED = """
    print(ask("p"), asyncio.run(ask_async("p")), client.get("/v1/models").status_code, flush=True)
    child = os.fork()
    who = "child" if child == 0 else "parent"
    for number in range(3):
        ask(f"{who} {number}")
        asyncio.run(ask_async(f"{who} async {number}"))
        assert client.get("/v1/models").status_code == 200
    if CLOSE:
        client.close()
        asyncio.run(aclient.aclose())
    if child:
        assert os.waitpid(child, 0)[1] == 0
        if not CLOSE:
            ask("after")
"""

CLOSED_UNUSED = """
    ask("p"), asyncio.run(ask_async("p"))
    child = os.fork()
    if child == 0:
        asyncio.run(aclient.aclose())
        client.close()
    else:
        assert os.waitpid(child, 0)[1] == 0
        ask("after")
        asyncio.run(ask_async("after"))
"""

WHILE_OTHERS_ASK = """
    stop = []
    def work(name):
        while not stop:
            ask("p")
    threads = [threading.Thread(target=work, args=(f"{number}",)) for number in range(4)]
    for thread in threads: thread.start()
    children = []
    for number in range(8):
        ask(f"{number}")
        child = os.fork()
        if child == 0:
            ask(f"child {number}")
            client.close()
            os._exit(0)
        children.append(child)
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    stop.append(True)
    for thread in threads: thread.join()
"""

PROCESSES = """
    if __name__ == "__main__":
        ask("p")
        with multiprocessing.get_context(METHOD).Pool(2) as pool:
            print(pool.map(ask, ["p", "q", "r", "s"]))
        print(ask("q"))
"""


PARENT_ENDS_FIRST = """
    ask("p")
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        ask("child 1")
        os.read(told, 1)
        for number in range(5):
            ask(f"child late {number}")
        os._exit(0) if KILLED else sys.exit()
    ask("parent")
    client.close()
    os.write(tell, b"x")
    assert os.waitpid(child, 0)[1] == 0
"""


class TestFork:
    @pytest.mark.parametrize("close", [False, True], ids=["left", "closed"])
    def test_both_go_on(self, server: ProviderServer, tmp_path: Path, close: bool) -> None:
        """D2: parent and child each have a thread of their own, and both end."""
        status, output, errors = ended(started(f"CLOSE = {close}\n" + dedent(FORKED), server.url, tmp_path / "cache"))
        assert (status, output, errors) == (0, "answer 0 answer 0 200\n", "")
        assert server.sold == samples(tmp_path / "cache") == (13 if close else 14)

    def test_what_is_the_parents_is_not_closed(self, server: ProviderServer, tmp_path: Path) -> None:
        """D2: a child that only closes what it has got from its parent neither hangs nor disturbs it."""
        assert ended(started(CLOSED_UNUSED, server.url, tmp_path / "cache")) == (0, "", "")
        assert server.sold == samples(tmp_path / "cache")

    def test_while_others_ask(self, server: ProviderServer, tmp_path: Path) -> None:
        """D2: a fork takes along whatever other threads were about, locks included."""
        assert ended(started(WHILE_OTHERS_ASK, server.url, tmp_path / "cache")) == (0, "", "")
        assert server.sold == samples(tmp_path / "cache")

    @pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
    def test_the_parent_ends_first(self, server: ProviderServer, tmp_path: Path, killed: bool) -> None:
        """D1, D2: SQLite's locks do not survive a fork; what the child stores once its parent has closed is kept."""
        program = f"KILLED = {killed}\n" + dedent(PARENT_ENDS_FIRST)
        assert ended(started(program, server.url, tmp_path / "cache")) == (0, "", "")
        assert server.sold == samples(tmp_path / "cache") == 8

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_pools(self, server: ProviderServer, tmp_path: Path, method: str) -> None:
        """D2: the workers of multiprocessing."""
        program = f"METHOD = {method!r}\n" + dedent(PROCESSES)
        status, _, errors = ended(started(program, server.url, tmp_path / "cache"))
        assert (status, errors) == (0, "")
        assert samples(tmp_path / "cache") >= 4
