"""Chat completions of OpenAI's API, and of the many servers that speak it, through a stack of ours."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any, Self, cast

from anyio import AsyncContextManagerMixin
from openai import AsyncAzureOpenAI, AsyncOpenAI
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion

from .._batcher import Batcher
from .._cache import Cache
from .._cacher import Mode
from .._http._endpoint import prompt_within
from .._http._endpoint import scope_of as _scope_of
from .._http._samples import without_aside
from .._limits._resource import Resource
from .._presets import online
from .._prompt import Prompt
from .._request import REJECTED, Response
from .._stats import Stats
from ._completions import join, split

# What the SDK takes beside a prompt, and where it belongs instead.
_ELSEWHERE = {
    "extra_headers": "give it to the client: AsyncOpenAI(default_headers=...)",
    "extra_query": "give it to the client: AsyncOpenAI(default_query=...)",
    "timeout": "give it to the client: AsyncOpenAI(timeout=...)",
}


class AsyncCachedOpenAIAPI(AsyncContextManagerMixin):
    """Chat completions through the `online` stack: repeated prompts get new samples, run again they are free.

        async with AsyncCachedOpenAIAPI(aclient=AsyncOpenAI(), cache=cache) as api:
            completion = await api.create_chat_completion({"model": "gpt-4.1-nano", "messages": [...]})

    A *limiter* lends API keys: each call travels with the key it was lent, and is asked
    again in place of the SDK; the client stays as it is. *scope* names the server in the cache; it defaults to the
    host and path that the client talks to. *mode* is that of the `Cacher`.
    """

    def __init__(
        self,
        aclient: AsyncOpenAI,
        cache: Cache,
        limiter: AbstractAsyncContextManager[Any] | None = None,
        *,
        scope: str | None = None,
        mode: Mode = "reuse",
    ) -> None:
        # Where a limiter asks again, the SDK does not.
        self._model = _ChatModel(aclient if limiter is None else aclient.with_options(max_retries=0))
        self.batcher: Batcher = online(self._model, cache, scope=scope, mode=mode, limiter=limiter)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with self.batcher:
            yield self

    async def create_chat_completion(
        self, body: dict[str, Any], request_id: str | None = None, namespace: str | None = None
    ) -> ChatCompletion:
        """The SDK's completion, with `body["n"]` choices, each of them a sample.

        *body* is what `client.chat.completions.create` takes. Raises the SDK's own
        errors, and ValueError for what is no part of a prompt, a stream for instance.
        """
        bare, n = prompt_of(body)
        response = await self._ask(bare, 1 if n is None else n, namespace, request_id)
        return ChatCompletion.construct(**join(response.data))

    async def request(
        self, prompt: dict[str, Any], n: int = 1, namespace: str | None = None, request_id: str | None = None
    ) -> Response:
        """Ask for *n* samples, each a completion of one choice as plain JSON."""
        bare, given = prompt_of(prompt)
        if given is not None and given != n:
            raise ValueError(f"the prompt asks for n={given!r} and the call for n={n!r}: give it once, as an argument")
        return await self._ask(bare, n, namespace, request_id)

    async def reject(self, response: Response, reason: str = REJECTED, *, which: Sequence[int] | None = None) -> None:
        """Mark samples of a response of `request`, so that nobody gets them any more; as `Stage.reject`."""
        asked = replace(response.request, prompt=_keyed(response.request.prompt))
        await self.batcher.reject(replace(response, request=asked), reason, which=which)

    async def _ask(self, bare: dict[str, Any], n: int, namespace: str | None, request_id: str | None) -> Response:
        response = await self.batcher.request(_keyed(bare), n, namespace, request_id)
        samples = tuple(replace(sample, value=without_aside(sample.value)) for sample in response.samples)
        return replace(response, request=replace(response.request, prompt=bare), samples=samples)

    @property
    def stats(self) -> Stats:
        """What was asked, reused and bought in this run."""
        return self.batcher.stats

    @property
    def usages(self) -> list[CompletionUsage | None]:
        """What the server charged for each API request, in the order of its answers."""
        return self._model.usages


def _keyed(bare: dict[str, Any]) -> Prompt:
    """The same prompt as under the SDKs' own classes: what does not change the answer is sent, and no part of it."""
    whole: dict[str, Any] = Prompt(bare).fresh()
    extra: dict[str, Any] = whole.get("extra_body") or {}
    sent = {name: value for name, value in whole.items() if name != "extra_body"} | extra
    return Prompt(prompt_within(sent), origin=whole, owned=True)


class _ChatModel:
    """The model under the stack: one API request a call."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self.usages: list[CompletionUsage | None] = []
        self.cache_scope = scope_of(client)
        self._client = client
        self._key_header = "{}" if isinstance(client, AsyncAzureOpenAI) else "Bearer {}"
        self._key_name = "api-key" if isinstance(client, AsyncAzureOpenAI) else "Authorization"

    async def request(self, prompt: Any, n: int, resource: Any, origin: dict[str, Any]) -> Sequence[dict[str, Any]]:
        create = cast("Any", self._client.chat.completions.with_raw_response.create)
        asked = {**origin, "n": n} if n > 1 else origin
        response = await create(**asked, extra_headers=self._headers(resource))
        if isinstance(resource, Resource):
            resource.announced(response.headers)
        completion: ChatCompletion = response.parse()
        self.usages.append(completion.usage)
        return split(completion.to_dict(mode="json"))

    def _headers(self, resource: Any) -> dict[str, str] | None:
        # Never set on the client, which all requests in flight share (L3).
        key = None if resource is None else resource.data
        if key is None:
            return None
        if not isinstance(key, str):
            raise TypeError(f"the resources of this limiter must be API keys, strings, not {type(key).__name__}")
        return {self._key_name: self._key_header.format(key)}


def scope_of(client: AsyncOpenAI) -> str:
    """Host and path of the endpoint: what names the server in a cache, without credentials."""
    url = client.base_url
    host = url.netloc.decode("ascii")
    return _scope_of(host, f"{url.path.rstrip('/')}/chat/completions")


def prompt_of(body: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """What of *body* is prompt, and its `n`. Raises TypeError or ValueError for what cannot be cached."""
    if not isinstance(body, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a prompt must be a dict of `model` and `messages`, not {type(body).__name__}")
    if missing := {"model", "messages"} - body.keys():
        raise ValueError(f"a prompt needs {' and '.join(sorted(missing))}")
    if body.get("stream"):
        raise ValueError("create_chat_completion does not stream: leave `stream` out")
    for name, remedy in _ELSEWHERE.items():
        if name in body:
            raise ValueError(f"{name} is no part of a prompt: {remedy}")
    return {name: value for name, value in body.items() if name not in ("n", "stream")}, body.get("n")
