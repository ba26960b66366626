"""The cache of samples on disk: one SQLite file, and one thread that owns it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from . import _spill as spill
from ._errors import CacheCorrupt, CacheError, CacheUnavailable
from ._opening import open_store
from ._records import Answer, Bought, KnownPrompt, Loaded, Placed, Query, Record, Settled
from ._store import Store

T = TypeVar("T")


class Cache:
    """A store of samples that any number of processes, threads and event loops may share.

        with Cache("my_cache") as cache:
            ...

    *path* is a folder, which is made if it is missing and holds `cache.db`, or
    a file whose name ends in `.db`. The file is an ordinary SQLite database;
    prompts and answers stand in it in clear, readable by its owner only.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if not os.fspath(path):
            raise ValueError("a cache needs a path, and this one is empty")
        given = Path(path).expanduser().absolute()
        self._path = given if given.suffix == ".db" else given / "cache.db"
        self._owner: _Owner | None = None

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

    def settle(self, bought: Sequence[Bought], records: Sequence[Record], *, sole: bool) -> Future[Settled]:
        """Commit; if *sole*, only those assignments whose sample no other draw of their namespace has."""
        return self._submit(lambda store: store.settle(bought, records, sole=sole))

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
    """The only thread that touches the connection."""

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cachesaver")
        try:
            self._store = self._thread.submit(open_store, path).result()
        except BaseException:
            self._thread.shutdown()
            raise

    def submit(self, work: Callable[[Store], T]) -> Future[T]:
        if os.getpid() != self._process:
            raise CacheUnavailable(
                "this cache was opened before a fork, and only the parent may use it; nothing"
                " was read or stored. Open a Cache of its own in each process."
            )
        try:
            return self._thread.submit(work, self._store)
        except RuntimeError as error:  # closed by another thread, or the interpreter is ending
            raise CacheUnavailable(f"the cache was just closed; nothing was read or stored: {error}") from error

    def close(self) -> None:
        if os.getpid() != self._process:
            return  # the file is the parent's
        with suppress(RuntimeError):  # another thread was first, or the interpreter ended the thread
            self._thread.submit(self._store.close).result()
        self._thread.shutdown()
