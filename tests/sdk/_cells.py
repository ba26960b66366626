"""Every SDK in three colours: how to make its client, to ask it plainly and to stream from it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import anyio

COLOURS = ("sync", "asyncio", "trio")
TOKENS = 12
ASKED = [{"role": "user", "content": "Name a colour and an animal."}]


@dataclass(frozen=True)
class SDK:
    """One SDK, as its drop-in has it: the names of its classes, and the calls that the matrix makes."""

    name: str
    sync: str
    asynchronous: str
    options: Callable[[str], dict[str, Any]]  #: of a client, for a server at this URL
    plain: Callable[[Any], Any]
    stream: Callable[[Any], Any]
    text: Callable[[Any], str]  #: of a piece of the stream
    real: bool = True  #: the local language model speaks its API
    module: str = ""  #: the SDK's own module
    blame: dict[str, str] = dataclasses.field(default_factory=dict)  #: what does not work by the SDK's own fault

    def client(self, colour: str, url: str, **options: Any) -> Any:
        """Its client for the server at *url*, with caching underneath."""
        module = import_module(f"cachesaver.models.{self.name}")
        cls = getattr(module, self.sync if colour == "sync" else self.asynchronous)
        return cls(**self.options(url), **options)

    def run(self, colour: str, url: str, **options: Any) -> dict[str, Any]:
        """One plain call and one stream: what came, as plain data."""
        return self.on(colour, self.client(colour, url, **options))

    def on(self, colour: str, client: Any) -> dict[str, Any]:
        """The same, with *client*, which is closed."""
        if colour == "sync":
            return self._in_sync(client)
        return anyio.run(self._in_loop, client, backend=colour)

    def _in_sync(self, client: Any) -> dict[str, Any]:
        plain = plain_data(self.plain(client))
        pieces = [self.text(piece) for piece in self.stream(client)]
        close(client)
        return {"plain": plain, "stream": [piece for piece in pieces if piece]}

    async def _in_loop(self, client: Any) -> dict[str, Any]:
        plain = plain_data(await self.plain(client))
        stream = self.stream(client)
        if inspect.isawaitable(stream):
            stream = await stream
        pieces = [self.text(piece) async for piece in stream]
        done = close(client)
        if inspect.isawaitable(done):
            await done
        return {"plain": plain, "stream": [piece for piece in pieces if piece]}


def close(client: Any) -> Any:
    """Close a client of any SDK."""
    for name in ("aclose", "close", "__aexit__", "__exit__"):
        if hasattr(client, name):
            return getattr(client, name)(*([None] * 3 if name.endswith("exit__") else []))
    return None


def plain_data(answer: Any) -> Any:
    """An SDK's answer as plain data, for comparing field by field."""
    if hasattr(answer, "model_dump"):
        return answer.model_dump(mode="json", exclude={"sdk_http_response"})
    if dataclasses.is_dataclass(answer):
        return dataclasses.asdict(answer)  # pyright: ignore[reportArgumentType]
    return answer


def _delta(chunk: Any) -> str:
    return chunk.choices[0].delta.content or "" if chunk.choices else ""


def _chat(client: Any, **options: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=ASKED, max_tokens=TOKENS, **options)


def _openai_like(name: str, sync: str, asynchronous: str, module: str, *, path: str = "/v1", real: bool = True) -> SDK:
    return SDK(
        name,
        sync,
        asynchronous,
        lambda url: {"base_url": f"{url}{path}", "api_key": "key"},
        _chat,
        lambda client: _chat(client, stream=True, temperature=0.9),
        _delta,
        real,
        module,
    )


def _messages(client: Any, **options: Any) -> Any:
    return client.messages.create(model="tiny", messages=ASKED, max_tokens=TOKENS, **options)


def _anthropic_text(event: Any) -> str:
    return getattr(event.delta, "text", "") if event.type == "content_block_delta" else ""


def _generate(client: Any, stream: bool) -> Any:
    models = client.models
    ask = models.generate_content_stream if stream else models.generate_content
    return ask(model="tiny", contents="Name a colour and an animal.")


def _mistral(client: Any, colour_stream: str, **options: Any) -> Any:
    return getattr(client.chat, colour_stream)(model="tiny", messages=ASKED, max_tokens=TOKENS, **options)


class _Mistral(SDK):
    """One class with methods for both colours."""

    def on(self, colour: str, client: Any) -> dict[str, Any]:
        if colour == "sync":
            plain = plain_data(_mistral(client, "complete"))
            pieces = [self.text(piece) for piece in _mistral(client, "stream", temperature=0.9)]
            client.__exit__(None, None, None)
            return {"plain": plain, "stream": [piece for piece in pieces if piece]}
        return anyio.run(self._in_loop, client, backend=colour)

    async def _in_loop(self, client: Any) -> dict[str, Any]:
        plain = plain_data(await _mistral(client, "complete_async"))
        stream = await _mistral(client, "stream_async", temperature=0.9)
        pieces = [self.text(piece) async for piece in stream]
        await client.__aexit__(None, None, None)
        return {"plain": plain, "stream": [piece for piece in pieces if piece]}


def _cohere(client: Any, stream: bool) -> Any:
    ask = client.chat_stream if stream else client.chat
    return ask(model="tiny", messages=ASKED, max_tokens=TOKENS)


def _cohere_text(event: Any) -> str:
    return event.delta.message.content.text or "" if event.type == "content-delta" else ""


def _ollama(client: Any, stream: bool) -> Any:
    return client.chat(model="tiny", messages=ASKED, stream=stream)


def _huggingface(client: Any, **options: Any) -> Any:
    return client.chat_completion(ASKED, model="tiny", max_tokens=TOKENS, **options)


SDKS: tuple[SDK, ...] = (
    _openai_like("openai", "OpenAI", "AsyncOpenAI", "openai"),
    SDK(
        "anthropic",
        "Anthropic",
        "AsyncAnthropic",
        lambda url: {"base_url": url, "api_key": "key"},
        _messages,
        lambda client: _messages(client, stream=True, system="Be brief."),
        _anthropic_text,
        module="anthropic",
    ),
    SDK(
        "gemini",
        "Gemini",
        "AsyncGemini",
        lambda url: {"api_key": "key", "http_options": {"base_url": url}},
        lambda client: _generate(client, stream=False),
        lambda client: _generate(client, stream=True),
        lambda chunk: chunk.text or "",
        real=False,
        module="google.genai",
    ),
    _openai_like("groq", "Groq", "AsyncGroq", "groq", path="", real=False),
    _openai_like("together", "Together", "AsyncTogether", "together", path=""),
    _Mistral(
        "mistral",
        "Mistral",
        "Mistral",
        lambda url: {"server_url": url, "api_key": "key"},
        _mistral,
        _mistral,
        lambda event: event.data.choices[0].delta.content or "",
        module="mistralai",
        blame={"trio": "mistralai runs on asyncio only"},
    ),
    SDK(
        "cohere",
        "ClientV2",
        "AsyncClientV2",
        lambda url: {"base_url": url, "api_key": "key"},
        lambda client: _cohere(client, stream=False),
        lambda client: _cohere(client, stream=True),
        _cohere_text,
        real=False,
        module="cohere",
    ),
    SDK(
        "ollama",
        "Client",
        "AsyncClient",
        lambda url: {"host": url},
        lambda client: _ollama(client, stream=False),
        lambda client: _ollama(client, stream=True),
        lambda chunk: chunk.message.content or "",
        real=False,
        module="ollama",
    ),
    _openai_like("openrouter", "OpenRouter", "AsyncOpenRouter", "openai"),
    SDK(
        "huggingface",
        "InferenceClient",
        "AsyncInferenceClient",
        lambda url: {"base_url": f"{url}/v1", "token": "key"},
        _huggingface,
        lambda client: _huggingface(client, stream=True, temperature=0.9),
        _delta,
        module="huggingface_hub",
    ),
    _openai_like("vllm", "VLLM", "AsyncVLLM", "openai"),
)
