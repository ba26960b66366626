"""One lock for all processes that use a cache file: `flock` on a file beside it."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


class FileLock:
    """An advisory lock, held by many readers or one writer at a time.

    SQLite's own waiting starves: of four writers one got 1256 commits and
    another 1. Where there is no `flock` (Windows), or no lock file and a folder
    that takes none, SQLite's own locks are all there is.
    """

    def __init__(self, path: Path) -> None:
        self.writable = True
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._descriptor, self.writable = _opened(path)

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold the lock beside other readers."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
        else:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
        else:
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


if sys.platform != "win32":

    def _opened(path: Path) -> tuple[int | None, bool]:
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600), True
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
        try:
            return os.open(path, os.O_RDONLY | flags), False
        except (FileNotFoundError, PermissionError):
            return None, False
