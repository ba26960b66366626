"""Adding stored samples to a cache: what is there already stays where it is, what is new goes where there is room."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from sqlite3 import Connection

from . import _statements as sql
from ._looking import PAGE
from ._opening import open_store
from ._prompt import Prompt, decode
from ._reads import MOST_HOLES
from ._records import Record
from ._rows import seal, write_row
from ._stored import StoredSample, Use

_KNOWN = "SELECT position, bought_at, answer FROM samples WHERE prompt_id = ?"
_DRAWN = """
SELECT request_id, ordinal, position FROM assignments
JOIN namespaces ON namespaces.id = namespace_id WHERE name = ? AND prompt_id = ?"""


@dataclass
class Added:
    """What became of samples that were to be added."""

    prompts: int = 0  #: that were not known
    samples: int = 0  #: that were not there
    known: int = 0  #: samples that were
    moved: int = 0  #: of the new ones those whose position was another's
    assignments: int = 0
    refused: int = 0  #: assignments of draws that the cache has recorded for other samples
    rejections: int = 0


class Shelving:
    """The prompt whose samples are being added, as the cache holds it."""

    def __init__(self, connection: Connection, prompt: Prompt, scope: str, first_seen: str) -> None:
        self.key = prompt.key(scope)
        found = connection.execute(sql.FIND_PROMPT, (self.key,)).fetchone()
        self.new = found is None
        if found is None:
            connection.execute(sql.ADD_PROMPT, (self.key, scope, prompt.asked, first_seen))
            found = connection.execute(sql.FIND_PROMPT, (self.key,)).fetchone()
        self.row: int = found[0]
        self.uses: list[tuple[int, Use]] = []  # of samples at these positions, to be added
        self._twins: dict[bytes, int] = {}
        self._taken: set[int] = set()
        self._end = 0
        for position, bought_at, answer in connection.execute(_KNOWN, (self.row,)):
            self.take(position, bought_at, answer)

    def take(self, position: int, bought_at: bytes, answer: bytes) -> None:
        """A sample stands at *position*."""
        self._taken.add(position)
        self._end = max(self._end, position + 1)
        self._twins[_digest(bought_at, answer)] = position

    def twin(self, sample: StoredSample) -> int | None:
        """Where the same sample stands already: the same answer, bought at the same moment."""
        if sample.bought_at is None:
            return None
        return self._twins.get(_digest(sample.bought_at.encode(), sample.answer.body.encode()))

    def room(self, wanted: int | None) -> int:
        """The position *wanted*, if it is free; else the one behind all others."""
        if wanted is None or wanted in self._taken or wanted > self._end + MOST_HOLES // 2:
            return self._end
        return wanted


class Adding:
    """Adds samples in the transactions that it is given."""

    def __init__(self) -> None:
        self.added = Added()
        self._shelving: Shelving | None = None

    def add(self, connection: Connection, sample: StoredSample, now: str) -> None:
        """One sample, and who drew it."""
        shelving = self._turn_to(connection, sample, now)
        position = shelving.twin(sample)
        if position is None:
            position = self._insert(connection, shelving, sample, sample.bought_at or now)
        else:
            self.added.known += 1
        if sample.rejected is not None:
            row = connection.execute(sql.ADD_REJECTION, (shelving.key, position, sample.rejected, now))
            self.added.rejections += row.rowcount
        shelving.uses += [(position, use) for use in sample.uses]

    def finish(self, connection: Connection, now: str) -> None:
        """Who drew the samples of the prompt that was added last: in order, for of a draw the latest record counts."""
        if self._shelving is None:
            return
        by_namespace: dict[str, list[tuple[int, Use]]] = {}
        for position, use in sorted(self._shelving.uses, key=lambda item: item[1].delivered_at or now):
            by_namespace.setdefault(use.namespace, []).append((position, use))
        for namespace, uses in by_namespace.items():
            self._assign(connection, self._shelving, namespace, uses, now)
        self._shelving = None

    def _turn_to(self, connection: Connection, sample: StoredSample, now: str) -> Shelving:
        prompt = Prompt(decode(sample.prompt))
        if self._shelving is None or self._shelving.key != prompt.key(sample.scope):
            self.finish(connection, now)
            self._shelving = Shelving(connection, prompt, sample.scope, sample.bought_at or now)
            self.added.prompts += self._shelving.new
        return self._shelving

    def _insert(self, connection: Connection, shelving: Shelving, sample: StoredSample, bought_at: str) -> int:
        position = shelving.room(sample.position)
        row = write_row(shelving.key, position, sample.answer, bought_at)
        connection.execute(sql.ADD_SAMPLE, (shelving.row, *row, sample.cost))
        shelving.take(position, bought_at.encode(), sample.answer.body.encode())
        self.added.samples += 1
        self.added.moved += sample.position is not None and position != sample.position
        return position

    def _assign(
        self, connection: Connection, shelving: Shelving, namespace: str, uses: list[tuple[int, Use]], now: str
    ) -> None:
        connection.execute(sql.ADD_NAMESPACE, (namespace,))
        rows = connection.execute(_DRAWN, (namespace, shelving.row)).fetchall()
        known = {(label and label.decode(), ordinal, position) for label, ordinal, position in rows}
        draws = {(label, ordinal) for label, ordinal, _ in known}
        positions = {position for _, _, position in known}
        for position, use in uses:
            draw = (use.request_id, use.ordinal)
            if draw in draws or position in positions:
                self.added.refused += (*draw, position) not in known
                continue
            at = use.delivered_at or now
            record = Record(namespace, shelving.key, *draw, position)
            connection.execute(sql.ADD_ASSIGNMENT, (*record[:5], at, seal(record, at)))
            self.added.assignments += 1


def add(path: Path, samples: Iterable[StoredSample], step: Callable[[int], None]) -> Added:
    """Add *samples* to the cache at *path*, which is made if it is missing; *step* is told how many were done.

    Raises `CacheError`; what was added before stays, and adding all again adds the rest.
    """
    adding = Adding()
    with closing(open_store(path)) as store:
        for batch in _batches(iter(samples)):
            with store.writing() as (connection, now):
                for sample in batch:
                    adding.add(connection, sample, now)
            step(len(batch))
        with store.writing() as (connection, now):
            adding.finish(connection, now)
    return adding.added


def _batches(samples: Iterator[StoredSample]) -> Iterator[list[StoredSample]]:
    while batch := list(islice(samples, PAGE)):
        yield batch


def _digest(bought_at: bytes, answer: bytes) -> bytes:
    return blake2b(b"%b %b" % (bought_at, answer), digest_size=16).digest()
