"""Namespaces, request ids, API keys and clients of the user's own, through the SDKs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from cachesaver import Cache, RoundRobinLimiter, UnlimitedLimiter, namespace, online, request_id
from cachesaver.http import CachingTransport, HTTPModel
from cachesaver.models.anthropic import Anthropic
from cachesaver.models.cohere import ClientV2
from cachesaver.models.gemini import Gemini
from cachesaver.models.groq import Groq
from cachesaver.models.mistral import Mistral
from cachesaver.models.ollama import Client as Ollama
from cachesaver.models.openai import AsyncOpenAI, AzureOpenAI, OpenAI

from ._colours import BY_NAME, asked, on, rows, say
from ._provider_server import ProviderServer, provider_server

pytestmark = pytest.mark.anyio

SAY: list[Any] = [{"role": "user", "content": "Say"}]
BODY: dict[str, Any] = {"model": "tiny", "messages": SAY}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@pytest.fixture
def client(server: ProviderServer, tmp_path: Path) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path, namespace="client") as client:
        yield client


def ask(client: OpenAI, namespace: str | None = None, request_id: str | None = None, **options: Any) -> str:
    """What a request with these headers gets."""
    labels = {"x-cachesaver-namespace": namespace, "x-cachesaver-request-id": request_id}
    headers = {name: value for name, value in labels.items() if value is not None}
    return client.chat.completions.create(**BODY, extra_headers=headers, **options).choices[0].message.content or ""


def used(folder: Path) -> list[tuple[str, str | None, int]]:
    """Who got what: namespace, request id and position."""
    return rows(folder, "SELECT namespace, request_id, position FROM overview WHERE namespace IS NOT NULL")


class TestNamespaces:
    def test_by_context(self, server: ProviderServer, client: OpenAI, tmp_path: Path) -> None:
        """S1, S2: different samples inside of one, shared ones between two."""
        with namespace("first"):
            assert [ask(client), ask(client)] == ["answer 0", "answer 1"]
        with namespace("second"):
            assert ask(client) == "answer 0"
            with namespace("inner"):
                assert ask(client) == "answer 0"
        client.close()
        first, second, inner = ("first", None), ("second", None), ("second/inner", None)
        assert used(tmp_path) == [(*first, 0), (*second, 0), (*inner, 0), (*first, 1)]
        assert server.sold == 2

    def test_by_header(self, server: ProviderServer, client: OpenAI, tmp_path: Path) -> None:
        """S1, S2: of a single call; it is not sent on."""
        answers = [ask(client, name) for name in ("first", "first", "second")]
        assert answers == ["answer 0", "answer 1", "answer 0"]
        assert not [name for request in server.requests for name in request.headers if "cachesaver" in name]

    def test_which_goes_first(self, client: OpenAI, tmp_path: Path) -> None:
        """The header before the context, the context before the client's default."""
        ask(client)
        with namespace("context"):
            ask(client)
            ask(client, "header")
        client.close()
        assert [name for name, *_ in used(tmp_path)] == ["client", "context", "header"]

    def test_without_any(self, server: ProviderServer, tmp_path: Path) -> None:
        with OpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path) as client:
            ask(client)
        assert used(tmp_path) == [("default", None, 0)]

    def test_a_header_of_the_client(self, server: ProviderServer, tmp_path: Path) -> None:
        """Where an SDK takes headers for the client only."""
        headers = {"x-cachesaver-namespace": "first"}
        with Ollama(server.url, cachedir=tmp_path, headers=headers) as client:
            client.chat(model="tiny", messages=SAY)
        assert used(tmp_path) == [("first", None, 0)]
        assert "x-cachesaver-namespace" not in server.requests[0].headers

    def test_what_passes_through_has_no_labels_either(self, server: ProviderServer, client: OpenAI) -> None:
        client.models.list(extra_headers={"x-cachesaver-namespace": "first"})
        assert "x-cachesaver-namespace" not in server.requests[0].headers

    @pytest.mark.parametrize("name", ["", 7])
    def test_that_is_none(self, name: Any, tmp_path: Path) -> None:
        """It is refused where the client is made."""
        with pytest.raises((TypeError, ValueError), match="namespace"):
            OpenAI(api_key="own", cachedir=tmp_path, namespace=name)

    async def test_of_tasks_side_by_side(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S2: each task has its own."""
        got: dict[str, list[str]] = {}

        async def agent(name: str) -> None:
            with namespace(name):
                answers = [await client.chat.completions.create(**BODY) for _ in range(3)]
            got[name] = [answer.choices[0].message.content or "" for answer in answers]

        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path) as client:
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(agent, f"agent {number}")
        assert all(answers == ["answer 0", "answer 1", "answer 2"] for answers in got.values())
        assert (len(got), server.sold) == (5, 3)


class TestRequestIds:
    def test_by_header(self, client: OpenAI, server: ProviderServer) -> None:
        """S7: a new namespace gets the same samples for the same ids, in any order."""
        first = {name: ask(client, "first", name) for name in ("a", "b", "c")}
        second = {name: ask(client, "second", name) for name in ("c", "a", "b")}
        assert first == second
        assert len(set(first.values())) == server.sold == 3

    def test_by_context(self, client: OpenAI, tmp_path: Path) -> None:
        """S9: the header goes before the context; an id that comes again is another request."""
        with request_id("a"):
            assert ask(client, "first") == "answer 0"
            assert ask(client, "first") == "answer 1"
            assert ask(client, "first", "b") == "answer 2"
        client.close()
        assert [label for _, label, _ in used(tmp_path)] == ["a", "a", "b"]

    def test_replayed_in_another_order(self, server: ProviderServer, tmp_path: Path) -> None:
        """S6: the next run asks in another order, offline, and each id gets what it had."""
        runs = []
        for order, mode in ((("a", "b"), "reuse"), (("b", "a"), "offline")):
            with OpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path, mode=mode) as client:
                runs.append({name: ask(client, "first", name) for name in order})
        assert runs[0] == runs[1] == {"a": "answer 0", "b": "answer 1"}


class TestTold:
    def told(self, client: OpenAI, name: str, **options: Any) -> str:
        headers = {"x-cachesaver-namespace": name}
        raw = client.chat.completions.with_raw_response.create(**BODY, extra_headers=headers, **options)
        return raw.headers["x-cachesaver"]

    def test_positions(self, client: OpenAI) -> None:
        """S2, S3: the header says which samples an answer is made of, and how many were bought for it."""
        assert self.told(client, "first") == "miss; position=0; bought=1"
        assert self.told(client, "second", n=3) == "miss; position=0,1,2; bought=2"
        assert self.told(client, "third", n=3) == "hit; position=0,1,2"
        assert self.told(client, "third", n=2) == "miss; position=3,4; bought=2"

    def test_of_a_stream(self, client: OpenAI) -> None:
        """S2: the same before its first piece."""
        assert self.told(client, "first", stream=True) == "miss; position=0; bought=1"


class Counting:
    """A transport that notes which credentials are in flight at once."""

    def __init__(self) -> None:
        self.most: dict[str, int] = {}
        self._now: dict[str, int] = {}
        self._lock = Lock()
        self._inner = httpx2.AsyncHTTPTransport()

    def count(self, key: str, change: int) -> None:
        with self._lock:
            self._now[key] = self._now.get(key, 0) + change
            self.most[key] = max(self.most.get(key, 0), self._now[key])

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        key = request.headers["authorization"]
        self.count(key, 1)
        try:
            response = await self._inner.handle_async_request(request)
            await response.aread()
            return response
        finally:
            self.count(key, -1)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def __aenter__(self) -> Counting:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


class TestKeys:
    @pytest.mark.parametrize(
        ("name", "header", "value"),
        [
            ("openai", "authorization", "Bearer lent"),
            ("groq", "authorization", "Bearer lent"),
            ("together", "authorization", "Bearer lent"),
            ("mistral", "authorization", "Bearer lent"),
            ("cohere", "authorization", "Bearer lent"),
            ("huggingface", "authorization", "Bearer lent"),
            ("openrouter", "authorization", "Bearer lent"),
            ("anthropic", "authorization", "Bearer lent"),  # since version 2 of its SDK
            ("gemini", "x-goog-api-key", "lent"),
        ],
    )
    def test_take_the_place_of_the_requests_own(
        self, name: str, header: str, value: str, server: ProviderServer, tmp_path: Path
    ) -> None:
        """L3: in the header of this provider, and in no other."""

        def make() -> Any:
            return BY_NAME[name].client("sync", server.url, cachedir=tmp_path, limiter=UnlimitedLimiter("lent"))

        asked(on("sync", make, say(name)))
        (request,) = server.requests
        assert {name: v for name, v in request.headers.items() if "lent" in v} == {header: value}
        assert request.headers[header] == value

    def test_of_azure(self, server: ProviderServer, tmp_path: Path) -> None:
        """L3: which has a header of its own."""
        options = {"azure_endpoint": server.url, "api_version": "2025-01-01", "api_key": "own"}
        with AzureOpenAI(**options, cachedir=tmp_path, limiter=UnlimitedLimiter("lent")) as client:
            client.chat.completions.create(**BODY)
        assert server.requests[0].headers["api-key"] == "lent"
        assert "authorization" not in server.requests[0].headers

    @pytest.mark.parametrize("name", ["x-api-key", "api-key", "x-goog-api-key"])
    def test_bare_ones(self, name: str, server: ProviderServer, tmp_path: Path) -> None:
        """L3: older SDKs, and requests by hand, have a key in a header of its own."""
        transport = CachingTransport(tmp_path, UnlimitedLimiter("lent"))
        with httpx2.Client(transport=transport, headers={name: "own", "x-other": "own"}) as client:
            client.post(f"{server.url}/v1/messages", json={**BODY, "max_tokens": 9}).raise_for_status()
        assert server.requests[0].headers[name] == "lent"
        assert server.requests[0].headers["x-other"] == "own"

    def test_without_a_limiter_it_is_the_clients(self, server: ProviderServer, client: OpenAI) -> None:
        ask(client)
        assert server.requests[0].headers["authorization"] == "Bearer own"

    async def test_in_turn_and_never_too_many_at_once(
        self, anyio_backend: str, server: ProviderServer, tmp_path: Path
    ) -> None:
        """L1, L2: capacities of 1 and 2, twelve requests."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("one")
        limiter.add_resource("two", capacity=2)
        server.delay = 0.02
        counting = Counting()
        http = httpx2.AsyncClient(transport=counting)
        options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": "own", "http_client": http}

        async def one(seed: int) -> None:
            await client.chat.completions.create(**BODY, seed=seed)

        async with AsyncOpenAI(**options, cachedir=tmp_path, limiter=limiter) as client:
            async with anyio.create_task_group() as tasks:
                for seed in range(12):
                    tasks.start_soon(one, seed)
        assert counting.most == {"Bearer one": 1, "Bearer two": 2}
        assert server.sold == 12


class TestClientsOfTheUser:
    def test_what_it_puts_into_requests_is_sent(self, server: ProviderServer, tmp_path: Path) -> None:
        """Its headers and its hooks; a hit does not come to it."""
        seen: list[str] = []
        hooks = {"request": [lambda request: seen.append(str(request.url))], "response": [lambda response: None]}
        http = httpx2.Client(headers={"x-mine": "yes"}, event_hooks=hooks)
        with OpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path, http_client=http) as client:
            for name in ("first", "second"):
                ask(client, name)
        assert [request.headers["x-mine"] for request in server.requests] == ["yes"]
        assert seen == [f"{server.url}/v1/chat/completions"]

    @pytest.mark.parametrize("name", ["anthropic", "groq", "mistral", "cohere", "gemini"])
    def test_its_transport_sends(self, name: str, server: ProviderServer, tmp_path: Path) -> None:
        """A transport, as for a proxy, has the request as the last one; whatever the SDK calls the argument."""
        seen: list[str] = []

        def through(family: Any) -> Any:
            class Noting(family.HTTPTransport):
                def handle_request(self, request: Any) -> Any:
                    seen.append(request.url.path)
                    return super().handle_request(request)

            return family.Client(transport=Noting(), headers={"x-mine": "yes"})

        http = through(httpx2 if name in ("anthropic", "mistral", "gemini") else httpx)
        make: Any = {
            "anthropic": lambda **o: Anthropic(base_url=server.url, api_key="own", http_client=http, **o),
            "groq": lambda **o: Groq(base_url=server.url, api_key="own", http_client=http, **o),
            "mistral": lambda **o: Mistral(server_url=server.url, api_key="own", client=http, **o),
            "cohere": lambda **o: ClientV2(base_url=server.url, api_key="own", httpx_client=http, **o),
            "gemini": lambda **o: Gemini(
                api_key="own", http_options={"base_url": server.url, "httpx_client": http}, **o
            ),
        }[name]
        asked(on("sync", lambda: make(cachedir=tmp_path), say(name), say(name)))
        assert seen == [request.path.partition("?")[0] for request in server.requests]
        assert len(seen) == server.sold == 2
        assert server.requests[0].headers["x-mine"] == "yes"

    def test_a_transport_for_ollama(self, server: ProviderServer, tmp_path: Path) -> None:
        """Whose SDK takes no client."""
        seen: list[str] = []

        class Noting(httpx.HTTPTransport):
            def handle_request(self, request: httpx.Request) -> httpx.Response:
                seen.append(request.url.path)
                return super().handle_request(request)

        with Ollama(server.url, cachedir=tmp_path, transport=Noting()) as client:
            client.chat(model="tiny", messages=SAY)
            client.list()
        assert seen == ["/api/chat", "/api/tags"]

    async def test_an_async_one(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """It lives in the loop of the cache, and sends what passes through as well."""
        counting = Counting()
        http = httpx2.AsyncClient(transport=counting, headers={"x-mine": "yes"})
        async with AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path, http_client=http
        ) as client:
            await client.chat.completions.create(**BODY)
            await client.models.list()
        assert [request.headers["x-mine"] for request in server.requests] == ["yes", "yes"]
        assert counting.most == {"Bearer own": 1}


class TestCopies:
    def test_share_the_run(self, server: ProviderServer, client: OpenAI) -> None:
        """S1: a copy goes on in the namespace of the original."""
        copies = [client, client.with_options(timeout=5), client.copy(api_key="other"), client]
        assert [ask(one) for one in copies] == [f"answer {number}" for number in range(4)]
        assert server.requests[2].headers["authorization"] == "Bearer other"

    def test_with_labels_of_their_own(self, server: ProviderServer, client: OpenAI) -> None:
        """S2: a namespace for each copy, by a header that is not sent."""
        copies = [client.with_options(default_headers={"x-cachesaver-namespace": name}) for name in ("a", "b")]
        assert [ask(one) for one in copies] == ["answer 0", "answer 0"]
        assert server.sold == 1

    async def test_of_an_async_client(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """S1: the same."""
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=tmp_path) as client:
            answers = [
                await one.chat.completions.create(**BODY) for one in (client, client.with_options(max_retries=0))
            ]
        assert [answer.choices[0].message.content for answer in answers] == ["answer 0", "answer 1"]


class TestOpenCachesAndStacks:
    def test_two_clients_on_one_cache(self, server: ProviderServer, tmp_path: Path) -> None:
        """S2: an open cache may be given in place of its folder; each client is a run."""
        with Cache(tmp_path) as cache:
            options: dict[str, Any] = {"api_key": "own", "cachedir": cache}
            with OpenAI(base_url=f"{server.url}/v1", **options) as one, Groq(base_url=server.url, **options) as other:
                assert ask(one) == "answer 0"
                assert other.chat.completions.create(**BODY).choices[0].message.content == "answer 0"
        assert server.sold == 1

    @asynccontextmanager
    async def stacked(self, server: ProviderServer, cache: Cache) -> AsyncIterator[AsyncOpenAI]:
        async with HTTPModel() as model, online(model, cache, limiter=UnlimitedLimiter("lent")) as api:
            async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="own", cachedir=api) as client:
                yield client

    async def test_a_stack_of_the_users(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """S2, L3: with its limiter and its cache, in the loop that entered it."""
        with Cache(tmp_path) as cache:
            async with self.stacked(server, cache) as client:
                for name in ("first", "second"):
                    with namespace(name):
                        answer = await client.chat.completions.create(**BODY)
                        assert answer.choices[0].message.content == "answer 0"
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer lent"]

    def test_a_stack_takes_no_limiter_beside(self, tmp_path: Path) -> None:
        with Cache(tmp_path) as cache:
            with pytest.raises(TypeError, match="belong to the stack"):
                CachingTransport(online(HTTPModel(), cache), UnlimitedLimiter("lent"))


@pytest.mark.parametrize(
    ("extra", "sdk"),
    [
        ("anthropic", "anthropic"),
        ("cohere", "cohere"),
        ("gemini", "google.genai"),
        ("groq", "groq"),
        ("huggingface", "huggingface_hub"),
        ("mistral", "mistralai"),
        ("ollama", "ollama"),
        ("openai", "openai"),
        ("openrouter", "openai"),
        ("together", "together"),
        ("vllm", "openai"),
    ],
)
def test_without_the_sdk_the_error_names_the_extra(extra: str, sdk: str) -> None:
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {sdk!r} or name.startswith({sdk + "."!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}")
sys.meta_path.insert(0, Missing())
import cachesaver, cachesaver.http
try:
    import cachesaver.models.{extra}
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert f"pip install 'cachesaver[{extra}]'" in done.stdout, done.stderr
