"""Cohere's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from typing import Any, cast

from ._drop_in import (
    CACHEDIR,
    Counted,
    Limiter,
    Mode,
    Where,
    async_client,
    cached,
    missing,
    on_trio,
    one_layer_of_retries,
    sync_client,
)

try:
    import cohere
    import httpx
except ImportError as error:
    raise ImportError(missing("cohere", "cohere")) from error

TIMEOUT = 300.0  #: seconds; the SDK's own default, which it drops where it is given a client
ON_TRIO = (
    "Cohere's SDK waits through asyncio before it tries again, so on trio it cannot; the server was busy or failed."
    " Give the client max_retries=0, or the call request_options={'max_retries': 0}: then you get the SDK's own error"
)


class _Sync(Counted):
    """What the sync clients have in common."""

    def __init__(
        self,
        *args: Any,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        httpx_client: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        client = cached(sync_client, httpx.Client, httpx_client, cachedir, limiter, namespace, mode)
        if httpx_client is None and timeout is None:
            timeout = TIMEOUT
        one_layer_of_retries(options, cachedir, limiter)
        self._http_clients = (client,)
        cast("Any", super()).__init__(*args, httpx_client=client, timeout=timeout, **options)


class _Async(Counted):
    """What the async clients have in common."""

    def __init__(
        self,
        *args: Any,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        httpx_client: Any = None,
        timeout: float | None = None,
        **options: Any,
    ) -> None:
        client = cached(async_client, httpx.AsyncClient, httpx_client, cachedir, limiter, namespace, mode)
        if httpx_client is None and timeout is None:
            timeout = TIMEOUT
        one_layer_of_retries(options, cachedir, limiter)
        self._http_clients = (client,)
        cast("Any", super()).__init__(*args, httpx_client=client, timeout=timeout, **options)
        explain_trio(self)


class Client(_Sync, cohere.Client):
    """`cohere.Client`, and what it asks a model for is cached.

    *cachedir* is a folder, an open `Cache`, or an entered stack over an `HTTPModel`;
    *namespace* that of requests outside every `with namespace(...)`; *limiter* lends
    API keys; *mode* is that of the `Cacher`. All else is the SDK's own.
    """


class ClientV2(_Sync, cohere.ClientV2):
    """`cohere.ClientV2`, and what it asks a model for is cached; see `Client`."""


class AsyncClient(_Async, cohere.AsyncClient):
    """`cohere.AsyncClient`, and what it asks a model for is cached; see `Client`."""


class AsyncClientV2(_Async, cohere.AsyncClientV2):
    """`cohere.AsyncClientV2`, and what it asks a model for is cached; see `Client`."""


def explain_trio(client: Any) -> None:
    """Have *client* say on trio why it cannot try again."""
    http = client._client_wrapper.httpx_client
    request = http.request

    async def explained(*args: Any, **options: Any) -> Any:
        try:
            return await request(*args, **options)
        except RuntimeError as error:
            if on_trio():
                raise RuntimeError(ON_TRIO) from error
            raise

    http.request = explained


Cohere, AsyncCohere = ClientV2, AsyncClientV2
