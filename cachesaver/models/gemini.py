"""Google's SDK, google-genai, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from typing import Any, cast

from ._drop_in import CACHEDIR, Counted, Limiter, Mode, Where, missing, pair

try:
    import httpx2
    from google import genai
    from google.genai.client import AsyncClient as _AsyncClient
    from google.genai.types import HttpOptions
except ImportError as error:
    raise ImportError(missing("google-genai", "gemini")) from error


class Client(Counted, genai.Client):
    """`google.genai.Client`, and what it asks a model for is cached, through `aio` on trio as well.

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
        http_options: Any = None,
        **options: Any,
    ) -> None:
        http = HttpOptions.model_validate(http_options or {})
        ours, ours_async = pair(
            httpx2, http.httpx_client, http.httpx_async_client, cachedir, limiter, namespace, mode, timeout=None
        )
        http = http.model_copy(update={"httpx_client": ours, "httpx_async_client": ours_async})
        self._http_clients = ours, ours_async
        cast("Any", super()).__init__(http_options=http, **options)
        self._async = AsyncGemini(self)

    @property
    def aio(self) -> AsyncGemini:
        """The async client; one run with this one."""
        return self._async

    def close(self) -> None:
        """Close this client; the SDK leaves one that it was given open."""
        super().close()
        self._http_clients[0].close()

    def __del__(self) -> None:
        pass  # the SDK's would wait for what is in flight, in whichever thread collects garbage


class AsyncGemini(Counted, _AsyncClient):
    """`google.genai.Client(...).aio`, made with the arguments of `Gemini`."""

    def __init__(self, client: Client | None = None, **options: Any) -> None:
        client = client or Client(**options)
        super().__init__(client._api_client)  # pyright: ignore[reportPrivateUsage] (as the SDK makes it)
        self._http_clients = client._http_clients

    @property
    def aio(self) -> AsyncGemini:
        """Itself, for code that was written for `Gemini`."""
        return self

    async def aclose(self) -> None:
        """Close this client; the SDK leaves one that it was given open."""
        await super().aclose()
        await self._http_clients[1].aclose()


Gemini = Client
