"""Hugging Face's inference client, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any, cast

from ._drop_in import CACHEDIR, Counted, Limiter, Mode, Where, async_client, cached, missing, on_trio, sync_client

try:
    import httpx2
    import huggingface_hub
except ImportError as error:
    raise ImportError(missing("huggingface_hub", "huggingface")) from error


ON_TRIO = (
    "Hugging Face's SDK reads the answer of text_generation in a thread of asyncio, so on trio it cannot. Nothing was"
    " sent. Use chat_completion, or InferenceClient(...).text_generation in trio.to_thread.run_sync"
)


class InferenceClient(Counted, huggingface_hub.InferenceClient):
    """`huggingface_hub.InferenceClient`, and what it asks a model for is cached.

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
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        client = cached(sync_client, httpx2.Client, None, cachedir, limiter, namespace, mode)
        self._http_clients = (client,)
        self.exit_stack.callback(client.close)
        self._inner_post = MethodType(_with_session(huggingface_hub.InferenceClient._inner_post, client), self)


class AsyncInferenceClient(Counted, huggingface_hub.AsyncInferenceClient):
    """`huggingface_hub.AsyncInferenceClient`, on asyncio and on trio, and what it asks a model for is cached."""

    def __init__(
        self,
        *args: Any,
        cachedir: Where = CACHEDIR,
        namespace: str | None = None,
        limiter: Limiter | None = None,
        mode: Mode = "reuse",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        client = cached(async_client, httpx2.AsyncClient, None, cachedir, limiter, namespace, mode)
        self._http_clients = (client,)
        self._async_client = client
        self.exit_stack.push_async_callback(client.aclose)

    async def text_generation(self, *args: Any, **options: Any) -> Any:  # pyright: ignore (the SDK overloads it)
        if on_trio():
            raise RuntimeError(ON_TRIO)
        return await cast("Any", super()).text_generation(*args, **options)


def _with_session(method: Any, client: Any) -> Any:
    """The SDK's own *method* with *client* in the place of the session that all of the SDK shares."""
    names = {**method.__globals__, "get_session": lambda: client}
    ours = FunctionType(method.__code__, names, method.__name__, method.__defaults__, method.__closure__)
    ours.__kwdefaults__ = method.__kwdefaults__
    return ours


HuggingFace, AsyncHuggingFace = InferenceClient, AsyncInferenceClient
