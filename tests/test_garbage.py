"""What a request has used is free with its answer: nothing is left to the garbage collector, which looks at all."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from cachesaver import Cache, Cacher, Request, Response, Sample, Stage, local, online
from cachesaver._claim import Claim
from cachesaver._http._exchange import Exchange
from cachesaver._prompt import Prompt
from cachesaver._records import Answer
from cachesaver._ticket import Draw, Ticket
from cachesaver.http import CachingTransport, HTTPModel
from cachesaver.models.openai import AsyncOpenAI, OpenAI
from cachesaver.testing import CountingModel

from ._provider_server import provider_server

pytestmark = pytest.mark.anyio

MANY = 20
OF_A_REQUEST = (Request, Response, Sample, Prompt, Ticket, Claim, Draw, Answer, Exchange)
Asking = Callable[[Stage, str], Awaitable[object]]


@contextmanager
def collected() -> Iterator[list[str]]:
    """The classes of ours of which each request in the block left one, that only the collector would have freed."""
    ours: list[str] = []
    gc.disable()
    gc.freeze()  # what was there before is not looked at
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield ours
        gc.collect()
        kinds = Counter(type(one) for one in gc.garbage)
        ours += [
            kind.__qualname__
            for kind, count in kinds.items()
            if count >= MANY // 2 and issubclass(kind, OF_A_REQUEST)  # stacks of earlier tests may end this late
        ]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


async def request(api: Stage, namespace: str) -> None:
    for number in range(MANY):
        await api.request(f"prompt {number % 5}", 2, namespace, str(number) if number % 2 else None)


async def batch(api: Stage, namespace: str) -> None:
    await api.batch_request([Request(f"prompt {number % 5}", 2, namespace) for number in range(MANY)])


async def by_map(api: Stage, namespace: str) -> None:
    async with api.map(Request(f"prompt {number % 5}", 2, namespace) for number in range(MANY)) as responses:
        async for _ in responses:
            pass


@pytest.mark.parametrize("asking", [request, batch, by_map])
@pytest.mark.parametrize("stack", [online, local, Cacher])
async def test_a_request_leaves_nothing_behind(stack: Any, asking: Asking, cache: Cache) -> None:
    """Bought, found on the disk or in memory, under a namespace's own record or another's."""
    async with stack(CountingModel(), cache) as api:
        await asking(api, "first")  # what a run makes once
        with collected() as found:
            await asking(api, "first")
            await asking(api, "second")
        assert found == []
    async with stack(CountingModel(), cache) as api:
        await api.request("prompt 0")
        with collected() as found:
            await asking(api, "first")
        assert found == []


async def test_control_a_ticket_that_keeps_its_claim(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above fails where the two go on to know each other."""
    monkeypatch.setattr(Ticket, "taken", lambda ticket: None)
    async with online(CountingModel(), cache) as api:
        with collected() as found:
            await request(api, "first")
    assert {"Doored", "Claim", "Prompt"} <= {*found}


BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Say"}]}


async def test_a_hit_under_an_sdk_leaves_nothing_behind(cache: Cache) -> None:
    with provider_server() as server:
        async with HTTPModel() as model, Cacher(model, cache) as api:
            http = httpx2.AsyncClient(transport=CachingTransport(api))
            async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="own", http_client=http) as client:
                for _ in range(2):
                    await client.chat.completions.create(**BODY)
                with collected() as found:
                    for number in range(MANY):
                        headers = {"x-cachesaver-namespace": f"other {number}"}
                        await client.chat.completions.create(**BODY, extra_headers=headers)
    assert found == []


def test_a_hit_in_a_thread_of_its_own_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        provider_server() as server,
        OpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path) as client,
    ):
        for _ in range(2):
            client.chat.completions.create(**BODY)
        with collected() as found:
            for number in range(MANY):
                client.chat.completions.create(**BODY, extra_headers={"x-cachesaver-namespace": f"other {number}"})
    assert found == []
