"""The cache of samples on disk: one SQLite file, and one thread that owns it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet, finalize

from . import _spill as spill
from ._errors import CacheCorrupt, CacheError, CacheUnavailable
from ._lock import PATIENCE
from ._opening import open_store
from ._prices import checked
from ._records import Answer, Bought, Entry, KnownPrompt, Loaded, Placed, Query, Record, Rejected, Settled
from ._store import Store

if TYPE_CHECKING:
    from ._ledger import By, Ledger

T = TypeVar("T")


class Cache:
    """A store of samples that any number of processes, threads and event loops may share.

        with Cache("my_cache") as cache:
            ...

    *path* is a folder, which is made if it is missing and holds `cache.db`, or
    a file whose name ends in `.db`. The file is an ordinary SQLite database;
    prompts and answers stand in it in clear, readable by its owner only.

    *prices* are US dollars for a million tokens, (input, output) by the name of a model, for what
    is written about costs; they stand over a small table of our own (`cachesaver.PRICES`).
    """

    def __init__(
        self, path: str | os.PathLike[str], *, prices: Mapping[str, tuple[float, float]] | None = None
    ) -> None:
        if not os.fspath(path):
            raise ValueError("a cache needs a path, and this one is empty")
        given = Path(path).expanduser().absolute()
        self._path = given if given.suffix == ".db" else given / "cache.db"
        self._owner: _Owner | None = None
        self.prices = checked(prices or {})

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    def __repr__(self) -> str:
        state = "open" if self._owner else "closed"
        return f"<Cache {str(self._path)!r} {state}>"

    def __enter__(self) -> Cache:
        if self._owner:
            raise CacheError(f"{self!r} is open already: share it instead of opening it twice.")
        self._owner = _Owner(self._path)
        finalize(self, self._owner.begin_close).atexit = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish what was begun and close the file. Again is harmless; so is opening it again."""
        owner, self._owner = self._owner, None
        if owner:
            owner.close()

    def ledger(self, by: By = "namespace") -> Ledger:
        """What was asked, bought and reused in all runs so far, and what it cost: by namespace, by model or by run.

        A run is entered when it ends, and about every ten seconds before that. The cache need not be open.
        """
        from ._ledger import read_ledger

        return read_ledger(self._path, by)

    def load(self, query: Query) -> Future[Loaded]:
        """What the cache knows of everything *query* asks."""
        return self._submit(lambda store: store.load(query))

    def read(self, places: Sequence[tuple[bytes, int]]) -> Future[dict[tuple[bytes, int], Answer | CacheCorrupt]]:
        """The answers at these (key, position); those not stored are left out."""
        return self._submit(lambda store: store.read(places))

    def commit(self, bought: Sequence[Bought], records: Sequence[Record]) -> Future[list[Placed | CacheError]]:
        """Keep answers and assignments; once it is done they survive a power loss.

        An answer that cannot be stored is a `CacheError` in its place of the list.
        """
        return self._submit(lambda store: store.commit(bought, records))

    def settle(
        self,
        bought: Sequence[Bought],
        records: Sequence[Record],
        rejected: Sequence[Rejected] = (),
        entries: Sequence[Entry] = (),
        *,
        sole: bool,
    ) -> Future[Settled]:
        """Commit, mark samples as unfit, and add lines to the ledger.

        If *sole*, only those assignments are kept whose sample no other draw of their namespace has.
        """
        return self._submit(lambda store: store.settle(bought, records, rejected, entries, sole=sole))

    def spill(self, bought: Sequence[Bought], records: Sequence[Record]) -> Path:
        """Keep what could not be stored in a file beside the cache, which the next opening takes in."""
        return spill.write(Path(os.path.realpath(self._path)), bought, records)

    def known_prompts(self, limit: int) -> Future[list[KnownPrompt]]:
        """The prompts the cache holds, newest first, at most *limit*."""
        return self._submit(lambda store: store.known_prompts(limit))

    def _submit(self, work: Callable[[Store], T]) -> Future[T]:
        if self._owner is None:
            raise CacheUnavailable(
                f"{self!r} is not open, so nothing was read or stored. Open it first:"
                f" with Cache({str(self._path)!r}) as cache: ..."
            )
        return self._owner.submit(work)


class _Owner:
    """The only thread that touches the connection.

    Not one of an executor: those take nothing more once the program's main thread
    has ended, and what is bought until the very end shall be stored.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._path = path
        self._work: SimpleQueue[tuple[Future[Any], Callable[[Store], Any]] | None] = SimpleQueue()
        self._closing = Lock()
        self._closed = False
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
        with self._closing:
            if self._closed:
                raise CacheUnavailable("the cache was just closed; nothing was read or stored.")
            self._work.put((done, work))
        return done

    def begin_close(self) -> None:
        """Take nothing more; the thread ends when all is done."""
        if os.getpid() != self._process:
            return  # the file is the parent's
        with self._closing:
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
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        while (item := self._work.get()) is not None:
            done, work = item
            if not done.set_running_or_notify_cancel():
                continue
            try:
                with self.at_work:
                    result = work(store)
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(result)
                del result
            del done, work, item  # not to be kept until the next one comes
        with self.at_work, suppress(CacheError):
            store.close()


class _Forking:
    """Has a fork wait until no cache of this process is in a transaction.

    A child inherits what SQLite remembers of the locks of its process. What was locked at
    the fork it would take for locked by itself, for ever, and never write the file again.
    """

    def __init__(self) -> None:
        self._owners: WeakSet[_Owner] = WeakSet()
        self._registering = Lock()
        self._held: list[_Owner] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._hold, after_in_parent=self._go_on, after_in_child=self._forget)

    def add(self, owner: _Owner) -> None:
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
