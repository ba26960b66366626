"""SDKs over a `CachingTransport`, sync and async, plain and streamed, all asked and read in the same way."""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import cohere
import groq
import httpx
import httpx2
import mistralai.client
import ollama
import openai
import together
from anyio import to_thread, wait_all_tasks_blocked
from google import genai
from google.genai.types import HttpOptions

from cachesaver import Cache, Cacher, namespace, online, request_id
from cachesaver.http import CachingTransport, HTTPModel

Make = Callable[..., Any]


@dataclass(frozen=True)
class Api:
    """One SDK: how its client is made and asked, and what there is in its answers."""

    name: str
    family: Any  #: httpx or httpx2
    make: Make  #: its client, of a URL, the HTTP client, and whether that is an async one
    ask: Make  #: what it answers to a prompt, of the client, the prompt, and whether to stream; and more fields
    text: Callable[[Any], str | None]  #: of a piece
    ends: Callable[[Any], Any]  #: whether a piece completes the answer
    said: Callable[[Any], str]  #: of a whole answer
    used: Callable[[Any], Any]  #: the tokens of a whole answer
    told: Callable[[Any], Any]  #: the tokens that a piece tells; None where it does not

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Way:
    """How to ask: a client of which kind, in which event loop, over which stack."""

    client: str  #: "sync" or "async"
    stack: str  #: "own" for a folder, "cacher" and "online" for an entered stack
    backend: str

    def __str__(self) -> str:
        return f"{self.client}-{self.stack}-{self.backend}"

    @property
    def sync(self) -> bool:
        return self.client == "sync"


class Caller:
    """A client inside of a run. What blocks works in a thread, so that every client can be awaited."""

    def __init__(self, api: Api, client: Any, transport: CachingTransport, sync: bool) -> None:
        self.api = api
        self.client = client
        self.transport = transport
        self.sync = sync
        self._streams: list[Pieces] = []

    async def plain(self, prompt: str = "Hi", space: str = "a", name: str | None = None, **fields: Any) -> Any:
        """A whole answer."""
        with labels(space, name):
            return await self._do(self.api.ask, self.client, prompt, False, **fields)

    async def stream(self, prompt: str = "Hi", space: str = "a", name: str | None = None, **fields: Any) -> Pieces:
        """An answer in pieces."""
        with labels(space, name):
            pieces = Pieces(self, await self._do(self.api.ask, self.client, prompt, True, **fields), space, name)
        self._streams.append(pieces)
        return pieces

    async def end(self) -> None:
        """Let go of all streams: SDKs leave generators of theirs behind, and the event loop has to close them."""
        for stream in self._streams:
            stream.forget()
        gc.collect(1)
        await wait_all_tasks_blocked()

    async def _do(self, function: Make, *args: Any, **options: Any) -> Any:
        call = partial(function, *args, **options)
        if self.sync:
            return await to_thread.run_sync(call)
        result = call()
        return await result if inspect.isawaitable(result) else result


class Pieces:
    """The pieces of one answer as an SDK hands them out."""

    def __init__(self, caller: Caller, stream: Any, space: str, name: str | None) -> None:
        self._caller = caller
        self._stream = stream
        self._iterator = iter(stream) if caller.sync else aiter(stream)
        self._labels = (space, name)  # some clients ask only when the first piece is taken

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> Any:
        with labels(*self._labels):
            if not self._caller.sync:
                return await anext(self._iterator)
            piece = await to_thread.run_sync(next, self._iterator, self)
        if piece is self:
            raise StopAsyncIteration
        return piece

    async def all(self) -> list[Any]:
        return [piece async for piece in self]

    async def texts(self) -> list[str]:
        """The texts of the pieces that have one."""
        return [text async for piece in self if (text := self._caller.api.text(piece))]

    async def leave(self) -> None:
        """Read no more, as the SDK provides for it."""
        close = getattr(self._stream, "close", None) or self._stream.aclose
        if self._caller.sync:
            await to_thread.run_sync(close)
        else:
            await close()

    @property
    def headers(self) -> Any:
        return self._stream.response.headers

    def forget(self) -> None:
        self._stream = self._iterator = None


@asynccontextmanager
async def connected(
    api: Api, way: Way, url: str, folder: Path, mode: Any = "reuse", sender: Any = None
) -> AsyncIterator[Caller]:
    """A client of a run on the cache in *folder*; at the end everything that was bought is stored.

    *sender* is the HTTP client that sends on what is not in the cache.
    """
    async with AsyncExitStack() as stack:
        if way.stack == "own":
            transport = CachingTransport(folder, mode=mode, client=sender)
        else:
            model = await stack.enter_async_context(HTTPModel(sender))
            cache = stack.enter_context(Cache(folder))
            preset = Cacher if way.stack == "cacher" else online
            transport = CachingTransport(await stack.enter_async_context(preset(model, cache, mode=mode)))
        async with client_of(api, way, url, transport) as caller:
            yield caller


@asynccontextmanager
async def client_of(api: Api, way: Way, url: str, transport: CachingTransport) -> AsyncIterator[Caller]:
    """A client over *transport*, which is closed with it."""
    http = (api.family.Client if way.sync else api.family.AsyncClient)(transport=transport, timeout=None)
    caller = Caller(api, api.make(url, http, not way.sync), transport, way.sync)
    try:
        yield caller
    finally:
        await caller.end()
        if way.sync:
            await to_thread.run_sync(http.close)
        else:
            await http.aclose()


def labels(space: str, name: str | None) -> Any:
    """The namespace, and the request id where there is one."""
    return _labels(space, name)


class _labels:
    def __init__(self, space: str, name: str | None) -> None:
        self._blocks = [namespace(space), nullcontext() if name is None else request_id(name)]

    def __enter__(self) -> None:
        for block in self._blocks:
            block.__enter__()

    def __exit__(self, *error: Any) -> None:
        for block in reversed(self._blocks):
            block.__exit__(*error)


# What the SDKs have in common, and what each has of its own


def user(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


def of_classes(sync: type[Any], asynchronous: type[Any], path: str = "") -> Make:
    """The clients of those whose SDKs were made by the same generator."""

    def make(url: str, http: Any, is_async: bool) -> Any:
        kind = asynchronous if is_async else sync
        return kind(base_url=url + path, api_key="key", http_client=http, max_retries=0)

    return make


def ask_chat(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    return client.chat.completions.create(model="tiny", messages=user(prompt), stream=stream, **fields)


def chat_api(name: str, family: Any, make: Make, ask: Make = ask_chat) -> Api:
    return Api(
        name,
        family,
        make,
        ask,
        lambda chunk: chunk.choices[0].delta.content if chunk.choices else None,
        lambda chunk: chunk.choices and chunk.choices[0].finish_reason,
        lambda whole: whole.choices[0].message.content,
        lambda whole: whole.usage.total_tokens,
        lambda chunk: chunk.usage and chunk.usage.total_tokens,
    )


def ask_responses(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    return client.responses.create(model="tiny", input=prompt, stream=stream, **fields)


def ask_messages(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    return client.messages.create(model="tiny", max_tokens=20, messages=user(prompt), stream=stream, **fields)


def make_gemini(url: str, http: Any, is_async: bool) -> Any:
    other = (httpx2.Client if is_async else httpx2.AsyncClient)(transport=http._transport)  # never used
    ours = {"httpx_client": other if is_async else http, "httpx_async_client": http if is_async else other}
    client = genai.Client(api_key="key", http_options=HttpOptions(base_url=url, **ours))
    return client.aio if is_async else client


def ask_gemini(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    ask = client.models.generate_content_stream if stream else client.models.generate_content
    return ask(model="tiny", contents=prompt, **fields)


def make_cohere(url: str, http: Any, is_async: bool) -> Any:
    kind = cohere.AsyncClientV2 if is_async else cohere.ClientV2
    return kind(base_url=url, api_key="key", httpx_client=http)


def ask_cohere(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    ask = client.chat_stream if stream else client.chat
    return ask(model="tiny", messages=user(prompt), request_options={"max_retries": 0}, **fields)


def make_ollama(url: str, http: Any, is_async: bool) -> Any:
    kind = ollama.AsyncClient if is_async else ollama.Client
    return kind(url, transport=http._transport)  # it insists on an HTTP client of its own


def ask_ollama(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    return client.chat(model="tiny", messages=user(prompt), stream=stream, **fields)


def make_mistral(url: str, http: Any, is_async: bool) -> Any:
    ours = {"async_client" if is_async else "client": http}
    return mistralai.client.Mistral(server_url=url, api_key="key", **ours)


def ask_mistral(client: Any, prompt: str, stream: bool, **fields: Any) -> Any:
    ask = client.chat.stream if stream else client.chat.complete
    return ask(model="tiny", messages=user(prompt), **fields)


OPENAI = chat_api("openai", httpx2, of_classes(openai.OpenAI, openai.AsyncOpenAI, "/v1"))
RESPONSES = Api(
    "responses",
    httpx2,
    of_classes(openai.OpenAI, openai.AsyncOpenAI, "/v1"),
    ask_responses,
    lambda event: event.delta if event.type == "response.output_text.delta" else None,
    lambda event: event.type == "response.completed",
    lambda whole: whole.output_text,
    lambda whole: whole.usage.total_tokens,
    lambda event: event.response.usage.total_tokens if event.type == "response.completed" else None,
)
ANTHROPIC = Api(
    "anthropic",
    httpx2,
    of_classes(anthropic.Anthropic, anthropic.AsyncAnthropic),
    ask_messages,
    lambda event: event.delta.text if event.type == "content_block_delta" else None,
    lambda event: event.type == "message_delta",
    lambda whole: whole.content[0].text,
    lambda whole: whole.usage.output_tokens,
    lambda event: event.usage.output_tokens if event.type == "message_delta" else None,
)
GEMINI = Api(
    "gemini",
    httpx2,
    make_gemini,
    ask_gemini,
    lambda chunk: chunk.text,
    lambda chunk: chunk.candidates[0].finish_reason,
    lambda whole: whole.text,
    lambda whole: whole.usage_metadata.total_token_count,
    lambda chunk: chunk.usage_metadata and chunk.usage_metadata.total_token_count,
)
COHERE = Api(
    "cohere",
    httpx,
    make_cohere,
    ask_cohere,
    lambda event: event.delta.message.content.text if event.type == "content-delta" else None,
    lambda event: event.type == "message-end",
    lambda whole: whole.message.content[0].text,
    lambda whole: whole.usage.tokens.output_tokens,
    lambda event: event.delta.usage.tokens.output_tokens if event.type == "message-end" else None,
)
OLLAMA = Api(
    "ollama",
    httpx,
    make_ollama,
    ask_ollama,
    lambda chunk: chunk.message.content,
    lambda chunk: chunk.done,
    lambda whole: whole.message.content,
    lambda whole: whole.eval_count,
    lambda chunk: chunk.eval_count,
)
GROQ = chat_api("groq", httpx, of_classes(groq.Groq, groq.AsyncGroq))
TOGETHER = chat_api("together", httpx, of_classes(together.Together, together.AsyncTogether))


def _of_mistral(chunk: Any) -> Any:
    return chunk.data.choices[0]


MISTRAL = Api(
    "mistral",
    httpx2,
    make_mistral,
    ask_mistral,
    lambda event: _of_mistral(event).delta.content,
    lambda event: _of_mistral(event).finish_reason,
    lambda whole: whole.choices[0].message.content,
    lambda whole: whole.usage.total_tokens,
    lambda event: event.data.usage and event.data.usage.total_tokens,
)
APIS = (OPENAI, RESPONSES, ANTHROPIC, GEMINI, COHERE, OLLAMA)  #: one for each dialect
