"""One lock for all processes that use a cache file: `flock` on a file beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileLock:
    """An advisory lock that many readers or one writer hold; waiters are served in turn.

    SQLite's own waiting starves: of four writers one got 1256 commits and
    another 1. Where there is no `flock` (Windows) or the lock file cannot be
    made (a read-only folder), SQLite's own locks are all there is.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._descriptor = _opened(path)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock beside other readers."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock alone."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the descriptor back. The file stays: another process may be waiting on it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _opened(path: Path) -> int | None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(PermissionError, OSError):
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    with suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY | flags)
    return None
