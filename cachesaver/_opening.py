"""Open a cache file, or make one; refuse what is not ours without touching it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from ._errors import CacheCorrupt, CacheUnavailable
from ._faults import own_errors
from ._files import beside, sync_folder
from ._lock import FileLock
from ._prompt import SIZE
from ._schema import check_header, check_schema, stand_in, upgrade, write_schema
from ._store import Store

_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")
_BUSY_SECONDS = 30.0  # to wait for programs that do not know our lock
_SCHEMA_STEPS = 20_000  # of SQLite's machine; to read our schema it takes 200
_CAUTION = ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0")  # for a file that is only looked at
_PRAGMAS = (
    *_CAUTION,
    "temp_store = MEMORY",
    "foreign_keys = ON",
    "journal_mode = PERSIST",
    "journal_size_limit = 1048576",
    "synchronous = EXTRA",
    "fullfsync = ON",
)


def open_store(path: Path) -> Store:
    """The store in the database file at *path*, which is made if it is missing."""
    path = Path(os.path.realpath(path))  # one lock file, however the path is spelled
    with own_errors(path):
        _check_sqlite()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_strangers(path)
        lock = FileLock(beside(path, ".lock"))
        try:
            store = _opened(path, lock)
        except BaseException:
            lock.close()
            raise
        try:
            store.take_in()
        except BaseException:
            store.close()
            raise
        return store


def connect_to_look(path: Path, lock: FileLock | None) -> sqlite3.Connection:
    """A connection to an existing cache that changes nothing but what an interrupted program has left half done."""
    _check_sqlite()
    _refuse_strangers(path)
    refuse_super_journal(path)
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    with nullcontext() if lock is None else lock.shared():
        connection = _connected(path, "rw" if writable else "ro", _CAUTION)
        try:
            connection.execute("PRAGMA temp_store = FILE")  # all assignments of a large cache, perhaps
            if not check_schema(connection, path):
                stand_in(connection)
        except BaseException:
            connection.close()
            raise
    return connection


def _opened(path: Path, lock: FileLock) -> Store:
    with lock.exclusive() if lock.writable else lock.shared():
        if not path.exists() or path.stat().st_size == 0:
            _create(path)
        refuse_super_journal(path)
        writable = lock.writable and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        connection = _connected(path, "rw" if writable else "ro", _PRAGMAS)
        try:
            if not check_schema(connection, path):
                upgrade(connection) if writable else stand_in(connection)
            return Store(path, connection, lock, writable=writable)
        except BaseException:
            connection.close()
            raise


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < (3, 37):
        raise CacheUnavailable(
            f"this Python has SQLite {sqlite3.sqlite_version}, and a cache needs 3.37 or later; nothing was"
            " touched. Use a newer Python."
        )


def _refuse_strangers(path: Path) -> None:
    """Refuse a file that is no cache, before anything is made beside it."""
    if not path.exists():
        return
    if not path.is_file():
        raise CacheCorrupt(f"{path} is not a file; it was not touched. Choose another path.")
    if path.stat().st_size == 0:
        _refuse_emptied(path)
        return
    # Immutable: no journal is played back, and no lock taken. And never open()
    # it: closing a file that this process has open drops SQLite's locks on it.
    uri = f"{path.as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        # Somebody may be in the middle of a commit, or have died there: page 1, written first,
        # then counts pages that the file does not have yet. This makes SQLite read it all the same.
        connection.execute("PRAGMA writable_schema = ON")
        check_header(connection, path)


def _refuse_emptied(path: Path) -> None:
    for sidecar in (beside(path, "-journal"), beside(path, "-wal")):
        if sidecar.exists() and sidecar.stat().st_size:
            raise CacheCorrupt(
                f"{path} is empty but {sidecar.name} is not: something emptied the cache, and it was not"
                " touched. Restore a copy of it, or choose another path."
            )


def refuse_super_journal(path: Path) -> None:
    """Refuse a journal that makes SQLite delete a file that it names; we never write one."""
    journal = beside(path, "-journal")
    if not os.path.lexists(journal):
        return
    if journal.is_symlink() or not journal.is_file() or _end(journal) == _SUPER_JOURNAL:
        raise CacheCorrupt(
            f"{journal} was not written by cachesaver and could destroy other files; nothing was touched."
            " Remove it, if you trust where this cache comes from."
        )


def _end(journal: Path) -> bytes:
    with journal.open("rb") as file:
        file.seek(max(0, journal.stat().st_size - len(_SUPER_JOURNAL)))
        return file.read()


def _connected(path: Path, mode: str, pragmas: Sequence[str]) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
    try:
        limit(connection)
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def limit(connection: sqlite3.Connection) -> None:
    """Keep a stranger's file from filling the memory, from reaching other files, and from an endless schema."""
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 2 * SIZE)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1)
    connection.set_progress_handler(lambda: 1, _SCHEMA_STEPS)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1")  # reads all of the schema
    finally:
        connection.set_progress_handler(None, 0)


def _create(path: Path) -> None:
    """Make the file under another name, and give it its own when it is whole."""
    draft = beside(path, f".{secrets.token_hex(8)}.new")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(_connected(draft, "rw", _PRAGMAS)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            write_schema(connection)
        if path.exists():  # and empty, or we were not here
            path.unlink()
        os.link(draft, path)  # unlike a rename, this never takes another file's place
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
