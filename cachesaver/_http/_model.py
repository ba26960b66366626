"""HTTPModel: the model under HTTP requests. It sends each one on, and cuts what comes back into samples."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any, Self

from anyio import CapacityLimiter, from_thread, to_thread

from ._dialect import Body, ErrorEvent
from ._exchange import Exchange, Refused
from ._family import family_of
from ._frames import Frame
from ._samples import KEPT, samples

_NOT_SENT_ON = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}
    | {"x-cachesaver-namespace", "x-cachesaver-request-id"}
)
_CREDENTIALS = {"authorization": "Bearer {}", "api-key": "{}", "x-api-key": "{}", "x-goog-api-key": "{}"}
_NO_STREAM_OPTIONS = frozenset({"api.mistral.ai"})  # it refuses fields that it does not know
_CONNECTIONS = 1000
_THREADS = 64


class HTTPModel:
    """Sends HTTP requests on to where they were meant to go, for a stack that a `CachingTransport` asks.

        async with HTTPModel() as model, online(model, cache, limiter=limiter) as api:
            client = AsyncOpenAI(http_client=httpx2.AsyncClient(transport=CachingTransport(api)))

    *client*, of httpx or httpx2, sync or async, is what sends; it is closed at the end. By
    default there is one with the settings of the environment. A resource of a limiter
    is an API key, and takes the place of the request's own.
    """

    cache_scope = "http"

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self._clients: dict[str, Any] = {}
        self._threads: CapacityLimiter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        clients, self._clients = self._clients, {}
        for client in [*clients.values(), *([] if self._client is None else [self._client])]:
            if hasattr(client, "aclose"):
                await client.aclose()
            else:
                client.close()

    async def request(self, prompt: Any, n: int, resource: Any, origin: Any) -> list[Any]:
        """Up to *n* samples. Raises `Refused`, and the errors of httpx or httpx2."""
        if not isinstance(origin, Exchange):
            raise TypeError("an HTTPModel answers HTTP requests: ask through a CachingTransport over this stack")
        incoming = Incoming(origin, n)
        asked = _request(origin, n, None if resource is None else resource.data)
        client = self._client or self._client_of(origin.family)
        try:
            if hasattr(client, "aclose"):
                await _converse(client, asked, incoming)
            else:
                self._threads = self._threads or CapacityLimiter(_THREADS)
                await to_thread.run_sync(
                    _converse_in_thread, client, asked, incoming, abandon_on_cancel=True, limiter=self._threads
                )
        except family_of(client).RequestError as error:
            if isinstance(error, origin.family.RequestError):
                raise
            kind = getattr(origin.family, type(error).__name__)
            raise kind(str(error), request=origin.http) from error  # the one that the caller's SDK knows
        return incoming.samples()

    def _client_of(self, family: Any) -> Any:
        client = self._clients.get(family.__name__)
        if client is None:
            limits = family.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=100)
            client = family.AsyncClient(limits=limits, timeout=None, follow_redirects=True)
            self._clients[family.__name__] = client
        return client


class Incoming:
    """One answer of a server as it arrives."""

    def __init__(self, exchange: Exchange, n: int) -> None:
        self._exchange = exchange
        self._question = exchange.question
        self._n = n
        self._frames = self._question.dialect.frames()
        answers = n if self._question.answers == 1 else self._question.answers
        self._assembly = self._question.dialect.assembly(answers) if self._question.stream else None
        self._shown = self._foreign = False
        self._content = b""
        self._raw: list[bytes] = []
        self._response: Any = None

    def head(self, response: Any) -> bool:
        """The status and headers are there; whether the rest is to be taken piece by piece."""
        self._response = response
        kind = response.headers.get("content-type", "")
        return response.status_code == 200 and self._assembly is not None and not kind.startswith("application/json")

    def content(self, content: bytes) -> None:
        """All of the rest."""
        self._assembly = None
        self._content = content
        if self._response.status_code != 200:
            raise self._refused()

    def piece(self, data: bytes) -> None:
        """The next piece of a stream."""
        self._raw.append(data)
        self._take(self._frames.feed(data))

    def end(self) -> None:
        """The stream is over. Raises an error of httpx or httpx2 where the answer is not."""
        self._take(self._frames.end())
        assert self._assembly is not None
        if self._foreign:
            self._content = b"".join(self._raw)
            raise self._refused()
        if not self._assembly.ended:
            message = "the stream ended before the answer was complete; nothing of it was stored"
            raise self._exchange.family.RemoteProtocolError(message, request=self._exchange.http)

    @property
    def complete(self) -> bool:
        """Whether all that makes the answer is there."""
        return self._assembly is not None and self._assembly.ended and not self._foreign

    def samples(self) -> list[Any]:
        """What came, to be stored."""
        question = self._question
        if self._assembly is None:
            try:
                answer = json.loads(self._content)
            except ValueError:
                raise self._refused() from None
            if not question.dialect.is_answer(answer):
                raise self._refused()
            return samples(question, answer, self._response.headers)[: self._n]
        return samples(question, self._assembly.body(), self._response.headers, self._assembly.cuts())[: self._n]

    def _take(self, frames: list[Frame]) -> None:
        assert self._assembly is not None
        for frame in frames:
            try:
                if not self._foreign:
                    self._assembly.add(frame)
            except ErrorEvent:
                if self._shown:
                    self._exchange.show([frame], final=True)
                self._content = b"".join(self._raw)
                raise self._refused() from None
            except ValueError:  # something new in it: the caller gets it, and nothing can be stored
                self._foreign = True
            self._show(frame)

    def _show(self, frame: Frame) -> None:
        if not self._shown:
            if not self._exchange.streams(self._n):
                return
            self._shown = True
            kept = [(name, self._response.headers[name]) for name in KEPT if name in self._response.headers]
            self._exchange.start(kept)
        if not self._is_extra(frame):
            self._exchange.show([frame], final=self.complete)

    def _is_extra(self, frame: Frame) -> bool:
        """Whether it is there only because we asked for it."""
        return _adds_usage(self._exchange) and '"choices":[]' in frame.data.replace(" ", "")

    def _refused(self) -> Refused:
        response = self._response
        return Refused(response.status_code, response.headers.multi_items(), self._content)


async def _converse(client: Any, asked: Body, incoming: Incoming) -> None:
    response = await client.send(client.build_request(**asked), stream=True)
    try:
        if not incoming.head(response):
            incoming.content(await response.aread())
            return
        try:
            async for data in response.aiter_bytes():
                incoming.piece(data)
        except family_of(client).RequestError:
            if not incoming.complete:  # else what broke is no part of the answer
                raise
        incoming.end()
    finally:
        await response.aclose()


def _converse_in_thread(client: Any, asked: Body, incoming: Incoming) -> None:
    response = client.send(client.build_request(**asked), stream=True)
    try:
        if not incoming.head(response):
            incoming.content(response.read())
            return
        try:
            for data in response.iter_bytes():
                from_thread.run_sync(incoming.piece, data)
        except family_of(client).RequestError:
            if not incoming.complete:
                raise
        from_thread.run_sync(incoming.end)
    finally:
        response.close()


def _request(exchange: Exchange, n: int, key: Any) -> Body:
    """What to send for *n* samples, with *key* in place of the request's own."""
    http = exchange.http
    headers = [(name, value) for name, value in http.headers.multi_items() if name.lower() not in _NOT_SENT_ON]
    if key is not None:
        headers = [(name, _credential(name, value, key)) for name, value in headers]
    return {
        "method": http.method,
        "url": str(http.url),  # for a client of either family
        "headers": headers,
        "content": _content(exchange, n),
        "extensions": {name: value for name, value in http.extensions.items() if name == "timeout"},
    }


def _credential(name: str, value: str, key: Any) -> str:
    form = _CREDENTIALS.get(name.lower())
    return value if form is None else form.format(key)


def _content(exchange: Exchange, n: int) -> bytes:
    question = exchange.question
    body = question.body
    if question.answers == 1 and question.n != n:
        body = question.dialect.with_n(body, n)
    if _adds_usage(exchange):
        body = {**body, "stream_options": {**_stream_options(body), "include_usage": True}}
    return exchange.http.content if body is question.body else json.dumps(body, ensure_ascii=False).encode()


def _adds_usage(exchange: Exchange) -> bool:
    """Whether the stream is to tell its usage though the caller did not ask: a sample has it."""
    question = exchange.question
    if not (question.stream and question.dialect.usage_on_request) or exchange.http.url.host in _NO_STREAM_OPTIONS:
        return False
    return not _stream_options(question.body).get("include_usage")


def _stream_options(body: Body) -> Body:
    return body.get("stream_options") or {}
