"""Errors over HTTP: the SDK's own, at once where a retry is no use, and never stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cachesaver import Cache
from cachesaver._http._transport import CachingTransport

from ._colours import BY_NAME, COLOURS, ask_in, asked, on, rows, say
from ._provider_server import Fault, ProviderServer, provider_server

NAMES = sorted(BY_NAME)
SOON = {"retry-after": "1", "retry-after-ms": "20"}
ONCE = {"gemini", "huggingface", "mistral", "ollama"}  # they do not retry by themselves
REFUSED = {
    "anthropic": ("anthropic", "APIStatusError"),
    "cohere": ("cohere.core.api_error", "ApiError"),
    "gemini": ("google.genai.errors", "ClientError"),
    "groq": ("groq", "APIStatusError"),
    "huggingface": ("huggingface_hub.errors", "HfHubHTTPError"),
    "mistral": ("mistralai.client.errors", "SDKError"),
    "ollama": ("ollama", "ResponseError"),
    "together": ("together", "APIStatusError"),
}
DOWN = {
    "anthropic": ("anthropic", "APIConnectionError"),
    "cohere": ("httpx", "ConnectError"),
    "gemini": ("httpx2", "ConnectError"),
    "groq": ("groq", "APIConnectionError"),
    "huggingface": ("httpx2", "ConnectError"),
    "mistral": ("httpx2", "ConnectError"),
    "ollama": ("builtins", "ConnectionError"),
    "together": ("together", "APIConnectionError"),
}
SDKS = [name for name in NAMES if name not in ("openrouter", "vllm")]  # these have OpenAI's
CELLS = [
    pytest.param(name, colour, id=f"{name}-{colour}")
    for name in NAMES
    for colour in COLOURS
    if (name, colour) != ("mistral", "trio")
]

CELLS_OF_SDKS = [cell for cell in CELLS if cell.values[0] in SDKS]


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that SDKs have made, whether or not they got anywhere."""
    made: list[Any] = []
    exchange = CachingTransport._exchange

    def counted(self: CachingTransport, request: Any) -> Any:
        if request.method == "POST":
            made.append(request)
        return exchange(self, request)

    monkeypatch.setattr(CachingTransport, "_exchange", counted)
    return made


def kind(kinds: dict[str, tuple[str, str]], name: str) -> type[Exception]:
    """The class of error; OpenRouter and vLLM are asked by OpenAI's SDK."""
    module, error = kinds.get(name, ("openai", kinds["groq"][1]))
    return getattr(import_module(module), error)


def without_retries(name: str) -> dict[str, Any]:
    return {} if name in ONCE else {"max_retries": 0}


def samples(folder: Path) -> list[Any]:
    return rows(folder, "SELECT position, answer FROM samples")


class TestRetries:
    @pytest.mark.parametrize(
        ("name", "colour"),
        [
            cell
            for cell in CELLS_OF_SDKS
            if cell.values[0] not in ONCE and cell.values != ("cohere", "trio")  # which cannot wait, see below
        ],
    )
    def test_after_too_many_requests(self, name: str, colour: str, server: ProviderServer, tmp_path: Path) -> None:
        """S14, F4: the SDK tries again, and gets the position that the failed attempt would have got."""
        server.faults.append(Fault(status=429, headers=SOON))
        asked(ask_in(colour, name, server.url, say(name), cachedir=tmp_path))
        assert (len(server.requests), server.sold) == (2, 1)
        ((position, answer),) = samples(tmp_path)
        assert position == 0
        assert "answer 0" in answer

    @pytest.mark.parametrize("colour", COLOURS)
    def test_in_one_namespace_nothing_is_skipped(self, colour: str, server: ProviderServer, tmp_path: Path) -> None:
        """S14: a second request gets the next position, a replay the same two."""
        server.faults += [Fault(status=500, headers=SOON), Fault(), Fault(status=503, headers=SOON)]
        two = asked(ask_in(colour, "openai", server.url, say("openai"), say("openai"), cachedir=tmp_path))
        assert [one["choices"][0]["message"]["content"] for one in two] == ["answer 0", "answer 1"]
        assert [position for position, _ in samples(tmp_path)] == [0, 1]
        again = ask_in(colour, "openai", server.url, say("openai"), say("openai"), cachedir=tmp_path, mode="offline")
        assert again == two

    def test_that_are_used_up(self, server: ProviderServer, tmp_path: Path, attempts: list[Any]) -> None:
        """F4: then the caller gets the SDK's own error, with what the server said."""
        server.faults += [Fault(status=429, headers=SOON)] * 3
        (error,) = ask_in("sync", "openai", server.url, say("openai"), cachedir=tmp_path)
        assert type(error).__name__ == "RateLimitError"
        assert "as scripted" in str(error)
        assert error.response.headers["retry-after"] == "1"
        assert len(attempts) == len(server.requests) == 3


class TestNeverStored:
    @pytest.mark.parametrize("status", [400, 401, 404, 409, 424, 429, 500, 503, 529])
    def test_an_error(self, status: int, server: ProviderServer, tmp_path: Path) -> None:
        """F4, S14: is told as it is, and the next one who asks gets the answer."""
        server.faults.append(Fault(status=status))
        options = {"cachedir": tmp_path, **without_retries("openai")}
        error, answer = ask_in("sync", "openai", server.url, say("openai"), say("openai"), **options)
        assert error.status_code == status
        assert "as scripted" in str(error)
        assert answer["choices"][0]["message"]["content"] == "answer 0"
        assert len(samples(tmp_path)) == 1

    @pytest.mark.parametrize("name", NAMES)
    def test_an_error_of_any_provider(self, name: str, server: ProviderServer, tmp_path: Path) -> None:
        """F4: every SDK raises its own."""
        server.faults.append(Fault(status=400))
        error, answer = ask_in("sync", name, server.url, say(name), say(name), cachedir=tmp_path)
        assert isinstance(error, kind(REFUSED, name))
        assert "answer 0" in str(answer)
        assert len(samples(tmp_path)) == 1

    @pytest.mark.parametrize("body", [[], {}, {"error": {"message": "slow", "code": 429}}], ids=json.dumps)
    @pytest.mark.parametrize("name", SDKS)
    def test_what_is_no_answer(self, name: str, body: Any, server: ProviderServer, tmp_path: Path) -> None:
        """F4: an error under a good status, as OpenRouter has it, is not kept in the place of an answer."""
        server.faults.append(Fault(status=200, body=body))
        strange, answer = ask_in("sync", name, server.url, say(name), say(name), cachedir=tmp_path)
        assert "returned none" not in str(strange)  # it is the SDK's to make something of it
        assert "answer 0" in str(answer)
        ((position, kept),) = samples(tmp_path)
        assert position == 0
        assert "answer 0" in kept

    def test_the_body_of_such_an_error_is_shown(self, server: ProviderServer, tmp_path: Path) -> None:
        """F4: as the server has sent it, with its status and headers."""
        server.faults.append(Fault(status=200, body={"error": {"message": "slow"}}, headers={"x-more": "yes"}))
        with BY_NAME["openai"].client("sync", server.url, cachedir=tmp_path) as client:
            raw = client.chat.completions.with_raw_response.create(model="tiny", messages=[])
            assert (raw.status_code, raw.headers["x-more"]) == (200, "yes")
            assert json.loads(raw.content) == {"error": {"message": "slow"}}


@pytest.mark.parametrize(("name", "colour"), CELLS_OF_SDKS)
def test_the_server_is_down(name: str, colour: str, tmp_path: Path, attempts: list[Any]) -> None:
    """F4: the SDK's own error for that, and nothing is stored."""
    with provider_server() as server:
        url = server.url
    (error,) = ask_in(colour, name, url, say(name, colour), cachedir=tmp_path, **without_retries(name))
    assert type(error) is kind(DOWN, name)
    assert len(attempts) == 1
    assert samples(tmp_path) == []


@pytest.mark.parametrize(("name", "colour"), CELLS)
def test_a_miss_offline(name: str, colour: str, server: ProviderServer, tmp_path: Path, attempts: list[Any]) -> None:
    """S10: one typed error of the SDK, unretried, that names what is missing; the server is not touched."""
    asked(ask_in(colour, name, server.url, say(name, colour), cachedir=tmp_path))
    before = len(server.requests)
    attempts.clear()
    call = say(name, colour, model="other" if name == "gemini" else "small")
    (error,) = ask_in(colour, name, server.url, call, cachedir=tmp_path, mode="offline")
    assert isinstance(error, kind(REFUSED, name))
    assert "the cache holds 0 samples of this prompt" in str(error)
    assert f"scope: {server.url.removeprefix('http://')}" in str(error)
    assert 'mode=\\"reuse\\"' in str(error) or 'mode="reuse"' in str(error)
    assert "tiny" in str(error)  # the nearest known prompt
    assert len(attempts) == 1
    assert len(server.requests) == before


class TestCacheErrors:
    @pytest.fixture
    def damaged(self, tmp_path: Path) -> Path:
        with Cache(tmp_path) as cache:
            path = Path(cache.path)
        path.write_bytes(b"this is no database" * 1000)
        return tmp_path

    @pytest.fixture
    def closed(self, tmp_path: Path) -> Path:
        """A folder in which no file can be made, for whomever."""
        (tmp_path / "file").touch()
        return tmp_path / "file" / "folder"

    @pytest.mark.parametrize(("name", "colour"), CELLS_OF_SDKS)
    def test_a_damaged_file(
        self, name: str, colour: str, server: ProviderServer, damaged: Path, attempts: list[Any]
    ) -> None:
        """D5: one clear error, unretried; nothing is sent that could not be kept, and the file stays as it was."""
        (error,) = ask_in(colour, name, server.url, say(name, colour), cachedir=damaged)
        assert isinstance(error, kind(REFUSED, name))
        assert "is no cache" in str(error) or "not a database" in str(error) or "damaged" in str(error)
        assert len(attempts) == 1
        assert [request for request in server.requests if request.method == "POST"] == []
        assert b"this is no database" in b"".join(f.read_bytes() for f in damaged.iterdir() if f.is_file())

    @pytest.mark.parametrize("colour", COLOURS)
    def test_a_folder_that_cannot_be_written(
        self, colour: str, server: ProviderServer, closed: Path, attempts: list[Any]
    ) -> None:
        """D5: the same where the cache cannot be made."""
        (error,) = ask_in(colour, "openai", server.url, say("openai"), cachedir=closed)
        assert isinstance(error, kind(REFUSED, "openai"))
        assert str(closed) in str(error)
        assert len(attempts) == 1
        assert server.requests == []


class TestTrio:
    """Two SDKs wait through asyncio; what they cannot do on trio they say, and what to do instead."""

    def test_cohere_has_to_try_again(self, server: ProviderServer, tmp_path: Path) -> None:
        """F4: it names the option without which there is no retry."""
        server.faults.append(Fault(status=429, headers=SOON))
        (error,) = ask_in("trio", "cohere", server.url, say("cohere"), cachedir=tmp_path)
        assert isinstance(error, RuntimeError)
        assert "max_retries=0" in str(error)
        assert samples(tmp_path) == []

    @pytest.mark.parametrize("where", ["client", "call"])
    def test_cohere_without_retries(self, where: str, server: ProviderServer, tmp_path: Path) -> None:
        """F4: with it, for the client or a call, the SDK's own error comes."""
        from cohere.errors import TooManyRequestsError

        messages = [{"role": "user", "content": "Say"}]
        once: dict[str, Any] = {"request_options": {"max_retries": 0}} if where == "call" else {}
        server.faults.append(Fault(status=429, headers=SOON))
        error, answer = ask_in(
            "trio",
            "cohere",
            server.url,
            lambda client: client.chat(model="tiny", messages=messages, **once),
            say("cohere"),
            cachedir=tmp_path,
            **({"max_retries": 0} if where == "client" else {}),
        )
        assert isinstance(error, TooManyRequestsError)
        assert answer["message"]["content"][0]["text"] == "answer 0"

    @pytest.mark.parametrize("method", ["complete_async", "stream_async"])
    def test_mistral(self, method: str, server: ProviderServer, tmp_path: Path) -> None:
        """F4: it names the drop-in that can, and nothing is sent."""

        def ask(client: Any) -> Any:
            return getattr(client.chat, method)(model="tiny", messages=[{"role": "user", "content": "Say"}])

        (error,) = ask_in("trio", "mistral", server.url, ask, cachedir=tmp_path)
        assert isinstance(error, RuntimeError)
        assert "cachesaver.models.openai.AsyncOpenAI(base_url='https://api.mistral.ai/v1'" in str(error)
        assert server.requests == []

    def test_huggingface(self, server: ProviderServer, tmp_path: Path) -> None:
        """F4: the SDK would read the answer in a thread of asyncio; before anything is sent, the error says so."""

        def ask(client: Any) -> Any:
            return client.text_generation("hello", model=f"{server.url}/hf-inference/models/m")

        (error,) = ask_in("trio", "huggingface", server.url, ask, cachedir=tmp_path)
        assert "trio.to_thread.run_sync" in str(error)
        assert server.requests == []

    def test_mistral_by_the_way_that_is_named(self, server: ProviderServer, tmp_path: Path) -> None:
        """S12: what it asked before is known there: one cache for both."""
        asked(ask_in("sync", "mistral", server.url, say("mistral"), cachedir=tmp_path))

        def make() -> Any:
            return BY_NAME["openai"].client("trio", server.url, cachedir=tmp_path, mode="offline")

        (answer,) = asked(on("trio", make, say("openai")))
        assert answer["choices"][0]["message"]["content"] == "answer 0"


@pytest.mark.parametrize(("name", "colour"), CELLS)
def test_every_client_tells_what_went_through_it(
    server: ProviderServer, tmp_path: Path, name: str, colour: str
) -> None:
    """What it bought, and in the next run what it found."""
    for bought in (2, 0):
        ask = say(name, colour)
        *_, stats = asked(ask_in(colour, name, server.url, ask, ask, lambda client: client.stats, cachedir=tmp_path))
        counts = stats if isinstance(stats, dict) else asdict(stats)
        assert (counts["requests"], counts["bought"], counts["hits"]) == (2, bought, 2 - bought)
