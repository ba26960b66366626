"""Home: a stack in a thread of its own, which callers in any thread or event loop can ask."""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from threading import Lock, RLock, Thread
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakSet

import anyio
from anyio import Event, from_thread
from anyio.lowlevel import current_token

from .._cacher import Cacher
from .._errors import Closed
from .._stage import Stage
from .._stats import Stats
from .._threads import AT_ONCE, unbroken, waker
from .._ticket import Ticket
from ._exchange import Exchange
from ._sleeper import debugs, sleeping_loop

AT_EXIT = 30.0  #: seconds that the end of the program waits for answers that are paid for and nobody reads any more

TOO_LATE = "this client was closed before the request was answered; make a new one to ask again"

T = TypeVar("T")
Stack = Callable[[], AbstractAsyncContextManager[Cacher]]


class Home:
    """The thread, its event loop and the stack in it, from its first use until it is closed.

    What callers hand over is drained when it is closed: everything accepted is
    answered and stored.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._inbox: deque[Exchange | Callable[[], None]] = deque()
        self._lock = RLock()  # the garbage collector may close it anywhere
        self._kick: Callable[[], None] = lambda: None
        self._waiting: list[Ticket] = []  # for the stack's inbox
        self._closing = False
        self._abort: Callable[[], None] = lambda: None
        self._process = os.getpid()
        self._asleep = Lock()  # held by the loop but while it sleeps
        self._stage: Cacher | None = None
        self._counted: Cacher | None = None
        self._started: Future[None] = Future()
        self.ended: Future[None] = Future()  #: everything is stored
        self._thread = Thread(target=self._live, name="cachesaver-http", daemon=True)
        self._thread.start()
        try:
            self._started.result()
        except BaseException:  # interrupted, perhaps: nobody will ask it
            self.begin_close()
            raise
        _homes.add(self)

    @property
    def stats(self) -> Stats:
        """What its stack did."""
        return Stats() if self._counted is None else self._counted.stats

    @property
    def mine(self) -> bool:
        """Whether this is not the other side of a fork."""
        return self._process == os.getpid()

    @property
    def open(self) -> bool:
        """Whether it takes requests."""
        return self.mine and not self._closing

    def submit(self, exchange: Exchange, *, in_line: bool = False) -> None:
        """Hand *exchange* over; it will be ready some time, or, unless *in_line*, at once. Raises `Closed`."""
        unbroken(self._put if in_line else self._submit, exchange)

    def _submit(self, exchange: Exchange) -> None:
        if self._asleep.acquire(timeout=AT_ONCE):
            try:
                if self._take_over(exchange):
                    return
            finally:
                self._asleep.release()
        self._put(exchange)

    def _take_over(self, exchange: Exchange) -> bool:
        """Serve *exchange* in the caller's thread, while the loop sleeps; False if others are in line."""
        stage = self._stage
        if stage is None or self._closing or self._inbox or self._waiting:
            return False
        ticket = exchange.open(stage)
        try:
            if not stage.submit_at_once([ticket]):
                self._waiting.append(ticket)
                self._arrived.set()
        finally:
            if not ticket.answered or stage.unfinished:
                self._kick()  # there is work for the loop
        return True

    def leave(self, exchange: Exchange) -> None:
        """The caller of *exchange* went away."""
        with suppress(Closed):  # then it is drained, and was answered
            unbroken(self._put, exchange.leave)

    def close(self, patience: float | None = None) -> None:
        """Drain and stop, for at most *patience* seconds; what is not answered by then is cut off."""
        self.begin_close()
        if not self.mine:
            return
        try:
            self._thread.join(patience)
        finally:
            if self._thread.is_alive():
                self._abort()
                self._thread.join(Stage.grace * 2)

    def begin_close(self) -> None:
        """Take nothing more, and stop when all is answered."""
        if not self.mine:
            return  # the thread is the parent's, and so may the lock be
        with self._lock:
            self._closing = True
            self._kick()

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run *function* in the event loop, from any other thread."""
        return from_thread.run(function, token=self._token)

    def _put(self, item: Exchange | Callable[[], None]) -> None:
        with self._lock:
            if self._closing:
                raise Closed("this client was closed; make a new one to ask again")
            idle = not self._inbox
            self._inbox.append(item)
            if idle:
                self._kick()

    def _live(self) -> None:
        try:
            with self._asleep:
                anyio.run(self._run, backend_options={"loop_factory": partial(sleeping_loop, self._asleep)})
        except BaseException as error:
            if self._started.done():
                raise  # a bug, which the thread's excepthook tells
            self._started.set_exception(error)
        finally:
            with self._asleep:  # nobody takes over what nobody would go on with
                self._stage = None
            self.begin_close()
            for item in self._inbox:
                if isinstance(item, Exchange):
                    item.refuse(Closed(TOO_LATE))
            for ticket in self._waiting:
                ticket.fail(Closed(TOO_LATE))
            self.ended.set_result(None)

    async def _run(self) -> None:
        wake = waker()
        with anyio.CancelScope() as scope:
            async with self._stack() as stage:
                self._arrived = Event()
                self._kick = lambda: wake(lambda: self._take_in(stage))
                self._abort = lambda: wake(scope.cancel)
                self._token = current_token()
                self._stage = None if debugs(self._token) else stage
                self._counted = stage
                self._started.set_result(None)
                while not self._closing or self._inbox or self._waiting:
                    await self._arrived.wait()
                    self._arrived = Event()
                    while waiting := list(self._waiting):
                        await stage.submit(waiting)
                        del self._waiting[: len(waiting)]  # not before: who comes meanwhile is behind them

    def _take_in(self, stage: Cacher) -> None:
        """Called by the event loop: take what came in. What is in the cache is answered here and now."""
        with self._lock:
            items = list(self._inbox)
            self._inbox.clear()
        tickets: list[Ticket] = []
        for item in items:
            if isinstance(item, Exchange):
                tickets.append(item.open(stage))
            else:
                item()
        try:
            if self._closing or (tickets and (self._waiting or not stage.submit_at_once(tickets))):
                self._waiting += tickets
                self._arrived.set()
        except Exception as error:  # a bug
            for ticket in tickets:
                ticket.fail(error)
            raise


_homes: WeakSet[Home] = WeakSet()


@atexit.register
def _drain() -> None:
    """At exit: what was bought is stored; nothing hangs."""
    homes = list(_homes)
    for home in homes:
        home.begin_close()
    deadline = monotonic() + AT_EXIT
    for home in homes:
        home.close(max(0.0, deadline - monotonic()))
