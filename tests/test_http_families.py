"""One transport under httpx and httpx2, sync and async, for whoever needs no SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import Any

import httpx
import httpx2
import openai
import pytest
import trustme
from anyio import to_thread

from cachesaver import Cache, Cacher, Closed, Dispatcher, RoundRobinLimiter
from cachesaver._http._family import trust_of
from cachesaver.http import CachingTransport, HTTPModel
from cachesaver.models.openai import OpenAI as CachedOpenAI

from ._provider_server import ProviderServer, provider_server

pytestmark = pytest.mark.anyio

FAMILIES = pytest.mark.parametrize("family", [httpx, httpx2], ids=["httpx", "httpx2"])
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param  # in real time: a server does not know of a clock that jumps


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@FAMILIES
async def test_certificates_are_those_of_the_environment(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are loaded once, and anew when it names others; over real TLS, for what is kept and what passes."""
    authority, tls = trustme.CA(), SSLContext(PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    usual = trust_of(family)
    assert trust_of(family) is usual
    with provider_server(tls) as server:
        with pytest.raises(family.ConnectError):
            await kept_and_passed(family, server, tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert await kept_and_passed(family, server, tmp_path) == [200, 200]
    monkeypatch.undo()
    assert trust_of(family) is usual


async def kept_and_passed(family: Any, server: ProviderServer, folder: Path) -> list[int]:
    async with CachingTransport(folder / "cache") as transport:
        async with family.AsyncClient(transport=transport, base_url=server.url) as client:
            passed = await client.get("/v1/models")
            return [(await client.post("/v1/chat/completions", json=BODY)).status_code, passed.status_code]


def text(response: Any) -> str:
    return response.json()["choices"][0]["message"]["content"]


@FAMILIES
def test_a_sync_client(server: ProviderServer, tmp_path: Path, family: Any) -> None:
    """S1, S5: of either family."""
    for _ in range(2):
        with family.Client(transport=CachingTransport(tmp_path)) as client:
            answers = [client.post(f"{server.url}/v1/chat/completions", json=BODY) for _ in range(2)]
            assert [text(answer) for answer in answers] == ["answer 0", "answer 1"]
            assert isinstance(answers[0], family.Response)
    assert answers[1].headers["x-cachesaver"] == "hit; position=1"
    assert server.sold == 2


def test_an_embedding_that_is_asked_again(server: ProviderServer, tmp_path: Path) -> None:
    """S4, S5: in mode "repeat" it is bought once, whoever asks; in mode "reuse" each repeat is a new one."""
    for mode, sold in (("repeat", 1), ("repeat", 1), ("reuse", 2)):
        with CachedOpenAI(base_url=f"{server.url}/v1", api_key="key", cachedir=tmp_path, mode=mode) as client:
            vectors = [client.embeddings.create(model="m", input="a").data[0].embedding for _ in range(2)]
        assert (vectors[0] == vectors[1]) == (mode == "repeat")
        assert server.sold == sold


@FAMILIES
async def test_an_async_client(server: ProviderServer, tmp_path: Path, family: Any) -> None:
    """S5: of either family."""
    for _ in range(2):
        async with family.AsyncClient(transport=CachingTransport(tmp_path)) as client:
            assert text(await client.post(f"{server.url}/v1/chat/completions", json=BODY)) == "answer 0"
    assert server.sold == 1


def test_both_at_once_share_their_samples(server: ProviderServer, cache: Cache) -> None:
    """S2: what httpx has bought, httpx2 gets, through one transport."""
    url = f"{server.url}/v1/chat/completions"
    with CachingTransport(cache) as transport:
        one, other = httpx.Client(transport=transport), httpx2.Client(transport=transport)
        first = one.post(url, json=BODY, headers={"x-cachesaver-namespace": "a"})
        second = other.post(url, json=BODY, headers={"x-cachesaver-namespace": "b"})
        assert text(first) == text(second)
    assert server.sold == 1


@FAMILIES
def test_a_stream_of_either_family(server: ProviderServer, tmp_path: Path, family: Any) -> None:
    """S5: bought, and replayed."""
    seen: list[str] = []
    for _ in range(2):
        with family.Client(transport=CachingTransport(tmp_path)) as client:
            with client.stream("POST", f"{server.url}/v1/chat/completions", json={**BODY, "stream": True}) as response:
                seen.append("".join(response.iter_text()))
    assert seen[0].count("data:") == seen[1].count("data:")
    assert server.sold == 1


def test_openai_over_a_client_of_the_older_family(server: ProviderServer, tmp_path: Path) -> None:
    """S5: the SDK takes both."""
    for _ in range(2):
        http = httpx.Client(transport=CachingTransport(tmp_path))
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", http_client=http) as client:  # pyright: ignore
            assert client.chat.completions.create(**BODY).choices[0].message.content == "answer 0"
    assert server.sold == 1


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/chat/completions", b"no JSON"),
        ("/v1/chat/completions", b'{"model": "m", "temperature": NaN, "messages": []}'),
        ("/v1/threads/thread-1/messages", b'{"role": "user", "content": "hello"}'),
        ("/v1/audio/speech", b'{"model": "m", "input": "hello"}'),
        ("/v1/responses", b'{"model": "m", "input": "hello", "previous_response_id": "resp-1"}'),
        ("/v1/responses", b'{"model": "m", "input": "hello", "store": true}'),
        ("/v1/messages", b'{"model": "m", "messages": [{"content": [{"source": {"file_id": "file-1"}}]}]}'),
    ],
)
def test_what_is_no_generation_is_for_the_server(
    server: ProviderServer, tmp_path: Path, path: str, content: bytes
) -> None:
    """It gets there as it is, each time, and nothing is kept."""
    with httpx2.Client(transport=CachingTransport(tmp_path / "cache")) as client:
        for _ in range(2):
            response = client.post(f"{server.url}{path}", content=content, headers={"content-type": "application/json"})
            assert "x-cachesaver" not in response.headers
    assert [asked.path for asked in server.requests] == [path, path]
    assert not (tmp_path / "cache").exists()


async def test_a_key_of_a_limiter_takes_the_place_of_the_requests_own(server: ProviderServer, cache: Cache) -> None:
    """L3, D4: in whichever header the request has it."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("lent")
    async with HTTPModel() as model, Cacher(Dispatcher(model, limiter), cache) as api:
        client = httpx2.AsyncClient(transport=CachingTransport(api))
        for name, value in (("authorization", "Bearer own"), ("x-api-key", "own"), ("x-goog-api-key", "own")):
            await client.post(
                f"{server.url}/v1/chat/completions", json={**BODY, "top_k": len(name)}, headers={name: value}
            )
    told = [asked.headers for asked in server.requests]
    assert [told[0]["authorization"], told[1]["x-api-key"], told[2]["x-goog-api-key"]] == [
        "Bearer lent",
        "lent",
        "lent",
    ]


async def test_an_http_model_answers_nothing_else(cache: Cache) -> None:
    """F4: a prompt that came by no HTTP request says so."""
    async with HTTPModel() as model, Cacher(model, cache) as api:
        with pytest.raises(TypeError, match="CachingTransport"):
            await api.request("hello")


async def test_a_stack_that_is_not_entered(server: ProviderServer, cache: Cache) -> None:
    """F7: one answer that says what to do, and nothing is sent."""
    async with HTTPModel() as model:
        stack = Cacher(model, cache)
        client = httpx2.AsyncClient(transport=CachingTransport(stack))
        for _ in range(2):
            answer = await client.post(f"{server.url}/v1/chat/completions", json=BODY)
            assert (answer.status_code, answer.headers["x-should-retry"]) == (424, "false")
            assert answer.json()["error"]["type"] == Closed.__name__
            async with stack:
                pass
    assert server.requests == []


def test_what_belongs_to_a_stack_is_refused_beside_one(cache: Cache) -> None:
    """Bad input is refused before anything is sent."""
    with pytest.raises(TypeError, match="belong to the stack"):
        CachingTransport(Cacher(HTTPModel(), cache), mode="offline")
    with pytest.raises(ValueError, match="namespace"):
        CachingTransport(cache, namespace="")


@pytest.mark.parametrize("other", [False, True], ids=["of the same family", "of the other family"])
async def test_a_client_of_the_users_own_sends_everything(server: ProviderServer, cache: Cache, other: bool) -> None:
    """What is a generation, and what is none; compressed, and not."""
    family = httpx2 if other else httpx
    server.encoding = "gzip"
    for own in (family.Client(headers={"x-own": "1"}), family.AsyncClient(headers={"x-own": "1"})):
        transport = CachingTransport(cache, client=own)
        if isinstance(own, family.Client):
            with httpx.Client(transport=transport) as client:
                models = await to_thread.run_sync(client.get, f"{server.url}/v1/models")
                answer = await to_thread.run_sync(lambda: client.post(f"{server.url}/v1/chat/completions", json=BODY))
        else:
            async with httpx.AsyncClient(transport=transport) as client:
                models = await client.get(f"{server.url}/v1/models")
                answer = await client.post(f"{server.url}/v1/chat/completions", json=BODY)
        assert isinstance(models, httpx.Response)
        assert models.json()["data"]
        assert text(answer) == "answer 0"
    assert [asked.path for asked in server.requests] == ["/v1/models", "/v1/chat/completions", "/v1/models"]
    assert all(asked.headers["x-own"] == "1" for asked in server.requests)
