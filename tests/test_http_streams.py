"""Streams through a CachingTransport: shown as they arrive, stored whole, and told again as they came."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Semaphore, get_ident
from typing import Any

import anthropic
import anyio
import httpx2
import openai
import pytest
from anyio import CancelScope, Event, create_task_group, fail_after, sleep, wait_all_tasks_blocked
from google.genai import errors as gemini_errors
from ollama import ResponseError as OllamaError

from cachesaver import Cache, CacheMiss, Closed
from cachesaver.http import CachingTransport, HTTPModel

from ._apis import (
    ANTHROPIC,
    APIS,
    COHERE,
    GEMINI,
    GROQ,
    MISTRAL,
    OLLAMA,
    OPENAI,
    RESPONSES,
    TOGETHER,
    Api,
    Pieces,
    Way,
    client_of,
    connected,
)
from ._provider_server import Fault, ProviderServer, provider_server

pytestmark = [
    pytest.mark.anyio,
    # On trio: the SDKs leave generators of theirs behind, caching or not.
    pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning"),
]

WAYS = [
    Way(client, stack, backend)
    for client in ("sync", "async")
    for stack in ("own", "cacher", "online")
    for backend in ("asyncio", "trio")
]
FEW_WAYS = [
    Way("sync", "own", "asyncio"),
    Way("sync", "online", "trio"),
    Way("async", "own", "trio"),
    Way("async", "own", "asyncio"),
    Way("async", "cacher", "trio"),
    Way("async", "online", "asyncio"),
]
ASYNC_WAYS = [way for way in WAYS if not way.sync]
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
few_ways = pytest.mark.parametrize("way", FEW_WAYS, ids=str)
async_ways = pytest.mark.parametrize("way", ASYNC_WAYS, ids=str)
every_api = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
both_apis = pytest.mark.parametrize("api", [OPENAI, ANTHROPIC], ids=lambda api: api.name)

ANSWER = ["ans", "wer", " 0"]


@pytest.fixture
def anyio_backend(way: Way) -> str:
    return way.backend  # in real time: a server does not know of a clock that jumps


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def stored(folder: Path) -> list[int]:
    """The positions of the samples that another process would see."""
    with closing(sqlite3.connect(folder / "cache.db")) as database:
        return [position for (position,) in database.execute("SELECT position FROM samples ORDER BY position")]


def open_the_gate(server: ProviderServer) -> None:
    assert server.gate is not None
    server.gate.release(1000)


def tokens(api: Api, pieces: list[Any]) -> Any:
    """The tokens that a stream has told at last."""
    return [told for piece in pieces if (told := api.told(piece)) is not None][-1:]


def as_told(api: Api, piece: Any) -> Any:
    """A piece as plain data, but for what is told once for all pieces and not where the server told it."""
    data = piece.model_dump(mode="json", exclude={"sdk_http_response"})
    if api is GEMINI:  # every chunk tells the usage, of what there is so far
        del data["usage_metadata"]
    if api is COHERE and data["type"] == "message-end":  # the stub repeats the id that stands at the start
        data.pop("id", None)
    if api is ANTHROPIC and data["type"] == "message_delta":  # the usage, of which more is known by now
        data["usage"] = data["usage"]["output_tokens"]
    return data


@every_api
class TestEveryDialect:
    @few_ways
    async def test_the_first_piece_does_not_wait_for_the_last(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """A miss is shown as it arrives: the server has one event out, and the caller has it."""
        server.gate = Semaphore(0)
        async with connected(api, way, server.url, folder) as caller:
            stream = await caller.stream()
            pieces = [await anext(stream)]
            assert server.open == 1
            open_the_gate(server)
            pieces += await stream.all()
        assert "".join(api.text(piece) or "" for piece in pieces) == "answer 0"

    @few_ways
    async def test_a_hit_comes_in_the_pieces_that_were_bought(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """S5: the same events with the same cuts, and the server is asked nothing."""
        runs: list[list[Any]] = []
        for _ in range(2):
            async with connected(api, way, server.url, folder) as caller:
                runs.append(await (await caller.stream()).all())
        assert [text for piece in runs[0] if (text := api.text(piece))] == ANSWER
        assert [as_told(api, piece) for piece in runs[1]] == [as_told(api, piece) for piece in runs[0]]
        assert tokens(api, runs[1]) == tokens(api, runs[0])
        assert len(server.requests) == 1

    @few_ways
    async def test_the_completing_piece_comes_once_the_sample_is_in_the_file(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """D1: what comes before is no whole sample; what completes it is handed out when nothing can lose it."""
        server.gate = Semaphore(0)
        async with connected(api, way, server.url, folder) as caller:
            stream = await caller.stream()
            assert not api.ends(await anext(stream))
            assert stored(folder) == []
            open_the_gate(server)
            completing = [stored(folder) async for piece in stream if api.ends(piece)]
        assert completing == [[0]]

    @few_ways
    @pytest.mark.parametrize("streamed_first", [True, False], ids=["streamed-first", "plain-first"])
    async def test_streamed_or_not_it_is_the_same_sample(
        self, api: Api, way: Way, server: ProviderServer, folder: Path, streamed_first: bool
    ) -> None:
        """S2, S12: another namespace asks the other way and gets the same text and usage; nothing is bought."""
        async with connected(api, way, server.url, folder) as caller:
            if not streamed_first:
                await caller.plain(space="first")
            pieces = await (await caller.stream(space="stream")).all()
            whole = await caller.plain(space="plain")
            assert "".join(api.text(piece) or "" for piece in pieces) == api.said(whole) == "answer 0"
            if api is OPENAI:  # told only where it was asked for
                asked = {"stream_options": {"include_usage": True}}
                pieces = await (await caller.stream(space="usage", **asked)).all()
            assert tokens(api, pieces) == [api.used(whole)]
        assert server.sold == 1

    @few_ways
    async def test_a_stream_that_breaks_leaves_nothing(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """F4, S14: an error after the pieces that came; the next try gets position 0."""
        server.faults = [Fault(cut_after=2), Fault(silent_end_after=2), Fault(cut_after=-1)]
        async with connected(api, way, server.url, folder) as caller:
            for _ in range(3):
                with pytest.raises(Exception, match=r"closed|ended|Connection|disconnected"):
                    await (await caller.stream()).all()
                assert stored(folder) == []
            assert await (await caller.stream()).texts() == ["ans", "wer", " 2"]
        assert stored(folder) == [0]
        assert server.sold == 3

    @few_ways
    async def test_an_error_in_the_stream_leaves_nothing(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """F4, S14: the caller gets what the SDK makes of it; nothing is stored, and the next try gets position 0."""
        server.faults = [Fault(error_event=True)]
        async with connected(api, way, server.url, folder) as caller:
            if api in (COHERE, RESPONSES):  # these SDKs hand such an event out like any other
                assert "as scripted" in (await (await caller.stream()).all())[-1].model_dump_json()
            else:
                with pytest.raises(SCRIPTED[api.name], match="as scripted"):
                    await (await caller.stream()).all()
            assert stored(folder) == []
            assert await (await caller.stream()).texts() == ["ans", "wer", " 1"]
        assert stored(folder) == [0]

    @few_ways
    @pytest.mark.parametrize("encoding", ["gzip", "br"])
    @pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
    async def test_compressed_answers(
        self, api: Api, way: Way, server: ProviderServer, folder: Path, encoding: str, streamed: bool
    ) -> None:
        """S5: they are stored as what they say, and told again uncompressed."""
        server.encoding = encoding
        for _ in range(2):
            async with connected(api, way, server.url, folder) as caller:
                if streamed:
                    assert await (await caller.stream()).texts() == ANSWER
                else:
                    assert api.said(await caller.plain()) == "answer 0"
        assert server.sold == 1


SCRIPTED: dict[str, type[Exception]] = {
    "openai": openai.APIError,
    "anthropic": anthropic.APIStatusError,
    "gemini": gemini_errors.APIError,
    "ollama": OllamaError,
}
