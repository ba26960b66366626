"""Together's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from typing import Any

from ._drop_in import CACHEDIR, Limiter, Mode, Where, async_client, cached, missing, sync_client

try:
    import together
except ImportError as error:
    raise ImportError(missing("together", "together")) from error


class Together(together.Together):
    """`together.Together`, and what it asks a model for is cached.

    *cachedir* is a folder, an open `Cache`, or an entered stack over an `HTTPModel`;
    *namespace* that of requests outside every `with namespace(...)`; *limiter* lends
    API keys; *mode* is that of the `Cacher`. All else is the SDK's own.
    """

    def __init__(
        self,
        *,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        http_client: Any = None,
        **options: Any,
    ) -> None:
        kind = together.DefaultHttpxClient
        client = cached(sync_client, kind, http_client, cachedir, limiter, namespace, mode)
        super().__init__(http_client=client, **options)


class AsyncTogether(together.AsyncTogether):
    """`together.AsyncTogether`, on asyncio and on trio, and what it asks a model for is cached; see `Together`."""

    def __init__(
        self,
        *,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        http_client: Any = None,
        **options: Any,
    ) -> None:
        kind = together.DefaultAsyncHttpxClient
        client = cached(async_client, kind, http_client, cachedir, limiter, namespace, mode)
        super().__init__(http_client=client, **options)
