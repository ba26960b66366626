"""One cache file, open: its transactions. Synchronous, and for one thread."""

from __future__ import annotations

import os
import sqlite3
import warnings
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from . import _reads as reads
from . import _spill as spill
from . import _writes as writes
from ._ahead import FEW, SHORT, ReadAhead
from ._errors import CacheCorrupt, CacheError, CacheMoved, CacheSaverWarning, CacheUnavailable
from ._faults import own_errors
from ._lock import FileLock
from ._records import NONE, Answer, Bought, Entry, KnownPrompt, Loaded, Placed, Query, Record, Rejected, Settled, Stock


class Store:
    """A connection to a cache file. Every method is one transaction under the file's lock."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: FileLock, *, writable: bool) -> None:
        # Text comes as bytes: what is no UTF-8 must fail as one damaged sample,
        # not as the whole query.
        connection.text_factory = bytes
        self._path = path
        self._connection = connection
        self._lock = lock
        self._writable = writable
        (self._patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
        self._place = _place(path)
        self._doubtful: dict[Bought, Placed] = {}
        self._rejected: dict[bytes, frozenset[int]] = {}
        self._last_rejection = 0
        self._ahead = ReadAhead()

    def close(self) -> None:
        """Close the file."""
        with own_errors(self._path):
            self._connection.close()
            self._lock.close()

    def load(self, query: Query) -> Loaded:
        """What the file knows of all that *query* asks."""
        with self.reading() as connection:
            unfit = self._unfit(connection)
            draws, rows = reads.draws(connection, query.draws, unfit)
            stocks, more = reads.stocks(connection, query.stocks, unfit)
            lowest, unused = reads.lowest(connection, query.labels), reads.unused(connection, draws)
        used = {namespace for namespace, _ in draws} - unused
        rows |= more
        if rows and len(query.stocks) <= FEW and len(used) <= 1 and _size(stocks.values()) <= SHORT:
            self._read_ahead(rows, used)
        return Loaded(stocks, draws, lowest, unused)

    def at_hand(self, query: Query) -> Loaded | None:
        """The same, if it was read ahead and is still what the file says."""
        try:
            return self._ahead.find(query, self._lock.mark(), self._rejected)
        except (CacheCorrupt, sqlite3.DataError, UnicodeDecodeError):  # `load` will say so
            return None

    def _read_ahead(self, rows: set[int], namespaces: set[str]) -> None:
        # In a transaction of its own: what is damaged there is for those to know who ask for it.
        mark = self._lock.mark()
        if mark is not None and self._ahead.are_due(rows, mark):
            with suppress(CacheError, OverflowError), self.reading() as connection:
                self._unfit(connection)
                self._ahead.read(connection, namespaces, self._lock.mark())

    def read(self, places: Iterable[tuple[bytes, int]]) -> dict[tuple[bytes, int], Answer | CacheCorrupt]:
        """The answers at these (key, position); those not stored are left out."""
        with self.reading() as connection:
            return reads.answers(connection, places)

    def known_prompts(self, limit: int) -> list[KnownPrompt]:
        """The prompts of this file, newest first, at most *limit*."""
        with self.reading() as connection:
            return reads.known_prompts(connection, limit)

    def commit(self, bought: Sequence[Bought], records: Sequence[Record]) -> list[Placed | CacheError]:
        """Keep answers and assignments; once this returned they survive a power loss.

        An answer that cannot be stored is a `CacheError` in its place of the
        list, and its neighbours are kept. An assignment to a sample that is
        not stored raises, after all the rest was kept.
        """
        return self.settle(bought, records, sole=False).placed

    def settle(
        self,
        bought: Sequence[Bought],
        records: Sequence[Record],
        rejected: Sequence[Rejected] = (),
        entries: Sequence[Entry] = (),
        *,
        sole: bool,
    ) -> Settled:
        """Commit, mark what is *rejected*, and add *entries* to the ledger.

        If *sole*, an assignment to a sample that another draw of its namespace has is lost, not kept.
        """
        placed: list[Placed | CacheError] = []
        try:
            with self.writing() as (connection, now):
                self._keep(bought, placed, now)
                records = writes.followed(records, bought, placed)
                lost = writes.contested(connection, records, self._unfit(connection)) if sole else []
                strays = writes.record(
                    connection, [one for one in records if one not in lost] if lost else records, now
                )
                unknown = writes.reject(connection, rejected, now)
                writes.enter(connection, entries, now)
            touched = {one.key for one in (*bought, *records, *rejected)}
            self._ahead.written(*self._lock.marks, touched)
            writes.refuse_strays(strays, bought, placed)
        except BaseException:
            self._doubt(bought, placed)
            raise
        self._trust(bought)
        return Settled(placed, lost, unknown)

    def _keep(self, bought: Sequence[Bought], placed: list[Placed | CacheError], now: str) -> None:
        for one in bought:  # not extend(): what was placed before an error must be known to _doubt
            placed.append(self._kept(one) or writes.keep(self._connection, one, now))  # noqa: PERF401

    def _unfit(self, connection: sqlite3.Connection) -> reads.Unfit:
        """All rejected positions: few, so they are kept at hand."""
        for row, (key, position) in reads.rejections(connection, self._last_rejection):
            self._last_rejection = max(row, self._last_rejection)
            self._rejected[key] = self._rejected.get(key, NONE) | {position}
        return self._rejected

    def take_in(self) -> None:
        """Store what earlier runs spilled beside the file. A file with damaged lines keeps them, under another name."""
        for path in spill.waiting(self._path) if self._writable else ():
            try:
                file = spill.locked(path)
                if file is None:
                    continue
                try:
                    self._take_in(path, file)
                finally:
                    os.close(file)
            except (CacheError, OSError) as error:  # what is stored can be used all the same
                warnings.warn(f"{path.name} waits to be taken in: {error}", CacheSaverWarning, stacklevel=2)

    def _take_in(self, path: Path, file: int) -> None:
        spilled = spill.read(file)
        # The commit that failed may have reached the disk all the same; this one must not double it.
        self._doubt(spilled.sales, [Placed(sale.position, None) for sale in spilled.sales])
        placed: list[Placed | CacheError] = []
        with self.writing() as (connection, now):
            if writes.take_spill(connection, spilled.digest, now):
                self._keep(spilled.sales, placed, now)
                # Callers got what is in this file, wherever it is kept now.
                records = [one._replace(follows=True) for one in spilled.records]
                writes.record(connection, writes.followed(records, spilled.sales, placed), now)
        self._trust(spilled.sales)
        if spilled.damaged or any(isinstance(place, CacheError) for place in placed):
            path.rename(path.with_suffix(".damaged"))
        else:
            spill.remove(path)

    def _doubt(self, bought: Sequence[Bought], placed: Sequence[Placed | CacheError]) -> None:
        """Remember what a failed commit has placed: it may stand in the file all the same."""
        for one, place in zip(bought, placed, strict=False):
            if isinstance(place, Placed):
                self._doubtful[one] = place

    def _kept(self, one: Bought) -> Placed | None:
        """Where a commit that failed has kept *one* after all, so that a retry does not double it."""
        placed = self._doubtful.get(one) if self._doubtful else None
        if placed is None:
            return None
        place = one.key, placed.position
        return placed if reads.answers(self._connection, [place]).get(place) == one.answer else None

    def _trust(self, bought: Sequence[Bought]) -> None:
        if self._doubtful:
            for one in bought:
                self._doubtful.pop(one, None)

    @contextmanager
    def reading(self) -> Generator[sqlite3.Connection]:
        """A transaction that sees the file as it is now; text comes as bytes."""
        with own_errors(self._path), self._lock.shared(), self._transaction("BEGIN"):
            yield self._connection

    @contextmanager
    def patient(self) -> Generator[None]:
        """Wait for other processes inside the block, and be hasty again after it."""
        self._lock.patient = True
        self._connection.execute(f"PRAGMA busy_timeout = {self._patience}")
        try:
            yield
        finally:
            self.hasten()

    def hasten(self) -> None:
        """From now on what would have to wait for another process raises `CacheBusy`."""
        self._lock.patient = False
        self._connection.execute("PRAGMA busy_timeout = 0")

    @contextmanager
    def writing(self) -> Generator[tuple[sqlite3.Connection, str]]:
        """A transaction that may write, and the time of it. Raises `CacheError`: then nothing was written."""
        if not self._writable:
            raise CacheUnavailable(
                f"the cache {self._path} is read-only here, so nothing was stored in it. Make the file,"
                " its folder and its lock file writable, and open it again."
            )
        with own_errors(self._path), self._lock.exclusive():
            with self._transaction("BEGIN IMMEDIATE"):
                yield self._connection, datetime.now(UTC).isoformat(timespec="milliseconds")
            self._check_place()

    @contextmanager
    def _transaction(self, begin: str) -> Generator[None]:
        try:
            self._connection.execute(begin)
            yield
            self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _check_place(self) -> None:
        # A file that lost its name takes commits as before, and nobody finds them.
        if _place(self._path) != self._place:
            raise CacheMoved(
                f"the cache {self._path} was moved, replaced or deleted while it was open; what was"
                " just stored went with it. Put the file back, or open the cache anew."
            )


def _size(stocks: Iterable[Stock]) -> int:
    """How long the answers in *stocks* are together."""
    return sum(len(one.body) for stock in stocks for one in stock.answers.values() if isinstance(one, Answer))


def _place(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
