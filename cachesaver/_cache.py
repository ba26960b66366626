"""The cache of samples on disk: what a stack asks of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar
from weakref import finalize

from . import _spill as spill
from ._errors import CacheCorrupt, CacheError, CacheUnavailable
from ._owner import Owner
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
        self._owner: Owner | None = None
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
        self._owner = Owner(self._path)
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
        return self._look(lambda store: store.load(query))

    def at_hand(self, query: Query) -> Loaded | None:
        """The same, if it is known without a look into the file."""
        return self._open_owner().at_hand(query)

    def read(self, places: Sequence[tuple[bytes, int]]) -> Future[dict[tuple[bytes, int], Answer | CacheCorrupt]]:
        """The answers at these (key, position); those not stored are left out."""
        return self._look(lambda store: store.read(places))

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
        return self._open_owner().submit(work)

    def _look(self, work: Callable[[Store], T]) -> Future[T]:
        return self._open_owner().look(work)

    def _open_owner(self) -> Owner:
        if self._owner is None:
            raise CacheUnavailable(
                f"{self!r} is not open, so nothing was read or stored. Open it first:"
                f" with Cache({str(self._path)!r}) as cache: ..."
            )
        return self._owner
