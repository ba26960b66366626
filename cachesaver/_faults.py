"""What SQLite and the system say went wrong, as the library's own errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ._errors import (
    CacheBusy,
    CacheCorrupt,
    CacheError,
    CacheFull,
    CacheMoved,
    CacheUnavailable,
)

# The longest prefix of SQLite's error name decides. A quota that is used up
# comes as IOERR_WRITE, and a file that was deleted as IOERR_FSTAT.
_KINDS: dict[str, type[CacheError]] = {
    "SQLITE_FULL": CacheFull,
    "SQLITE_IOERR_WRITE": CacheFull,
    "SQLITE_BUSY": CacheBusy,
    "SQLITE_LOCKED": CacheBusy,
    "SQLITE_CORRUPT": CacheCorrupt,
    "SQLITE_NOTADB": CacheCorrupt,
    "SQLITE_INTERRUPT": CacheCorrupt,  # its schema has no end
    "SQLITE_READONLY": CacheUnavailable,
    "SQLITE_CANTOPEN": CacheUnavailable,
    "SQLITE_PERM": CacheUnavailable,
    "SQLITE_AUTH": CacheUnavailable,
    "SQLITE_READONLY_DBMOVED": CacheMoved,
    "SQLITE_IOERR_FSTAT": CacheMoved,
}
_REMEDIES: dict[type[CacheError], str] = {
    CacheFull: "Nothing stored before was changed. Free some space or quota, then go on.",
    CacheBusy: "Nothing was changed. Close what else has it open (a database browser?), then retry.",
    CacheCorrupt: "It was left as it is. Restore a copy of it, or choose another path.",
    CacheUnavailable: "Nothing was changed. Check the path, its permissions and its disk.",
    CacheMoved: "Nothing stored before was lost. Put the file back, or open the cache anew.",
    CacheError: "What was stored before was kept. Check the disk, then retry.",
}


@contextmanager
def own_errors(path: Path) -> Generator[None]:
    """Raise the library's error for whatever SQLite or the system raises inside."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        kind = _kind(error)
        raise kind(f"the cache {path}: {error}. {_REMEDIES[kind]}") from error


def _kind(error: Exception) -> type[CacheError]:
    if isinstance(error, OSError):
        return CacheUnavailable
    if isinstance(error, UnicodeDecodeError | sqlite3.DataError):
        return CacheCorrupt
    # An operational error without a name is text in the file that is no UTF-8.
    name: str = getattr(error, "sqlite_errorname", "SQLITE_CORRUPT")
    fitting = [prefix for prefix in _KINDS if name.startswith(prefix)]
    return _KINDS[max(fitting, key=len)] if fitting else CacheError
