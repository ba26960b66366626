"""What all drop-ins share: an HTTP client for the SDK, with a cache underneath."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, cast

from anyio import NoEventLoopError
from anyio.lowlevel import current_token

from .._cacher import Mode as Mode
from .._dispatcher import Dispatcher
from .._http._family import family_of
from .._http._transport import CachingTransport
from .._http._transport import Where as Where
from .._stage import Stage
from .._stats import Stats

CACHEDIR = ".cachesaver"  #: the folder of the cache, beside the program's other files, where none is named

Limiter = AbstractAsyncContextManager[Any]


def sync_client(kind: Any, given: Any, transport: CachingTransport, **settings: Any) -> Any:
    """A sync client over *transport*, of the family that *kind*, the SDK's own client class, belongs to."""
    family = family_of(kind if given is None else given)
    return family.Client(transport=transport, follow_redirects=True, **_settings_of(given), **settings)


def async_client(kind: Any, given: Any, transport: CachingTransport, **settings: Any) -> Any:
    """The same, async."""
    family = family_of(kind if given is None else given)
    return family.AsyncClient(transport=transport, follow_redirects=True, **_settings_of(given), **settings)


def _settings_of(given: Any) -> dict[str, Any]:
    """What a client of the user's puts into requests; all else it does when it sends them on."""
    if given is None:
        return {}
    return {name: getattr(given, name) for name in ("headers", "cookies", "params", "base_url", "timeout")}


def caches(client: Any) -> bool:
    """Whether *client* has a cache underneath already: a copy of a drop-in has its original's."""
    return isinstance(getattr(client, "_transport", None), CachingTransport)


def cached(
    make: Any,
    kind: Any,
    given: Any,
    cachedir: Where,
    limiter: Limiter | None,
    namespace: str | None,
    mode: Mode,
) -> Any:
    """The client for an SDK that takes one: *make* is `sync_client` or `async_client`, *given* the user's own."""
    if caches(given):
        return given
    return make(kind, given, CachingTransport(cachedir, limiter, namespace, mode=mode, client=given))


def one_layer_of_retries(options: dict[str, Any], cachedir: Where, limiter: Limiter | None) -> None:
    """Where a limiter asks again, the SDK does not: it would multiply the attempts, and knows nothing of other keys."""
    stages = cachedir.stages if isinstance(cachedir, Stage) else []
    if limiter is not None or any(isinstance(stage, Dispatcher) and stage.limiter for stage in stages):
        options.setdefault("max_retries", 0)


class Counted:
    """A client that tells what went through it."""

    _http_clients: tuple[Any, ...]  # over transports of ours

    @property
    def stats(self) -> Stats:
        """What was asked through this client: samples, hits, calls, tokens, dollars."""
        transports: dict[CachingTransport, None] = dict.fromkeys(http._transport for http in self._http_clients)
        return sum((transport.stats for transport in transports), Stats())


class DropIn(Counted):
    """The constructor of an SDK's client class that takes an `http_client`: it gets one with a cache underneath.

    *cachedir* is a folder, an open `Cache`, or an entered stack over an `HTTPModel`;
    *namespace* that of requests outside every `with namespace(...)`; *limiter* lends
    API keys, and asks again in place of the SDK; *mode* is that of the `Cacher`. All
    else is the SDK's own.
    """

    http_kind: ClassVar[Any]  #: the SDK's own class of HTTP clients
    make_http: ClassVar[Any]  #: `sync_client` or `async_client`

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
        client = cached(self.make_http, self.http_kind, http_client, cachedir, limiter, namespace, mode)
        one_layer_of_retries(options, cachedir, limiter)
        self._http_clients = (client,)
        cast("Any", super()).__init__(http_client=client, **options)


class SyncDropIn(DropIn):
    """For a sync client."""

    make_http = staticmethod(sync_client)


class AsyncDropIn(DropIn):
    """For an async client."""

    make_http = staticmethod(async_client)


def pair(
    family: Any,
    given: Any,
    given_async: Any,
    cachedir: Where,
    limiter: Limiter | None,
    namespace: str | None,
    mode: Mode,
    **settings: Any,
) -> tuple[Any, Any]:
    """A sync and an async client for an SDK that takes both; one run, unless the user gave clients of their own."""
    if given is None and given_async is None:
        shared = CachingTransport(cachedir, limiter, namespace, mode=mode)
        return sync_client(family.Client, None, shared, **settings), async_client(
            family.AsyncClient, None, shared, **settings
        )
    return (
        cached(sync_client, family.Client, given, cachedir, limiter, namespace, mode),
        cached(async_client, family.AsyncClient, given_async, cachedir, limiter, namespace, mode),
    )


def missing(sdk: str, extra: str) -> str:
    """What to say where an SDK is not installed."""
    return f"cachesaver.models.{extra} needs the SDK {sdk}: pip install 'cachesaver[{extra}]'"


def on_trio() -> bool:
    """Whether this runs in trio, where an SDK that waits through asyncio cannot."""
    try:
        backend: Any = current_token().backend_class
    except NoEventLoopError:
        return False
    return "trio" in backend.__module__
