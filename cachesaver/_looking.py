"""Looking at a cache file without changing it: for the command line, the ledger and reports."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._errors import CacheUnavailable
from ._faults import own_errors
from ._files import beside
from ._lock import FileLock
from ._opening import connect_to_look

PAGE = 500  #: rows that are read at a time, so that programs that write need not wait for us


class Look:
    """A cache file that is only read. A cache only grows, so that what is read page by page is of one moment."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock | None) -> None:
        self.path = path
        self._connection = connection
        self._lock = lock

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """The connection, while no other process writes."""
        with own_errors(self.path):
            if self._lock is None:  # nobody is writing
                yield self._connection
            else:
                with self._lock.shared():
                    yield self._connection

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self.transaction() as connection:
            return connection.execute(query, parameters).fetchall()

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row of a query."""
        return self.rows(query, parameters)[0][0]

    def pages(self, query: str, parameters: Sequence[Any] = ()) -> Iterator[list[sqlite3.Row]]:
        """The rows of a query that gives those with `id > ?` in their order; it begins with that id."""
        last = 0
        while page := self.rows(f"{query} LIMIT {PAGE}", (*parameters, last)):
            yield page
            last = page[-1][0]


@contextmanager
def looking(path: Path) -> Generator[Look]:
    """Open the cache file at *path*; it is neither made nor changed. Raises `CacheError`."""
    path = Path(os.path.realpath(path))  # one lock file, however the path is spelled
    if not path.is_file():
        raise CacheUnavailable(f"there is no cache at {path}. Give the path of its .db file, or of its folder.")
    with own_errors(path):
        file = beside(path, ".lock")
        lock = FileLock(file) if file.exists() else None
        try:
            connection = connect_to_look(path, lock)
        except BaseException:
            if lock is not None:
                lock.close()
            raise
    connection.row_factory = sqlite3.Row
    connection.text_factory = _text
    try:
        yield Look(path, connection, lock)
    finally:
        connection.close()
        if lock is not None:
            lock.close()


def _text(text: bytes) -> str:
    return text.decode(errors="replace")  # what is damaged can be looked at too
