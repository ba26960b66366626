"""Mistral's SDK, with a cache underneath: change the import and nothing else.

Its async methods run on asyncio only, whatever is underneath.
"""

from __future__ import annotations

from typing import Any, cast

from ._drop_in import CACHEDIR, Counted, Limiter, Mode, Where, missing, on_trio, pair

try:
    from mistralai.client import Mistral as _Mistral
except ImportError as error:
    raise ImportError(missing("mistralai", "mistral")) from error

ON_TRIO = (
    "Mistral's SDK waits through asyncio in every async call, so it cannot run on trio. Its server speaks OpenAI's"
    " API as well: use cachesaver.models.openai.AsyncOpenAI(base_url='https://api.mistral.ai/v1', api_key=...)"
)


class Mistral(Counted, _Mistral):
    """`mistralai.client.Mistral`, and what it asks a model for is cached.

    *cachedir* is a folder, an open `Cache`, or an entered stack over an `HTTPModel`;
    *namespace* that of requests outside every `with namespace(...)`; *limiter* lends
    API keys; *mode* is that of the `Cacher`. All else is the SDK's own.
    """

    def __init__(
        self,
        *args: Any,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        client: Any = None,
        async_client: Any = None,
        **options: Any,
    ) -> None:
        import httpx2

        ours, ours_async = pair(httpx2, client, async_client, cachedir, limiter, namespace, mode)
        refuse_trio(ours_async)
        self._http_clients = ours, ours_async
        super().__init__(*args, client=ours, async_client=ours_async, **options)

    def __exit__(self, *exc_info: Any) -> None:
        cast("Any", super()).__exit__(*exc_info)
        self._http_clients[0].close()  # the SDK leaves a client that it was given open

    async def __aexit__(self, *exc_info: Any) -> None:
        await cast("Any", super()).__aexit__(*exc_info)
        await self._http_clients[1].aclose()


def refuse_trio(client: Any) -> None:
    """Have *client* say what is wrong before the SDK does something else."""
    build_request = client.build_request

    def build_on_asyncio(*args: Any, **options: Any) -> Any:
        if on_trio():
            raise RuntimeError(ON_TRIO)
        return build_request(*args, **options)

    client.build_request = build_on_asyncio


AsyncMistral = Mistral  #: the SDK has one class for both
