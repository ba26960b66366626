"""One lock for all processes that use a cache file: `flock` on a file beside it."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from ._errors import CacheBusy

if sys.platform != "win32":
    import fcntl

PATIENCE = 30.0  #: seconds to wait for other processes


class FileLock:
    """An advisory lock, held by many readers or one writer at a time.

    SQLite's own waiting starves: of four writers one got 1256 commits and
    another 1. Where there is no `flock` (Windows), or no lock file and a folder
    that takes none, SQLite's own locks are all there is. Raises `CacheBusy`,
    naming the process that has it, after `PATIENCE`.
    """

    def __init__(self, path: Path) -> None:
        self.writable = True
        self.patient = True  # else whoever would have to wait gets `CacheBusy` at once
        self.marks: tuple[bytes | None, bytes | None] = (None, None)  # before this process wrote last, and after
        self._path = path
        self._descriptor: int | None = None
        if sys.platform != "win32":
            self._descriptor, self.writable = _opened(path)

    @contextmanager
    def shared(self) -> Generator[None]:
        """Hold the lock beside other readers."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
        else:
            with self._locked(fcntl.LOCK_SH):
                yield

    @contextmanager
    def exclusive(self) -> Generator[None]:
        """Hold the lock alone."""
        if sys.platform == "win32" or self._descriptor is None:
            yield
        else:
            with self._locked(fcntl.LOCK_EX):
                self._sign()
                yield

    def mark(self) -> bytes | None:
        """What changes with every write, by whichever process; None where there is no telling."""
        if sys.platform == "win32" or self._descriptor is None:
            return None
        with suppress(OSError):
            return os.pread(self._descriptor, 64, 0)
        return None

    def close(self) -> None:
        """Give the descriptor back. The file stays: another process may be waiting on it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    if sys.platform != "win32":

        @contextmanager
        def _locked(self, kind: int) -> Generator[None]:
            self._acquire(kind)
            try:
                yield
            finally:
                assert self._descriptor is not None
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

        def _acquire(self, kind: int) -> None:
            assert self._descriptor is not None
            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not self.patient:
                    raise CacheBusy(f"another process writes to the cache beside {self._path} now.") from None
                self._wait(kind)

        def _wait(self, kind: int) -> None:
            """Queue for the lock in a thread, since `flock` itself knows no deadline, and polling starves."""
            waiter = _Waiter(self._descriptor, kind)
            waiter.start()
            if not waiter.granted.wait(PATIENCE) and waiter.abandon():
                # The waiter keeps the old descriptor and whatever it is granted on it.
                self._descriptor, _ = _opened(self._path)
                raise CacheBusy(
                    f"the cache beside {self._path} has been locked for {PATIENCE:.0f} seconds by {self._holder()}."
                    " Nothing was changed, and what is to be stored is tried again. End that process, or wait for it."
                )
            if waiter.error is not None:
                raise waiter.error

        def _sign(self) -> None:
            """Write down who has the lock, and when; on a full disk it stays untold."""
            mark = b"%-20d %-20d\n" % (os.getpid(), time.time_ns())
            self.marks = self.mark(), None
            if self.writable and self._descriptor is not None:
                with suppress(OSError):
                    os.pwrite(self._descriptor, mark, 0)
                    self.marks = self.marks[0], mark

        def _holder(self) -> str:
            try:
                return f"process {int(os.pread(self._descriptor or -1, 20, 0))}"
            except (OSError, ValueError):
                return "another process"


if sys.platform != "win32":

    class _Waiter(threading.Thread):
        """Waits for `flock`; lets go of it again if nobody waits any more."""

        def __init__(self, descriptor: int | None, kind: int) -> None:
            super().__init__(name="cachesaver-lock", daemon=True)
            assert descriptor is not None
            self.granted = threading.Event()
            self.error: OSError | None = None
            self._descriptor = descriptor
            self._kind = kind
            self._abandoned = False
            self._decision = threading.Lock()

        def run(self) -> None:
            try:
                fcntl.flock(self._descriptor, self._kind)
            except OSError as error:
                self.error = error
            with self._decision:
                if self._abandoned:
                    os.close(self._descriptor)
                else:
                    self.granted.set()

        def abandon(self) -> bool:
            """Give up, unless it was granted just now."""
            with self._decision:
                self._abandoned = not self.granted.is_set()
            return self._abandoned

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
