"""Who works on an open cache file: a thread that owns it, and whoever asks while that one rests."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from time import perf_counter
from typing import Any, TypeVar
from weakref import WeakSet

from ._errors import CacheError, CacheUnavailable
from ._lock import PATIENCE
from ._opening import open_store
from ._records import Loaded, Query
from ._store import Store
from ._threads import unbroken

T = TypeVar("T")


QUICK = 0.005  #: seconds that a read may hold up an event loop
MOST_LEFT = 256  #: reads that are left to the thread at most, once one took longer


class Owner:
    """The thread that owns the connection: it does one thing after another, as they come.

    Not one of an executor: those take nothing more once the program's main thread has ended, and what
    is bought until the very end shall be stored. While nothing is to be done, whoever asks may read by
    itself, in its own thread: to wake another one and to be woken costs more than a lookup does.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._path = path
        self._work: SimpleQueue[tuple[Future[Any], Callable[[Store], Any]] | None] = SimpleQueue()
        self._store: Store | None = None
        self._taking = Lock()
        self._closed = False
        self._pending = 0  # taken, and not yet done
        self._left = 0  # reads to come that are left to the thread
        self._wary = 1  # after the next slow one, twice as many: it grows while slow ones are frequent
        self.at_work = Lock()  # held from one end of a transaction to the other
        _forking.add(self)
        opened: Future[None] = Future()
        self._thread = Thread(target=self._live, args=(opened,), name="cachesaver", daemon=True)
        self._thread.start()
        try:
            opened.result()
        except BaseException:
            self._thread.join()
            raise

    def submit(self, work: Callable[[Store], T]) -> Future[T]:
        if os.getpid() != self._process:
            raise CacheUnavailable(
                "this cache was opened before a fork, and only the parent may use it; nothing"
                " was read or stored. Open a Cache of its own in each process."
            )
        done: Future[T] = Future()
        with self._taking:
            if self._closed:
                raise CacheUnavailable("the cache was just closed; nothing was read or stored.")
            self._pending += 1
            self._work.put((done, work))
        return done

    def look(self, work: Callable[[Store], T]) -> Future[T]:
        """The same for what only reads; done already, where nobody had to be waited for."""
        done: Future[T] = Future()
        if self._left:
            self._left -= 1
        elif os.getpid() == self._process:
            unbroken(partial(self._look_here, work), done)
        return done if done.done() else self.submit(work)

    def at_hand(self, query: Query) -> Loaded | None:
        """What was read ahead, if it answers *query* and nothing else is to be done first."""
        if os.getpid() != self._process or not self.at_work.acquire(blocking=False):
            return None
        try:
            return None if self._store is None or self._pending or self._closed else self._store.at_hand(query)
        finally:
            self.at_work.release()

    def _look_here(self, work: Callable[[Store], T], done: Future[T]) -> None:
        if not self.at_work.acquire(blocking=False):
            return
        try:
            if self._store is None or self._pending or self._closed:
                return
            start = perf_counter()
            with suppress(Exception):  # the thread is patient, and says what is wrong
                done.set_result(work(self._store))
            if perf_counter() - start > QUICK:
                self._left = self._wary = min(2 * self._wary, MOST_LEFT)
            elif self._wary > 1:
                self._wary -= 1
        finally:
            self.at_work.release()

    def begin_close(self) -> None:
        """Take nothing more; the thread ends when all is done."""
        if os.getpid() != self._process:
            return  # the file is the parent's
        with self._taking:
            self._closed = True
            self._work.put(None)

    def close(self) -> None:
        self.begin_close()
        if os.getpid() == self._process:
            self._thread.join()

    def _live(self, opened: Future[None]) -> None:
        try:
            with self.at_work:
                store = open_store(self._path)
                store.hasten()
                self._store = store
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        while (item := self._work.get()) is not None:
            done, work = item
            if done.set_running_or_notify_cancel():
                self._do(done, work, store)
            else:
                self._one_less()
            del done, work, item  # not to be kept until the next one comes
        with self.at_work, suppress(CacheError):
            store.close()

    def _do(self, done: Future[T], work: Callable[[Store], T], store: Store) -> None:
        try:
            with self.at_work, store.patient():
                result = work(store)
        except BaseException as error:
            self._one_less()
            done.set_exception(error)
        else:
            self._one_less()
            done.set_result(result)
        finally:
            del done  # whose error has this frame in its traceback

    def _one_less(self) -> None:
        with self._taking:
            self._pending -= 1


class _Forking:
    """Has a fork wait until no cache of this process is in a transaction.

    A child inherits what SQLite remembers of the locks of its process. What was locked at
    the fork it would take for locked by itself, for ever, and never write the file again.
    """

    def __init__(self) -> None:
        self._owners: WeakSet[Owner] = WeakSet()
        self._registering = Lock()
        self._held: list[Owner] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._hold, after_in_parent=self._go_on, after_in_child=self._forget)

    def add(self, owner: Owner) -> None:
        with self._registering:
            self._owners.add(owner)

    def _hold(self) -> None:
        self._registering.acquire()
        self._held = [owner for owner in self._owners if owner.at_work.acquire(timeout=PATIENCE)]

    def _go_on(self) -> None:
        for owner in self._held:
            owner.at_work.release()
        self._held = []
        self._registering.release()

    def _forget(self) -> None:
        self._owners.clear()  # they are the parent's
        self._go_on()


_forking = _Forking()
