"""Check a cache file from end to end, or save what is whole of a damaged one. The file itself is only read."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._errors import CacheCorrupt, CacheUnavailable
from ._faults import own_errors
from ._files import beside
from ._lock import FileLock
from ._opening import limit, open_store, refuse_super_journal
from ._prompt import Prompt, decode
from ._records import Entry
from ._rows import is_sealed, read_answer
from ._schema import check_header, check_schema, stand_in

Row = tuple[Any, ...]

_COLUMNS = {
    "prompts": ("id", "key", "scope", "prompt", "first_seen"),
    "samples": (
        *("id", "prompt_id", "position", "answer", "bought_at", "seconds"),
        *("input_tokens", "output_tokens", "checksum", "cost"),
    ),
    "namespaces": ("id", "name"),
    "assignments": (
        *("id", "namespace_id", "prompt_id", "request_id", "ordinal", "position", "delivered_at", "checksum"),
    ),
    "spills": ("id", "digest", "taken_in_at"),
    "rejections": ("id", "prompt_id", "position", "reason", "rejected_at"),
    "runs": ("id", "name", "program", "started_at"),
    "ledger": ("id", "run_id", "namespace_id", *Entry._fields[2:], "entered_at"),
}
_BLOBS = ("key", "checksum")


@dataclass
class Findings:
    """How many rows of each table are whole, and what is wrong with the others."""

    whole: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COLUMNS, 0))
    problems: list[str] = field(default_factory=list[str])


def verify(path: Path) -> Findings:
    """Check every page, every checksum, every key and every reference of the cache at *path*.

    Raises `CacheError` if it cannot be read as a cache at all.
    """
    findings = Findings()
    with _reading(path) as connection:
        try:
            for (problem,) in connection.execute("PRAGMA integrity_check"):
                if problem != b"ok":
                    findings.problems.append(problem.decode(errors="replace"))
        except sqlite3.DatabaseError as error:
            findings.problems.append(str(error))
        for _ in _whole(connection, findings):
            pass
    return findings


def salvage(path: Path, new: Path) -> Findings:
    """Copy every whole row of the cache at *path* into a cache at *new*, which must not exist yet."""
    if new.exists():
        raise CacheUnavailable(f"{new} exists already; nothing was written. Choose another name for the new cache.")
    findings = Findings()
    with _reading(path) as damaged, own_errors(new):
        open_store(new).close()
        with closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.execute("BEGIN")
            for table, row in _whole(damaged, findings):
                names, marks = ", ".join(_COLUMNS[table]), ", ".join("?" * len(row))
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)
            connection.execute("COMMIT")
    return findings


@contextmanager
def _reading(path: Path) -> Generator[sqlite3.Connection]:
    """A connection to a private copy, in which SQLite may roll back what was interrupted."""
    with own_errors(path), tempfile.TemporaryDirectory() as folder:
        if not path.is_file():
            raise CacheUnavailable(f"there is no cache at {path}. Give the path of its .db file, or of its folder.")
        refuse_super_journal(path)
        copy = Path(folder, path.name)
        with _undisturbed(path):
            for file in (path, beside(path, "-journal"), beside(path, "-wal")):
                if file.is_file():
                    shutil.copyfile(file, copy.with_name(file.name))
        with closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            limit(connection)
            connection.execute("PRAGMA trusted_schema = OFF")
            check_header(connection, path)
            if not check_schema(connection, path):
                stand_in(connection)
            connection.text_factory = bytes
            yield connection


@contextmanager
def _undisturbed(path: Path) -> Generator[None]:
    """Keep writers out; where no lock file is, none is made, for nobody is writing."""
    file = beside(path, ".lock")
    if not file.exists():
        yield
        return
    lock = FileLock(file)
    try:
        with lock.shared():
            yield
    finally:
        lock.close()


def _whole(connection: sqlite3.Connection, findings: Findings) -> Iterator[tuple[str, Row]]:
    """Every row that is whole and refers to whole ones, with its table; the others are told to *findings*."""
    keys: dict[int, bytes] = {}
    samples: set[tuple[int, int]] = set()
    names: dict[int, bytes] = {}
    runs: set[int] = set()
    for table in _COLUMNS:
        for row in _rows(connection, table, findings):
            try:
                text = _decoded(table, row)  # first: what is no text is not whole, and nothing may refer to it
                problem = _problem(table, row, keys, samples, names, runs)
            except (TypeError, ValueError) as error:
                text, problem = row, str(error)
            if problem is not None:
                findings.problems.append(f"{table}, row {row[0]}: {problem}")
            else:
                findings.whole[table] += 1
                yield table, text


def _problem(
    table: str,
    row: Row,
    keys: dict[int, bytes],
    samples: set[tuple[int, int]],
    names: dict[int, bytes],
    runs: set[int],
) -> str | None:
    """What is wrong with *row*; a whole one is remembered for those that refer to it."""
    match table:
        case "prompts":
            number, key, scope, prompt, _ = row
            if Prompt(decode(prompt.decode())).key(scope.decode()) != key:
                return "its key is not that of its prompt"
            keys[number] = key
        case "samples":
            _, prompt, position, *answer, _ = row
            if prompt not in keys:
                return "its prompt is missing or damaged"
            found = read_answer(keys[prompt], position, answer)
            if isinstance(found, CacheCorrupt):
                return "its checksum is wrong"
            samples.add((prompt, position))
        case "namespaces":
            names[row[0]] = row[1]
        case "assignments":
            _, name, prompt, label, ordinal, position, *sealed = row
            if name not in names or (prompt, position) not in samples:
                return "it refers to what is missing or damaged"
            if not is_sealed(names[name], keys[prompt], label, ordinal, position, *sealed):
                return "its checksum is wrong"
        case "rejections":
            if (row[1], row[2]) not in samples:
                return "it refers to what is missing or damaged"
        case "runs":
            runs.add(row[0])
        case "ledger":
            if row[1] not in runs or row[2] not in names:
                return "it refers to what is missing or damaged"
        case _:
            pass
    return None


def _rows(connection: sqlite3.Connection, table: str, findings: Findings) -> Iterator[Row]:
    """Every row that can be read, in order; where a page is damaged, what comes after it."""
    last, step = 0, 0
    query = f"SELECT {', '.join(_COLUMNS[table])} FROM {table} NOT INDEXED WHERE id > ? ORDER BY id"
    while True:
        try:
            for row in connection.execute(query, (last + step,)):
                yield row
                last, step = row[0], 0
            return
        except (sqlite3.DatabaseError, OverflowError) as error:
            if not step:
                findings.problems.append(f"{table}, after row {last}: {error}")
            step = 2 * step + 1
            if step > 2**40:
                return


def _decoded(table: str, row: Row) -> Row:
    named = zip(_COLUMNS[table], row, strict=True)
    return tuple(value.decode() if isinstance(value, bytes) and name not in _BLOBS else value for name, value in named)
