"""HTTPModel: the model under HTTP requests. It sends each one on, and cuts what comes back into samples."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from anyio import CapacityLimiter, from_thread, to_thread

from .._limits._resource import Resource
from ._dialect import Body
from ._exchange import Exchange, Refused
from ._family import family_of, trust_of
from ._incoming import Incoming
from ._outgoing import outgoing

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
        asked = outgoing(origin, n, None if resource is None else resource.data)
        client = self._client or self._client_of(origin.family)
        try:
            if hasattr(client, "aclose"):
                await _converse(client, asked, incoming, resource)
            else:
                self._threads = self._threads or CapacityLimiter(_THREADS)
                await to_thread.run_sync(
                    _converse_in_thread,
                    client,
                    asked,
                    incoming,
                    resource,
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
        except Refused as refused:
            refused.final = resource is not None
            raise
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
            trust = trust_of(family)
            client = family.AsyncClient(verify=trust, limits=limits, timeout=None, follow_redirects=True)
            self._clients[family.__name__] = client
        return client


async def _converse(client: Any, asked: Body, incoming: Incoming, resource: Any) -> None:
    response = await client.send(client.build_request(**asked), stream=True)
    try:
        _hear(resource, response)
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


def _converse_in_thread(client: Any, asked: Body, incoming: Incoming, resource: Any) -> None:
    response = client.send(client.build_request(**asked), stream=True)
    try:
        _hear(resource, response)
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


def _hear(resource: Any, response: Any) -> None:
    """Tell *resource*, if it is one of ours, what the server says of limits."""
    if isinstance(resource, Resource) and response.status_code == 200:  # of an error it is read with the rest
        resource.announced(response.headers)
