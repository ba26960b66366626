"""A limiter under the SDKs: it asks again in their place, with another key, and learns what servers announce."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest

from cachesaver import Cache, CacheSaverWarning, RoundRobinLimiter, online
from cachesaver._http._family import family_of
from cachesaver.http import CachingTransport, HTTPModel
from cachesaver.models.openai import AsyncCachedOpenAIAPI, AsyncOpenAI

from ._colours import COLOURS, ask_in, asked, say
from ._provider_server import Fault, ProviderServer, provider_server
from .test_http_errors import CELLS, CELLS_OF_SDKS, DOWN, NAMES, REFUSED, attempts, kind, samples

__all__ = ["attempts"]  # a fixture
SOON = {"retry-after": "1", "retry-after-ms": "20"}
LATER = {"retry-after": "4000"}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def limiter_of(*keys: str | None, **options: Any) -> RoundRobinLimiter:
    limiter = RoundRobinLimiter(**options)
    for key in keys:
        limiter.add_resource(key)
    return limiter


def keys_of(server: ProviderServer) -> list[str]:
    """The API key of each request."""
    names = ("authorization", "x-api-key", "x-goog-api-key", "api-key")
    return [next(one.headers[name] for name in names if name in one.headers).split()[-1] for one in server.requests]


@pytest.mark.parametrize(("name", "colour"), CELLS)
def test_a_refusal_is_nobodys_error(
    name: str, colour: str, server: ProviderServer, tmp_path: Path, attempts: list[Any]
) -> None:
    """L5, L3, F4: asked again at once with the next key, whatever the SDK, which makes one request."""
    server.faults.append(Fault(status=429, headers=LATER))
    limiter = limiter_of("one", "two")
    (answer,) = asked(ask_in(colour, name, server.url, say(name, colour), cachedir=tmp_path, limiter=limiter))
    assert "answer 0" in str(answer)
    assert (len(attempts), len(server.requests), server.sold) == (1, 2, 1)
    if name != "ollama":  # which has no keys
        assert keys_of(server) == ["one", "two"]


@pytest.mark.parametrize(("name", "colour"), CELLS_OF_SDKS)
def test_one_layer_of_retries(
    name: str, colour: str, server: ProviderServer, tmp_path: Path, attempts: list[Any]
) -> None:
    """R2: when the limiter gives up, the SDK does not begin anew; it raises its own error."""
    server.faults += [Fault(status=429, headers=LATER)] * 4
    limiter = limiter_of("one", "two")
    (error,) = ask_in(colour, name, server.url, say(name, colour), cachedir=tmp_path, limiter=limiter)
    assert isinstance(error, kind(REFUSED, name))
    assert (len(attempts), len(server.requests)) == (1, 2)
    assert samples(tmp_path) == []


@pytest.mark.parametrize(("name", "colour"), CELLS_OF_SDKS)
def test_the_server_is_down(name: str, colour: str, tmp_path: Path, attempts: list[Any]) -> None:
    """R1, R2: what was never sent is asked again by the limiter, not by the SDK."""
    with provider_server() as server:
        url = server.url
    limiter = limiter_of("one", attempts=2)
    (error,) = ask_in(colour, name, url, say(name, colour), cachedir=tmp_path, limiter=limiter)
    assert type(error) is kind(DOWN, name)
    assert len(attempts) == 1


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("fault", [Fault(status=500), Fault(cut_after=-1)], ids=["500", "cut"])
def test_what_may_be_billed(colour: str, fault: Fault, server: ProviderServer, tmp_path: Path) -> None:
    """R1: is not sent again unless that is allowed."""
    server.faults.append(fault)
    options = {"cachedir": tmp_path, "limiter": limiter_of("one")}
    error, answer = ask_in(colour, "openai", server.url, say("openai"), say("openai"), **options)
    assert isinstance(error, openai.APIError)
    assert "answer" in str(answer)
    assert len(server.requests) == 2
    server.faults.append(fault)
    options = {"cachedir": tmp_path / "again", "limiter": limiter_of("one", resend=1)}
    (answer,) = asked(ask_in(colour, "openai", server.url, say("openai"), **options))
    assert len(server.requests) == 4


@pytest.mark.parametrize("colour", COLOURS)
def test_a_stream_that_was_seen_is_not_sent_again(colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """R1: two halves of two answers would be no answer, whatever is allowed."""

    def stream(client: Any) -> Any:
        messages: Any = [{"role": "user", "content": "Say"}]
        return client.chat.completions.create(model="tiny", messages=messages, stream=True)

    server.faults.append(Fault(cut_after=2))
    (error,) = ask_in(colour, "openai", server.url, stream, cachedir=tmp_path, limiter=limiter_of("one", resend=5))
    assert isinstance(error, Exception)
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_key_that_was_refused(name: str, server: ProviderServer, tmp_path: Path) -> None:
    """L1, D4: it is retired with a warning that does not show it, and the request is answered."""
    server.faults.append(Fault(status=401))
    limiter = limiter_of("sk-one", "sk-two")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", CacheSaverWarning)
        answer, again = asked(
            ask_in("sync", name, server.url, say(name), say(name), cachedir=tmp_path, limiter=limiter)
        )
    assert "answer" in str(answer)
    assert "answer" in str(again)
    said = [str(one.message) for one in told if issubclass(one.category, CacheSaverWarning)]
    assert said == ["resource number 1 is retired: its key was refused (status 401); 1 of 2 are left"]
    if name != "ollama":
        assert keys_of(server) == ["sk-one", "sk-two", "sk-two"]


@pytest.mark.filterwarnings("ignore::cachesaver.CacheSaverWarning")
@pytest.mark.parametrize("name", NAMES)
def test_no_key_is_left(name: str, server: ProviderServer, tmp_path: Path, attempts: list[Any]) -> None:
    """L1: the first caller gets the provider's error, the next ours, at once and without a request."""
    server.faults += [Fault(status=401)] * 3
    options = {"cachedir": tmp_path, "limiter": limiter_of("sk-one", "sk-two")}
    first, second = ask_in("sync", name, server.url, say(name), say(name), **options)
    assert isinstance(first, kind(REFUSED, name))
    assert isinstance(second, kind(REFUSED, name))
    assert "every resource of this limiter is retired" in str(getattr(second, "body", "")) + str(second)
    assert (len(attempts), len(server.requests)) == (2, 2)


@pytest.mark.parametrize("name", NAMES)
def test_the_clients_own_key(name: str, server: ProviderServer, tmp_path: Path) -> None:
    """L3: a resource of None leaves the request its own."""
    options = {"cachedir": tmp_path, "limiter": limiter_of(None)}
    asked(ask_in("sync", name, server.url, say(name), cachedir=tmp_path))
    asked(ask_in("sync", name, server.url, say(name, model="other"), **options))
    if name != "ollama":
        assert len(set(keys_of(server))) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_what_a_server_announces(colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """L4: nothing is left for 0.3 seconds, and that is kept to; by another model it is not."""
    told = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "300ms"}
    server.faults.append(Fault(headers=told))
    begin = anyio.run(_now)
    options = {"cachedir": tmp_path, "limiter": limiter_of("one")}
    asked(ask_in(colour, "openai", server.url, say("openai"), say("openai"), **options))
    assert anyio.run(_now) - begin >= 0.3


async def _now() -> float:
    return anyio.current_time()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
class TestEntered:
    def test_a_stack_with_a_limiter(
        self, backend: str, server: ProviderServer, tmp_path: Path, attempts: list[Any]
    ) -> None:
        """R2: a client over it does not try again either; the counts tell what happened."""

        async def main() -> None:
            with Cache(tmp_path) as cache:
                async with HTTPModel() as model, online(model, cache, limiter=limiter_of("one", "two")) as api:
                    async with AsyncOpenAI(cachedir=api, base_url=f"{server.url}/v1", api_key="key") as client:
                        await say("openai")(client)
                        assert (api.stats.calls, api.stats.refused, api.stats.maybe_billed) == (2, 1, 0)
                        server.faults.append(Fault(status=500))
                        with pytest.raises(openai.InternalServerError):
                            await say("openai")(client)
                        assert (api.stats.refused, api.stats.maybe_billed) == (1, 1)

        server.faults.append(Fault(status=503, headers=LATER))
        anyio.run(main, backend=backend)
        assert len(attempts) == 2

    def test_bodies(self, backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """L5, R2: under `AsyncCachedOpenAIAPI`, too."""

        async def main() -> None:
            with Cache(tmp_path) as cache:
                async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="key") as client:
                    limiter = limiter_of("one", "two")
                    async with AsyncCachedOpenAIAPI(client, cache, limiter) as api:
                        body = {"model": "tiny", "messages": [{"role": "user", "content": "Say"}]}
                        completion = await api.create_chat_completion(body)
                        assert completion.choices[0].message.content == "answer 0"
                        assert api.stats.refused == 1
                        server.faults += [Fault(status=429, headers=LATER)] * 4
                        with pytest.raises(openai.RateLimitError):
                            await api.create_chat_completion(body)

        server.faults.append(Fault(status=429, headers={"retry-after": "0"}))
        anyio.run(main, backend=backend)
        assert keys_of(server)[:2] == ["one", "two"]
        assert len(server.requests) == 4


def test_an_answer_of_the_limiter_is_final(server: ProviderServer, tmp_path: Path) -> None:
    """R2: for SDKs that the user has set up alone, it says so in the header that they look at."""
    server.faults += [Fault(status=429, headers=LATER)] * 2
    transport = CachingTransport(tmp_path, limiter_of("one", "two"))
    with family_of(openai.DefaultHttpxClient).Client(transport=transport) as http_client:
        alone = openai.OpenAI(base_url=f"{server.url}/v1", api_key="key", http_client=http_client)
        with pytest.raises(openai.RateLimitError) as raised:
            say("openai")(alone)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(server.requests) == 2
    assert "as scripted" in json.dumps(raised.value.body)
