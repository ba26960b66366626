"""A disk that writes down all that SQLite does to it, and fails when it is told to.

The library itself runs on it: `Disk.open` is its `open_store`, with connections
of apsw, whose file system can be written in Python, in place of sqlite3's.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cachesaver import _opening
from cachesaver._store import Store

apsw = pytest.importorskip("apsw")

_numbers = itertools.count()


@dataclass(frozen=True)
class Write:
    inode: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    inode: str
    size: int


@dataclass(frozen=True)
class Sync:
    inode: str


@dataclass(frozen=True)
class Link:
    name: str
    inode: str


@dataclass(frozen=True)
class Unlink:
    name: str


@dataclass(frozen=True)
class SyncFolder:
    pass


def set_pragmas(patch: pytest.MonkeyPatch, **values: str) -> None:
    """Run the library with its own pragmas, but for some."""
    pragmas = dict(pragma.split(" = ") for pragma in _opening._PRAGMAS)
    assert set(values) <= set(pragmas)
    patch.setattr(_opening, "_PRAGMAS", tuple(f"{name} = {value}" for name, value in (pragmas | values).items()))


# What fails now: given "write", "grow" (a write behind the end), "sync" or "truncate", SQLite's error code or None.
Fault = Callable[[str], int | None]


class Disk(apsw.VFS):  # type: ignore[misc]
    """One folder. *there* names the files that are in it, and durable, from the start."""

    def __init__(self, there: Iterable[str] = ()) -> None:
        self.label = f"disk{next(_numbers)}"
        super().__init__(self.label, "")
        self.log: list[object] = []
        self.fault: Fault = lambda call: None
        self._inodes = {name: name for name in there}

    def open(self, path: Path) -> Store:
        """The library's own store in the file at *path*."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda name, **_: Connection(name, self.label))
            patch.setattr(os, "link", self._link)
            patch.setattr(os, "unlink", self._unlink)
            patch.setattr(_opening, "sync_folder", lambda folder: self.log.append(SyncFolder()))
            return _opening.open_store(path)

    def strike(self, call: str) -> None:
        """Raise if *call* is to fail."""
        if code := self.fault(call):
            raise apsw.exception_for(code)

    def inode(self, name: str) -> str:
        """The file of that name, which may be new."""
        if name not in self._inodes:
            self._inodes[name] = f"{name}#{next(_numbers)}"
            self.log.append(Link(name, self._inodes[name]))
        return self._inodes[name]

    def xOpen(self, name: Any, flags: list[int]) -> File:
        return File(self, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:
        super().xDelete(name, sync_folder)
        self._forget(Path(name).name)
        if sync_folder:
            self.log.append(SyncFolder())

    def _forget(self, name: str) -> None:
        if self._inodes.pop(name, None):
            self.log.append(Unlink(name))

    def _link(self, old: Path, new: Path, link: Callable[[Path, Path], None] = os.link) -> None:
        link(old, new)
        self._inodes[new.name] = self.inode(old.name)
        self.log.append(Link(new.name, self._inodes[new.name]))

    def _unlink(self, path: Path, unlink: Callable[[Path], None] = os.unlink) -> None:
        unlink(path)
        self._forget(path.name)


class File(apsw.VFSFile):  # type: ignore[misc]
    """A file that SQLite has open."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk
        self._inode: str | None = None
        if name is not None:  # else it is temporary, and nothing of it need survive
            path = name.filename() if isinstance(name, apsw.URIFilename) else name
            self._inode = disk.inode(Path(path).name)
        # As SQLite does on Unix: the first sync of a journal syncs its folder too.
        journal = flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL)
        self._name_is_loose = bool(journal and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: bytes, offset: int) -> None:
        data = bytes(data)
        try:
            self._disk.strike("grow" if offset + len(data) > self.xFileSize() else "write")
        except apsw.Error:
            self._write(data[: len(data) // 2], offset)
            raise
        self._write(data, offset)

    def _write(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        if self._inode:
            self._disk.log.append(Write(self._inode, offset, data))

    def xTruncate(self, size: int) -> None:
        self._disk.strike("truncate")
        super().xTruncate(size)
        if self._inode:
            self._disk.log.append(Truncate(self._inode, size))

    def xSync(self, flags: int) -> None:
        """Only written down: the real disk need not be waited for."""
        self._disk.strike("sync")
        if self._inode:
            self._disk.log.append(Sync(self._inode))
        if self._name_is_loose:
            self._disk.log.append(SyncFolder())
            self._name_is_loose = False


class Connection:
    """As much of `sqlite3.Connection` as the library uses, over apsw."""

    def __init__(self, uri: str, vfs: str) -> None:
        self.text_factory: Callable[[bytes], object] = bytes.decode
        with _as_sqlite3():
            flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_URI
            self._connection = apsw.Connection(uri, flags=flags, vfs=vfs)

    @property
    def in_transaction(self) -> bool:
        return bool(self._connection.in_transaction)

    def execute(self, statement: str, values: Sequence[object] = ()) -> Rows:
        with _as_sqlite3():
            rows = self._connection.execute(statement, values).fetchall()
        return Rows([tuple(map(self._column, row)) for row in rows], self._connection.changes())

    executescript = execute

    def set_progress_handler(self, handler: Callable[[], int] | None, steps: int) -> None:
        self._connection.set_progress_handler(handler, steps)

    def setlimit(self, category: int, limit: int) -> int:
        return int(self._connection.limit(category, limit))

    def close(self) -> None:
        with _as_sqlite3():
            self._connection.close()

    def _column(self, value: object) -> object:
        return self.text_factory(value.encode()) if isinstance(value, str) else value


@dataclass
class Rows:
    """What a statement returned."""

    rows: list[tuple[Any, ...]]
    rowcount: int

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def fetchone(self) -> tuple[Any, ...] | None:
        return self.rows[0] if self.rows else None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


@contextmanager
def _as_sqlite3() -> Generator[None]:
    """Raise what sqlite3 would raise."""
    try:
        yield
    except apsw.Error as error:
        kinds = {apsw.SQLITE_CONSTRAINT: sqlite3.IntegrityError, apsw.SQLITE_TOOBIG: sqlite3.DataError}
        kinds |= dict.fromkeys((apsw.SQLITE_CORRUPT, apsw.SQLITE_NOTADB), sqlite3.DatabaseError)
        raised = kinds.get(error.result, sqlite3.OperationalError)(str(error))
        codes = apsw.mapping_result_codes | apsw.mapping_extended_result_codes
        raised.sqlite_errorname = codes[error.extendedresult]
        raise raised from error
