"""The samples and assignments in one SQLite file. Synchronous, and for one thread."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from . import _statements as sql
from ._errors import CacheCorrupt, CacheError, CacheMoved, CacheUnavailable
from ._faults import own_errors
from ._lock import FileLock
from ._records import Answer, Bought, Drawn, KnownPrompt, Loaded, Placed, Query, Record, Stock
from ._rows import read_answer, write_row

# What is wrong with one row alone, and leaves the transaction as it was.
_ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)


class Store:
    """One connection to one cache file. Every method is one transaction under the file lock."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, lock: FileLock, *, writable: bool
    ) -> None:
        # Text comes as bytes: what is no UTF-8 must fail as one damaged sample,
        # not as the whole query.
        connection.text_factory = bytes
        self._path = path
        self._connection = connection
        self._execute = connection.execute
        self._lock = lock
        self._writable = writable
        self._place = _place(path)
        self._doubtful: dict[Bought, Placed] = {}

    def close(self) -> None:
        """Close the file."""
        with own_errors(self._path):
            self._connection.close()
            self._lock.close()

    def load(self, query: Query) -> Loaded:
        """What the file knows of all that *query* asks."""
        with self._reading():
            return Loaded(
                {key: self._stock(key) for key in query.keys},
                {draw: self._draws(*draw) for draw in query.draws},
                dict(self._labels(query.labels)),
            )

    def read(
        self, places: Iterable[tuple[bytes, int]]
    ) -> dict[tuple[bytes, int], Answer | CacheCorrupt]:
        """The answers at these (key, position); those not stored are left out."""
        with self._reading():
            found = {place: self._answer(*place) for place in places}
        return {place: answer for place, answer in found.items() if answer is not None}

    def known_prompts(self, limit: int) -> list[KnownPrompt]:
        """The prompts of this file, newest first, at most *limit*."""
        with self._reading():
            rows = self._execute(sql.KNOWN_PROMPTS, (limit,)).fetchall()
            return [KnownPrompt(scope.decode(), text.decode(), n) for scope, text, n in rows]

    def commit(
        self, bought: Sequence[Bought], records: Sequence[Record]
    ) -> list[Placed | CacheError]:
        """Keep answers and assignments; once this returned they survive a power loss.

        An answer that cannot be stored is a `CacheError` in its place of the
        list, and its neighbours are kept. An assignment to a sample that is
        not stored raises, after all the rest was kept.
        """
        placed: list[Placed | CacheError] = []
        try:
            with self._writing() as now:
                placed.extend(self._kept(one, now) for one in bought)
                strays = self._record(records, now)
        except BaseException:
            self._doubt(bought, placed)
            raise
        _refuse_strays(strays, bought, placed)
        return placed

    def _stock(self, key: bytes) -> Stock:
        rows = self._execute(sql.FIRST_SAMPLES, (key,)).fetchall()
        answers = {row[0]: read_answer(key, row) for row in rows}
        positions = tuple(answers)
        if len(rows) == sql.ANSWERS_LOADED:
            later = self._execute(sql.LATER_POSITIONS, (key, positions[-1]))
            positions += tuple(position for (position,) in later)
        return Stock(positions, answers)

    def _draws(self, namespace: str, key: bytes) -> tuple[Drawn, ...]:
        rows = self._execute(sql.DRAWS, (key, namespace))
        return tuple(Drawn(name and name.decode(), n, position) for name, n, position in rows)

    def _labels(
        self, labels: Iterable[tuple[bytes, str, int]]
    ) -> Iterator[tuple[tuple[bytes, str, int], int]]:
        for label in labels:
            (position,) = self._execute(sql.LOWEST_OF_LABEL, label).fetchone()
            if position is not None:
                yield label, position

    def _answer(self, key: bytes, position: int) -> Answer | CacheCorrupt | None:
        row = self._execute(sql.ONE_SAMPLE, (key, position)).fetchone()
        return row and read_answer(key, row)

    def _kept(self, one: Bought, now: str) -> Placed | CacheError:
        self._execute("SAVEPOINT one")
        try:
            placed = self._already_kept(one) or self._keep(one, now)
        except _ROW_ERRORS as error:
            self._execute("ROLLBACK TO one")
            placed = CacheError(
                f"an answer could not be stored in {self._path}: {error}. The others were kept."
            )
        self._execute("RELEASE one")
        return placed

    def _keep(self, one: Bought, now: str) -> Placed | CacheCorrupt:
        prompt = self._prompt_id(one, now)
        if self._insert(prompt, one, one.position, now):
            return Placed(one.position, None)
        stored = self._answer(one.key, one.position)
        (end,) = self._execute(sql.NEXT_POSITION, (prompt,)).fetchone()
        self._insert(prompt, one, end, now)
        return stored if isinstance(stored, CacheCorrupt) else Placed(end, stored)

    def _insert(self, prompt: int, one: Bought, position: int, now: str) -> bool:
        row = write_row(one.key, position, one.answer, now)
        return self._execute(sql.ADD_SAMPLE, (prompt, *row)).rowcount == 1

    def _prompt_id(self, one: Bought, now: str) -> int:
        found = self._execute(sql.FIND_PROMPT, (one.key,)).fetchone()
        if found:
            return found[0]
        added = self._execute(sql.ADD_PROMPT, (one.key, one.scope, one.prompt, now)).lastrowid
        assert added is not None
        return added

    def _record(self, records: Sequence[Record], now: str) -> list[Record]:
        """Write the assignments; those that name no stored sample come back."""
        for namespace in {record.namespace for record in records}:
            self._execute(sql.ADD_NAMESPACE, (namespace,))
        return [record for record in records if not self._recorded(record, now)]

    def _recorded(self, one: Record, now: str) -> bool:
        row = (one.namespace, one.key, one.request_id, one.ordinal, one.position, now)
        try:
            self._execute(sql.ADD_ASSIGNMENT, row)
        except sqlite3.IntegrityError:
            return False
        return True

    def _doubt(self, bought: Sequence[Bought], placed: Sequence[Placed | CacheError]) -> None:
        """Remember what a failed commit placed: it may stand in the file all the same."""
        for one, place in zip(bought, placed, strict=False):
            if isinstance(place, Placed):
                self._doubtful[one] = place

    def _already_kept(self, one: Bought) -> Placed | None:
        """Where a commit that failed has kept *one* after all."""
        if not self._doubtful:
            return None
        placed = self._doubtful.pop(one, None)
        if placed and self._answer(one.key, placed.position) == one.answer:
            return placed
        return None

    @contextmanager
    def _reading(self) -> Generator[None]:
        with own_errors(self._path), self._lock.shared(), self._transaction("BEGIN"):
            yield

    @contextmanager
    def _writing(self) -> Generator[str]:
        if not self._writable:
            raise CacheUnavailable(
                f"the cache {self._path} is read-only here, so nothing was stored in it. Make"
                " the file and its folder writable, and open it again."
            )
        with own_errors(self._path), self._lock.exclusive():
            with self._transaction("BEGIN IMMEDIATE"):
                yield datetime.now(timezone.utc).isoformat(timespec="milliseconds")
            self._check_place()

    @contextmanager
    def _transaction(self, begin: str) -> Generator[None]:
        try:
            self._execute(begin)
            yield
            self._execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")

    def _check_place(self) -> None:
        # SQLite goes on writing into a file that has lost its name.
        if not self._path.exists() or _place(self._path) != self._place:
            raise CacheMoved(
                f"the cache {self._path} was moved, replaced or deleted while it was open; what"
                " was just stored went with it. Put the file back, or open the cache anew."
            )


def _place(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _refuse_strays(
    strays: Sequence[Record], bought: Sequence[Bought], placed: Sequence[Placed | CacheError]
) -> None:
    """Raise for assignments to samples that nobody stored, except those that just failed."""
    pairs = zip(bought, placed, strict=True)
    failed = {(one.key, one.position) for one, place in pairs if isinstance(place, CacheError)}
    wrong = [stray for stray in strays if (stray.key, stray.position) not in failed]
    if wrong:
        raise CacheError(
            f"{len(wrong)} assignments name samples that are not stored, the first {wrong[0]};"
            " all the rest was kept. This is a bug in cachesaver: please report it."
        )
