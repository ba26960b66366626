"""CachingTransport: the door for HTTP requests to a stack, sync and async, under httpx and httpx2."""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from threading import Lock, local
from types import TracebackType
from typing import Any, Self

from anyio.lowlevel import checkpoint

from .._cache import Cache
from .._cacher import Cacher, Mode
from .._dispatcher import Dispatcher
from .._errors import CacheSaverError
from .._labels import check_label, context_namespace, current_request_id
from .._stage import Stage
from .._stats import Stats
from .._threads import completed
from ._endpoint import VERSIONS, question
from ._entered import ask, ask_from_thread
from ._exchange import Exchange
from ._home import Home
from ._model import HTTPModel
from ._passing import Passing
from ._reply import refusal, reply

_NAMESPACE, _REQUEST_ID = b"x-cachesaver-namespace", b"x-cachesaver-request-id"
_VERSIONS = tuple(name.encode() for name in VERSIONS)
_TOLD = frozenset({_NAMESPACE, _REQUEST_ID, *_VERSIONS})

Where = str | os.PathLike[str] | Cache | Stage


class Line(local):
    """How many tasks of this thread's event loop wait for an answer.

    While some do, the next is not answered at once, or it would be back sooner than those that
    came before it, and order of arrival would be a matter of microseconds.
    """

    def __init__(self) -> None:
        self.waiting = 0

    def __enter__(self) -> None:
        self.waiting += 1

    def __exit__(self, *_: object) -> None:
        self.waiting -= 1


class CachingTransport:
    """Answers what asks a model for samples out of a stack, and passes on everything else untouched.

        client = OpenAI(http_client=httpx2.Client(transport=CachingTransport("cache_dir")))

    One object serves sync and async clients of httpx and httpx2. *cache* is a folder, an
    open `Cache`, or an entered stack over an `HTTPModel`; unless it is a stack, the
    transport keeps one in a thread of its own, from its first request to `close()`
    or the end of the program. *limiter* lends API keys. *namespace* is that of requests
    outside every `with namespace(...)`. *mode* is that of the `Cacher`. *client*, of
    httpx or httpx2, is what sends requests on.

    A request is labelled by the context it is made in, or by its headers
    `x-cachesaver-namespace` and `x-cachesaver-request-id`, which are not sent on. Its
    answer says in the header `x-cachesaver` what it was: "hit; position=3".
    """

    def __init__(
        self,
        cache: Where,
        limiter: AbstractAsyncContextManager[Any] | None = None,
        namespace: str | None = None,
        *,
        mode: Mode = "reuse",
        client: Any = None,
    ) -> None:
        if namespace is not None:
            check_label("namespace", namespace)
        self._namespace = namespace
        self._stage = cache if isinstance(cache, Stage) else None
        if self._stage is not None and (limiter is not None or mode != "reuse" or client is not None):
            raise TypeError(
                "limiter, mode and client belong to the stack that you give: Dispatcher(HTTPModel(client), limiter)"
            )
        self._passing = Passing(client)
        self._stack = None if isinstance(cache, Stage) else partial(own_stack, cache, limiter, mode, client)
        self._home: Home | None = None
        self._past = Stats()  # of homes that were closed
        self._ending: weakref.finalize[..., Self] | None = None
        self._lock = Lock()
        self._line = Line()
        self._process = os.getpid()

    def handle_request(self, request: Any) -> Any:
        """The response of a sync client."""
        request.read()
        exchange = self._exchange(request)
        if exchange is None:
            return self._passing.send(request)
        try:
            if self._stage is not None:
                return ask_from_thread(self._stage, exchange)
            home, ready = self._hand_over(exchange)
            try:
                ready.result()
                return reply(exchange)
            except BaseException:
                home.leave(exchange)
                raise
        except CacheSaverError as error:
            return refusal(exchange, error)

    async def handle_async_request(self, request: Any) -> Any:
        """The response of an async client."""
        await request.aread()
        exchange = self._exchange(request)
        if exchange is None:
            return await self._passing.send_async(request, self._open_home)
        try:
            if self._stage is not None:
                return await ask(self._stage, exchange)
            await checkpoint()  # a turn for everybody, as in `Cacher.submit`
            home, ready = self._hand_over(exchange, in_line=self._line.waiting > 0)
            try:
                if not ready.done():
                    with self._line:
                        await completed(ready)
                return reply(exchange)
            except BaseException:
                home.leave(exchange)
                raise
        except CacheSaverError as error:
            return refusal(exchange, error)

    @property
    def stats(self) -> Stats:
        """What was asked through this transport, or of the stack that it was given: samples, calls, tokens, dollars."""
        if self._stage is not None:
            return self._stage.stats
        return self._past if self._home is None else self._past + self._home.stats

    def close(self) -> None:
        """End the run: everything asked is answered and stored. A request after it begins a new run."""
        home = self._leave_home()
        if home is not None:
            home.close()
            self._past += home.stats
        self._passing.close()

    async def aclose(self) -> None:
        """The same, for an async client."""
        home = self._leave_home()
        if home is not None and home.mine:
            home.begin_close()
            await completed(home.ended)
            self._past += home.stats
        self._passing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _leave_home(self) -> Home | None:
        home, self._home = self._home, None
        return home

    def _exchange(self, request: Any) -> Exchange | None:
        """*request* as one for the stack; None if it is not a generation."""
        headers = request.headers
        told = {name: value.decode() for key, value in headers.raw if (name := key.lower()) in _TOLD}
        namespace = headers.pop(_NAMESPACE.decode()) if _NAMESPACE in told else None
        request_id = headers.pop(_REQUEST_ID.decode()) if _REQUEST_ID in told else None
        if request.method != "POST":
            return None
        url = request.url
        versions = tuple(map(told.get, _VERSIONS))
        asked = question(url.netloc.decode("ascii"), url.raw_path.decode("ascii"), versions, request.content)
        if asked is None:
            return None
        namespace = namespace or context_namespace() or self._namespace or "default"
        return Exchange(request, asked, namespace, request_id or current_request_id())

    def _hand_over(self, exchange: Exchange, *, in_line: bool = False) -> tuple[Home, Future[None]]:
        ready: Future[None] = Future()
        exchange.when_ready = lambda: ready.set_result(None)
        home = self._open_home()
        home.submit(exchange, in_line=in_line)
        return home, ready

    def _open_home(self) -> Home:
        home = self._home
        if home is not None and home.open:
            return home
        if self._process != os.getpid():  # a fork: whoever held the lock is not here to release it
            self._process, self._lock = os.getpid(), Lock()
        with self._lock:
            home = self._home
            if home is None or not home.open:
                assert self._stack is not None
                home = self._home = Home(self._stack)
                if self._ending is not None:
                    self._ending.detach()  # it would keep the last one in memory
                self._ending = weakref.finalize(self, home.begin_close)
                self._ending.atexit = False  # there Home itself does more
            return home


@asynccontextmanager
async def own_stack(
    where: str | os.PathLike[str] | Cache, limiter: AbstractAsyncContextManager[Any] | None, mode: Mode, client: Any
) -> AsyncGenerator[Cacher]:
    """The stack that a transport keeps: a Cacher over the model, so that a hit takes the shortest way."""
    async with HTTPModel(client) as model:
        with nullcontext(where) if isinstance(where, Cache) else Cache(where) as cache:
            async with Cacher(Dispatcher(model, limiter), cache, mode=mode) as stage:
                yield stage
