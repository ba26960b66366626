"""Ollama's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from typing import Any, cast

from .._http._transport import CachingTransport
from ._drop_in import CACHEDIR, Counted, Limiter, Mode, Where, missing

try:
    import httpx
    import ollama
except ImportError as error:
    raise ImportError(missing("ollama", "ollama")) from error


class Client(Counted, ollama.Client):
    """`ollama.Client`, and what it asks a model for is cached.

    *cachedir* is a folder, an open `Cache`, or an entered stack over an `HTTPModel`;
    *namespace* that of requests outside every `with namespace(...)`; *limiter* lends
    API keys; *mode* is that of the `Cacher`. All else is the SDK's own.
    """

    def __init__(
        self,
        host: str | None = None,
        *,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        transport: Any = None,
        **options: Any,
    ) -> None:
        client = None if transport is None else httpx.Client(transport=transport)
        ours = CachingTransport(cachedir, limiter, namespace, mode=mode, client=client)
        cast("Any", super()).__init__(host, transport=ours, **options)
        self._http_clients = (cast("Any", self)._client,)


class AsyncClient(Counted, ollama.AsyncClient):
    """`ollama.AsyncClient`, on asyncio and on trio, and what it asks a model for is cached; see `Client`."""

    def __init__(
        self,
        host: str | None = None,
        *,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        transport: Any = None,
        **options: Any,
    ) -> None:
        client = None if transport is None else httpx.AsyncClient(transport=transport)
        ours = CachingTransport(cachedir, limiter, namespace, mode=mode, client=client)
        cast("Any", super()).__init__(host, transport=ours, **options)
        self._http_clients = (cast("Any", self)._client,)


Ollama, AsyncOllama = Client, AsyncClient
