"""Streams through a CachingTransport: shown as they arrive, stored whole, and told again as they came."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from threading import Semaphore
from typing import Any

import anthropic
import anyio
import httpx
import httpx2
import openai
import pytest
from anyio import create_task_group, fail_after, sleep, wait_all_tasks_blocked
from google.genai import errors as gemini_errors
from ollama import ResponseError as OllamaError

from cachesaver import Cache, Closed
from cachesaver.http import CachingTransport

from ._apis import (
    ANTHROPIC,
    APIS,
    COHERE,
    GEMINI,
    GROQ,
    MISTRAL,
    OPENAI,
    RESPONSES,
    TOGETHER,
    Api,
    Caller,
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
every_api = pytest.mark.parametrize("api", APIS, ids=str)
both_apis = pytest.mark.parametrize("api", [OPENAI, ANTHROPIC], ids=str)

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


@every_way
class TestAbandoned:
    """F6, S1: what a caller has seen a piece of is finished, recorded and its own."""

    @both_apis
    async def test_a_stream_left_after_its_first_piece(
        self, api: Api, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """F6, S1, S5: the whole of it is stored, it counts as used, and the next run finds it in its place."""
        server.gate = Semaphore(0)
        async with connected(api, way, server.url, folder) as caller:
            stream = await caller.stream()
            await anext(stream)
            await stream.leave()
            assert server.open == 1
            assert api.said(await caller.plain()) == "answer 1"
            open_the_gate(server)
        assert (server.sold, server.closed_early) == (2, 0)
        async with connected(api, way, server.url, folder, mode="offline") as caller:
            assert await (await caller.stream()).texts() == ANSWER
            assert api.said(await caller.plain()) == "answer 1"

    async def test_a_stream_that_is_just_not_read(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6, F7: closing the client waits for what is paid for, and not for its reader."""
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as caller:
            await anext(await caller.stream())
            assert stored(folder) == []
            open_the_gate(server)
        assert stored(folder) == [0]

    async def test_another_namespace_gets_what_was_left(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6, S2: nobody else is disturbed, and nothing is bought twice."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream()
            await anext(stream)
            await stream.leave()
            assert await (await caller.stream(space="b")).texts() == ANSWER
            assert OPENAI.said(await caller.plain()) == "answer 1"
        assert server.sold == 2

    async def test_one_that_breaks_later(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S14: nobody hears of it, and position 0 is free again."""
        server.gate = Semaphore(0)
        server.faults = [Fault(cut_after=3)]
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream()
            await anext(stream)
            await stream.leave()
            open_the_gate(server)
        async with connected(OPENAI, way, server.url, folder) as caller:
            assert await (await caller.stream()).texts() == ["ans", "wer", " 1"]
        assert stored(folder) == [0]

    async def test_several_at_once(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S3, S5: three choices, left at the first piece of one of them."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream(n=3)
            await anext(stream)
            await stream.leave()
            assert OPENAI.said(await caller.plain()) == "answer 3"
        assert stored(folder) == [0, 1, 2, 3]
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            assert [choice.message.content for choice in (await caller.plain(n=3)).choices] == [
                "answer 0",
                "answer 1",
                "answer 2",
            ]
            assert OPENAI.said(await caller.plain()) == "answer 3"


@async_ways
class TestCancelled:
    @both_apis
    async def test_after_the_first_piece(self, api: Api, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6, S1: the reader is cancelled where it waits; what it has seen of is recorded and its own."""
        server.gate = Semaphore(0)
        async with connected(api, way, server.url, folder) as caller:
            async with about_to_be_cancelled(caller, server, seen=1):
                assert server.open == 1
            assert api.said(await caller.plain()) == "answer 1"
            open_the_gate(server)
        assert (server.sold, server.closed_early) == (2, 0)
        async with connected(api, way, server.url, folder, mode="offline") as caller:
            assert api.said(await caller.plain()) == "answer 0"
            assert await (await caller.stream()).texts() == ["answer 1"]  # it was bought in one piece

    @both_apis
    async def test_before_any_piece(self, api: Api, way: Way, server: ProviderServer, folder: Path) -> None:
        """S14: nothing is consumed; what was bought is what the next request gets, here and in the next run."""
        server.hold = Semaphore(0)
        async with connected(api, way, server.url, folder) as caller:
            async with about_to_be_cancelled(caller, server, seen=0):
                pass
            server.hold.release(100)
            assert await (await caller.stream()).texts() == ANSWER
            assert api.said(await caller.plain()) == "answer 1"
        assert len(server.requests) == 2
        async with connected(api, way, server.url, folder, mode="offline") as caller:
            assert api.said(await caller.plain()) == "answer 0"
            assert api.said(await caller.plain()) == "answer 1"

    async def test_and_never_asked_again(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6: what was already sent is recorded when it arrives, though nobody waits."""
        server.hold = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as caller:
            async with about_to_be_cancelled(caller, server, seen=0):
                pass
            server.hold.release(100)
        assert stored(folder) == [0]

    async def test_while_another_namespace_waits_for_it(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6, S4, S14: the other one gets it, and the one that was cancelled has consumed nothing."""
        server.hold = Semaphore(0)
        texts: list[str] = []

        async def wait() -> None:
            texts.extend(await (await caller.stream(space="b")).texts())

        async with connected(OPENAI, way, server.url, folder) as caller:
            async with create_task_group() as tasks:
                async with about_to_be_cancelled(caller, server, seen=0):
                    tasks.start_soon(wait)
                    await wait_all_tasks_blocked()
                server.hold.release(100)
            assert texts == ANSWER
            assert await (await caller.stream()).texts() == ANSWER
        assert len(server.requests) == 1


@pytest.mark.parametrize("way", [way for way in ASYNC_WAYS if way.stack == "own"], ids=str)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "plain"])
async def test_cancelled_as_the_answer_arrives(way: Way, server: ProviderServer, folder: Path, streamed: bool) -> None:
    """S14: the caller's loop is busy when it comes, and cancels before it looks: nothing was seen or consumed."""
    server.hold = Semaphore(0)
    async with connected(OPENAI, way, server.url, folder) as caller:
        async with create_task_group() as tasks:
            tasks.start_soon(caller.stream if streamed else caller.plain)
            await until(lambda: server.requests)
            await wait_all_tasks_blocked()
            server.hold.release(100)
            while not (folder / "cache.db").exists() or not stored(folder):
                time.sleep(0.002)  # noqa: ASYNC251 (that is the point: the loop does not turn)
            tasks.cancel_scope.cancel()
        assert OPENAI.said(await caller.plain()) == "answer 0"
        assert OPENAI.said(await caller.plain()) == "answer 1"
    async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
        assert [OPENAI.said(await caller.plain()) for _ in "01"] == ["answer 0", "answer 1"]


async def until(holds: Any) -> None:
    """Wait for what another thread does."""
    with fail_after(10):
        while not holds():  # noqa: ASYNC110 (no event tells)
            await sleep(0.002)


@asynccontextmanager
async def about_to_be_cancelled(caller: Caller, server: ProviderServer, seen: int) -> AsyncIterator[None]:
    """Beside the block a stream is read, of which so many pieces come; it is cancelled at the block's end."""
    taken = 0

    async def read() -> None:
        nonlocal taken
        async for _ in await caller.stream():
            taken += 1

    async with create_task_group() as tasks:
        tasks.start_soon(read)
        await until(lambda: server.requests and taken == seen)
        await wait_all_tasks_blocked()
        yield
        tasks.cancel_scope.cancel()
    assert taken == seen


@every_way
class TestBroken:
    @pytest.mark.parametrize("sent", [5, 6], ids=["before-the-usage", "before-done"])
    async def test_a_break_after_the_last_word_is_none(
        self, way: Way, server: ProviderServer, folder: Path, sent: int
    ) -> None:
        """F4: every choice is finished, so the answer is whole: it is handed out and stored."""
        server.faults = [Fault(cut_after=sent)]
        async with connected(OPENAI, way, server.url, folder) as caller:
            assert await (await caller.stream()).texts() == ANSWER
            assert stored(folder) == [0]
            assert OPENAI.said(await caller.plain(space="b")) == "answer 0"
        assert server.sold == 1

    async def test_a_break_before_the_last_choice_is_finished(
        self, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """S14: of three choices two are whole, and none is kept."""
        server.faults = [Fault(cut_after=14)]  # of the fifteen chunks of three choices
        async with connected(OPENAI, way, server.url, folder) as caller:
            with pytest.raises(openai.APIConnectionError):
                await (await caller.stream(n=3)).all()
            assert stored(folder) == []
            assert OPENAI.said(await caller.plain()) == "answer 3"
        assert stored(folder) == [0]

    async def test_the_pieces_that_came_were_shown(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F4: what arrived before the break reaches the caller, and then the error."""
        server.faults = [Fault(cut_after=3)]
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream()
            assert [OPENAI.text(await anext(stream)) for _ in range(3)] == ["", "ans", "wer"]
            with pytest.raises(openai.APIConnectionError):
                await anext(stream)

    async def test_an_error_instead_of_a_stream(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F4, S14: it is the SDK's own, and costs nothing."""
        server.faults = [Fault(status=429), Fault(status=400)]
        async with connected(OPENAI, way, server.url, folder) as caller:
            with pytest.raises(openai.RateLimitError, match="as scripted"):
                await caller.stream()
            with pytest.raises(openai.BadRequestError, match="as scripted"):
                await caller.stream()
            assert await (await caller.stream()).texts() == ANSWER
        assert stored(folder) == [0]

    async def test_compressed_errors(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F4: they can be read as well, in the stream and instead of it."""
        server.encoding = "gzip"
        server.faults = [Fault(error_event=True), Fault(status=400)]
        async with connected(OPENAI, way, server.url, folder) as caller:
            with pytest.raises(openai.APIError, match="as scripted"):
                await (await caller.stream()).all()
            with pytest.raises(openai.BadRequestError, match="as scripted"):
                await caller.stream()
        assert server.sold == 1

    async def test_offline(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S10: what is missing is an error before any piece, and it says what is missing."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            await (await caller.stream("Known")).all()
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            assert await (await caller.stream("Known")).texts() == ANSWER
            with pytest.raises(openai.APIStatusError, match="Unknown") as caught:
                await caller.stream("Unknown")
        assert (caught.value.status_code, caught.value.code) == (424, "CacheMiss")
        assert len(server.requests) == 1


def choices(pieces: list[Any]) -> list[str]:
    """The texts of all choices, each of which begins with its role and ends with its reason."""
    chunks = [choice for piece in pieces for choice in piece.choices]
    count = 1 + max(choice.index for choice in chunks)
    apart = [[choice for choice in chunks if choice.index == index] for index in range(count)]
    for own in apart:
        assert own[0].delta.role == "assistant"
        assert [choice.finish_reason for choice in own] == [None] * (len(own) - 1) + ["stop"]
    return ["".join(choice.delta.content or "" for choice in own) for own in apart]


@every_way
class TestChoices:
    async def test_each_choice_is_a_sample(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S5, S2: they come interleaved and the last one first; they are told apart, now and in the next run."""
        texts = ["answer 0", "answer 1", "answer 2"]
        async with connected(OPENAI, way, server.url, folder) as caller:
            bought = await (await caller.stream(n=3)).all()
            assert [piece.choices[0].index for piece in bought[:3]] == [2, 1, 0]
            assert choices(bought) == texts
            assert [OPENAI.said(await caller.plain(space="b")) for _ in range(3)] == texts
        async with connected(OPENAI, way, server.url, folder) as caller:
            assert choices(await (await caller.stream(n=3)).all()) == texts
            assert choices(await (await caller.stream(n=2, space="c")).all()) == texts[:2]
        assert server.sold == 3

    async def test_only_what_is_missing_is_bought(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S3: one is known, two are bought, and each text stands at its index."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            await (await caller.stream()).all()
            stream = await caller.stream(n=3, space="b")
            assert stream.headers["x-cachesaver"] == "miss; position=0,1,2; bought=2"
            assert choices(await stream.all()) == ["answer 0", "answer 1", "answer 2"]
        assert [asked.body.get("n") for asked in server.requests] == [None, 2]
        assert server.sold == 3

    async def test_usage_is_told_only_where_it_was_asked_for(
        self, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """Bought or not, the sample has it, and the stream has it if `stream_options` say so."""
        usage = {"stream_options": {"include_usage": True}}
        async with connected(OPENAI, way, server.url, folder) as caller:
            for _ in range(2):  # a miss and a hit
                silent = await (await caller.stream("A")).all()
                assert all(piece.choices and piece.usage is None for piece in silent)
                telling = await (await caller.stream("B", **usage)).all()
                assert [len(piece.choices) for piece in telling[-2:]] == [1, 0]
                assert telling[-1].usage.total_tokens == 17
                assert all(piece.usage is None for piece in telling[:-1])
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            for prompt in "AABB":
                assert OPENAI.used(await caller.plain(prompt)) == 17

    async def test_usage_of_several(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """The prompt is counted once, each sample with its share."""
        usage = {"stream_options": {"include_usage": True}}
        async with connected(OPENAI, way, server.url, folder) as caller:
            for space in "ab":
                assert tokens(OPENAI, await (await caller.stream(n=3, space=space, **usage)).all()) == [31]
            assert OPENAI.used(await caller.plain(space="c")) == 17

    async def test_candidates_of_gemini(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S3, S5: the same for an API that counts and names them differently."""
        async with connected(GEMINI, way, server.url, folder) as caller:
            for space, count in [("a", 2), ("b", 3), ("c", 3)]:
                pieces = await (await caller.stream(space=space, config={"candidate_count": count})).all()
                texts = dict.fromkeys(range(count), "")
                for piece in pieces:
                    for candidate in piece.candidates:
                        texts[candidate.index or 0] += candidate.content.parts[0].text
                assert list(texts.values()) == ["answer 0", "answer 1", "answer 2"][:count]
        assert server.sold == 3


LIKE_OPENAI = [(api, way) for api in (OPENAI, GROQ, TOGETHER) for way in WAYS]
LIKE_OPENAI += [(MISTRAL, way) for way in WAYS if way.sync]  # its async methods are on asyncio only, under other names


@pytest.mark.parametrize(("api", "way"), LIKE_OPENAI, ids=str)
async def test_sdks_that_stop_at_done(api: Api, way: Way, server: ProviderServer, folder: Path) -> None:
    """D1: whether the SDK reads on behind the end or closes there, the sample is stored when its loop ends."""
    for _ in range(2):
        async with connected(api, way, server.url, folder) as caller:
            assert "".join(await (await caller.stream()).texts()) == "answer 0"
            assert stored(folder) == [0]
    assert server.sold == 1


@async_ways
class TestTogether:
    """S4: two namespaces that want the same sample at the same time."""

    @both_apis
    async def test_two_streams_are_one_purchase(self, api: Api, way: Way, server: ProviderServer, folder: Path) -> None:
        """S4: the one that came second waits, and gets the same pieces."""
        server.gate = Semaphore(0)
        second: list[str] = []

        async def read() -> None:
            second.extend(await (await caller.stream(space="b")).texts())

        async with connected(api, way, server.url, folder) as caller, create_task_group() as tasks:
            stream = await caller.stream()
            await anext(stream)
            tasks.start_soon(read)
            await wait_all_tasks_blocked()
            open_the_gate(server)
            assert await stream.texts() == ANSWER
        assert second == ANSWER
        assert len(server.requests) == 1

    async def test_a_stream_and_a_plain_request(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S4: whichever comes first, the other waits for its purchase."""
        for prompt, streamed_first in [("A", True), ("B", False)]:
            server.hold = Semaphore(0)
            texts: list[str] = []

            async def stream(prompt: str, space: str, texts: list[str]) -> None:
                texts.append("".join(await (await caller.stream(prompt, space=space)).texts()))

            async def plain(prompt: str, space: str, texts: list[str]) -> None:
                texts.append(OPENAI.said(await caller.plain(prompt, space=space)))

            async with connected(OPENAI, way, server.url, folder) as caller, create_task_group() as tasks:
                first, second = (stream, plain) if streamed_first else (plain, stream)
                tasks.start_soon(first, prompt, "a", texts)
                await wait_all_tasks_blocked()
                tasks.start_soon(second, prompt, "b", texts)
                await wait_all_tasks_blocked()
                server.hold.release(100)
            assert texts[0] == texts[1]
        assert len(server.requests) == server.sold == 2

    async def test_one_namespace_asks_twice(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """S1, S4: two streams of one namespace are two samples, neither waits for the other."""
        texts: list[list[str]] = []

        async def read() -> None:
            texts.append(await (await caller.stream()).texts())

        async with connected(OPENAI, way, server.url, folder) as caller, create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
        assert sorted(texts) == [["ans", "wer", " 0"], ["ans", "wer", " 1"]]
        assert stored(folder) == [0, 1]

    async def test_the_second_takes_over_what_breaks(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F5, S14: the error is the buyer's alone; the other buys for itself, and keeps position 0."""
        server.gate = Semaphore(0)
        server.faults = [Fault(cut_after=3)]
        second: list[str] = []

        async def read() -> None:
            second.extend(await (await caller.stream(space="b")).texts())

        async with connected(OPENAI, way, server.url, folder) as caller, create_task_group() as tasks:
            stream = await caller.stream()
            await anext(stream)
            tasks.start_soon(read)
            await wait_all_tasks_blocked()
            open_the_gate(server)
            with pytest.raises(openai.APIConnectionError):
                await stream.all()
            assert await (await caller.stream()).texts() == ["ans", "wer", " 1"]
        assert second == ["ans", "wer", " 1"]
        assert stored(folder) == [0]
        assert server.sold == 2


@pytest.mark.parametrize("name", [None, "id"], ids=["nameless", "named"])
class TestTwoRuns:
    """D2, S5: two runs on one file buy for one position. What a caller has seen of stays its sample, elsewhere."""

    @every_way
    async def test_both_stream(self, name: str | None, way: Way, server: ProviderServer, folder: Path) -> None:
        """D2, S2, S5: each keeps what it saw, and has the other's next; the runs that follow find it so."""
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as one, connected(OPENAI, way, server.url, folder) as two:
            first, second = await one.stream(space="a", name=name), await two.stream(space="b", name=name)
            await anext(first)
            await anext(second)
            open_the_gate(server)
            assert (await first.texts(), await second.texts()) == (["ans", "wer", " 0"], ["ans", "wer", " 1"])
            assert OPENAI.said(await one.plain(space="a", name=name)) == "answer 1"
            assert OPENAI.said(await two.plain(space="b", name=name)) == "answer 0"
        assert stored(folder) == [0, 1]
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            assert [OPENAI.said(await caller.plain(space="a", name=name)) for _ in "01"] == ["answer 0", "answer 1"]
            assert [OPENAI.said(await caller.plain(space="b", name=name)) for _ in "01"] == ["answer 1", "answer 0"]
        assert server.sold == 2

    @every_way
    async def test_the_other_was_first(self, name: str | None, way: Way, server: ProviderServer, folder: Path) -> None:
        """D2, S1, S5: position 0 is taken when the stream ends; a position seen by anyone never changes."""
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as one, connected(OPENAI, way, server.url, folder) as two:
            stream = await one.stream(space="a", name=name)
            await anext(stream)
            assert OPENAI.said(await two.plain(space="b", name=name)) == "answer 1"
            open_the_gate(server)
            assert await stream.texts() == ANSWER
            assert OPENAI.said(await one.plain(space="a", name=name)) == "answer 1"
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            assert [OPENAI.said(await caller.plain(space="a", name=name)) for _ in "01"] == ["answer 0", "answer 1"]
            assert [OPENAI.said(await caller.plain(space="b", name=name)) for _ in "01"] == ["answer 1", "answer 0"]
        assert server.sold == 2

    @every_way
    async def test_the_other_was_first_at_one_of_several(
        self, name: str | None, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """D2, S1, S5: all choices move on by one place, and stay in their order."""
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as one, connected(OPENAI, way, server.url, folder) as two:
            stream = await one.stream(n=3, space="a", name=name)
            pieces = [await anext(stream)]
            assert OPENAI.said(await two.plain(space="b")) == "answer 3"
            open_the_gate(server)
            pieces += await stream.all()
            assert choices(pieces) == ["answer 0", "answer 1", "answer 2"]
            assert OPENAI.said(await one.plain(space="a", name=name)) == "answer 3"
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            replayed = choices(await (await caller.stream(n=3, space="a", name=name)).all())
            assert replayed == ["answer 0", "answer 1", "answer 2"]
            assert OPENAI.said(await caller.plain(space="a", name=name)) == "answer 3"
        assert server.sold == 4

    @async_ways
    async def test_who_waited_for_it_gets_the_first(
        self, name: str | None, way: Way, server: ProviderServer, folder: Path
    ) -> None:
        """D2, S2: a namespace that waits for position 0, and has seen nothing of it, gets what stands there."""
        server.gate = Semaphore(0)
        waited: list[str] = []

        async def wait() -> None:
            waited.append(OPENAI.said(await one.plain(space="c", name=name)))

        async with connected(OPENAI, way, server.url, folder) as one, connected(OPENAI, way, server.url, folder) as two:
            async with create_task_group() as tasks:
                stream = await one.stream(space="a", name=name)
                await anext(stream)
                tasks.start_soon(wait)
                await wait_all_tasks_blocked()
                assert OPENAI.said(await two.plain(space="b", name=name)) == "answer 1"
                open_the_gate(server)
                assert await stream.texts() == ANSWER
        assert waited == ["answer 1"]
        async with connected(OPENAI, way, server.url, folder, mode="offline") as caller:
            assert OPENAI.said(await caller.plain(space="a", name=name)) == "answer 0"
            assert OPENAI.said(await caller.plain(space="c", name=name)) == "answer 1"


@every_way
async def test_what_moved_keeps_its_name(way: Way, server: ProviderServer, folder: Path) -> None:
    """S7: a new namespace that asks with the same id gets the sample from where it is now."""
    server.gate = Semaphore(0)
    async with connected(OPENAI, way, server.url, folder) as one, connected(OPENAI, way, server.url, folder) as two:
        stream = await one.stream(space="a", name="id")
        await anext(stream)
        await two.plain(space="b")
        open_the_gate(server)
        assert await stream.texts() == ANSWER
        assert OPENAI.said(await one.plain(space="c", name="id")) == "answer 0"
        assert OPENAI.said(await one.plain(space="c", name="other")) == "answer 1"


@every_way
class TestFlow:
    async def test_hits_wait_for_no_stream(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F1: while one answer is still on its way, what is known is given."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            await caller.plain("Known")
            server.gate = Semaphore(0)
            stream = await caller.stream("New")
            await anext(stream)
            assert OPENAI.said(await caller.plain("Known", space="b")) == "answer 0"
            assert await (await caller.stream("Known", space="c")).texts() == ["answer 0"]
            assert server.open == 1
            open_the_gate(server)
            assert await stream.texts() == ["ans", "wer", " 1"]

    async def test_a_slow_reader_holds_up_nothing(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F6, D1: the sample is stored though its reader is still at the first piece, which misses nothing."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream()
            await anext(stream)
            assert OPENAI.said(await caller.plain(space="b")) == "answer 0"
            assert stored(folder) == [0]
            assert await stream.texts() == ANSWER

    async def test_closed_in_the_middle(self, way: Way, server: ProviderServer, folder: Path) -> None:
        """F7: a run that ends drains, and its last stream can be read to the end."""
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder) as caller:
            stream = await caller.stream()
            await anext(stream)
            open_the_gate(server)
            await caller.transport.aclose()
            if way.stack == "own":
                assert stored(folder) == [0]
            assert await stream.texts() == ANSWER
        assert stored(folder) == [0]

    @pytest.mark.parametrize("mode", ["bypass", "refresh"])
    async def test_bypass_and_refresh_are_shown_as_they_arrive(
        self, way: Way, server: ProviderServer, folder: Path, mode: str
    ) -> None:
        """S11: bypass stores nothing, refresh appends."""
        async with connected(OPENAI, way, server.url, folder) as caller:
            await caller.plain()
        server.gate = Semaphore(0)
        async with connected(OPENAI, way, server.url, folder, mode=mode) as caller:
            stream = await caller.stream()
            await anext(stream)
            assert server.open == 1
            open_the_gate(server)
            assert await stream.texts() == ["ans", "wer", " 1"]
        assert stored(folder) == ([0] if mode == "bypass" else [0, 1])

    @pytest.mark.parametrize("sender", [httpx.Client, httpx2.AsyncClient], ids=["sync", "async"])
    async def test_a_given_client_sends(self, way: Way, server: ProviderServer, folder: Path, sender: Any) -> None:
        """D1, S14: sync or async, of whichever family, what it gets is shown as it arrives, and stored whole or not."""
        server.gate = Semaphore(0)
        server.faults = [Fault(cut_after=3), Fault(error_event=True)]
        async with connected(OPENAI, way, server.url, folder, sender=sender(timeout=None)) as caller:
            for error in (openai.APIConnectionError, openai.APIError):
                stream = await caller.stream()
                await anext(stream)
                assert server.open == 1
                server.gate.release(5)
                with pytest.raises(error) as caught:
                    await stream.all()
                assert isinstance(caught.value.__cause__, httpx2.RequestError | None)  # of the SDK's own family
                server.gate = Semaphore(0)
            stream = await caller.stream()
            await anext(stream)
            assert stored(folder) == []
            open_the_gate(server)
            assert [stored(folder) async for piece in stream if OPENAI.ends(piece)] == [[0]]
            assert await (await caller.stream(space="b")).texts() == ["ans", "wer", " 2"]


@pytest.mark.parametrize("way", [way for way in ASYNC_WAYS if way.stack != "own"], ids=str)
async def test_cut_off(way: Way, server: ProviderServer, folder: Path) -> None:
    """F7: a block that is left by an error lets no reader hang, and keeps nothing half."""
    server.gate = Semaphore(0)
    errors: list[Exception] = []

    async def read(stream: Pieces) -> None:
        try:
            await stream.all()
        except Exception as error:
            errors.append(error)

    async with create_task_group() as tasks:
        with pytest.raises(ValueError, match="a bug"):
            async with connected(OPENAI, way, server.url, folder) as caller:
                stream = await caller.stream()
                await anext(stream)
                tasks.start_soon(read, stream)
                await wait_all_tasks_blocked()
                raise ValueError("a bug in the program")
    assert [type(error) for error in errors] == [Closed]
    assert stored(folder) == []


@pytest.mark.parametrize("way", [Way("async", "own", backend) for backend in ("asyncio", "trio")], ids=str)
def test_a_loop_that_ends_under_its_stream(way: Way, server: ProviderServer, folder: Path) -> None:
    """F6: the program's loop is gone when the rest arrives, and all of it is stored."""
    server.gate = Semaphore(0)
    transport = CachingTransport(folder)

    async def main() -> None:
        caller = Caller(
            OPENAI, OPENAI.make(server.url, httpx2.AsyncClient(transport=transport), True), transport, False
        )
        async with about_to_be_cancelled(caller, server, seen=1):
            pass
        await caller.end()

    anyio.run(main, backend=way.backend)
    open_the_gate(server)
    transport.close()
    assert stored(folder) == [0]


@pytest.mark.parametrize("way", [way for way in WAYS if way.stack == "own"], ids=str)
async def test_over_an_open_cache(way: Way, server: ProviderServer, cache: Cache) -> None:
    """D1: a cache that is open already does as well as a folder, and stays open."""
    for _ in range(2):
        async with client_of(OPENAI, way, server.url, CachingTransport(cache)) as caller:
            assert await (await caller.stream()).texts() == ANSWER
            assert stored(cache.path.parent) == [0]
    assert server.sold == 1
