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
from ._errors import CacheError
from ._looking import PAGE
from ._opening import open_store
from ._prompt import Prompt, decode
from ._reads import MOST_HOLES
from ._records import Record
from ._rows import seal, write_row
from ._stored import StoredSample, Use

_KNOWN = """
SELECT position, bought_at, answer, seconds, input_tokens, output_tokens FROM samples
WHERE prompt_id = ? ORDER BY position"""
_DRAWN = """
SELECT request_id, ordinal, position, reason IS NULL FROM assignments
JOIN namespaces ON namespaces.id = namespace_id LEFT JOIN rejections USING (prompt_id, position)
WHERE name = ? AND prompt_id = ?"""


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
    """A prompt whose samples are being added, as the cache holds it."""

    def __init__(self, connection: Connection, prompt: Prompt, scope: str, first_seen: str) -> None:
        self.key = prompt.key(scope)
        found = connection.execute(sql.FIND_PROMPT, (self.key,)).fetchone()
        self.new = found is None
        if found is None:
            connection.execute(sql.ADD_PROMPT, (self.key, scope, prompt.asked, first_seen))
            found = connection.execute(sql.FIND_PROMPT, (self.key,)).fetchone()
        self.row: int = found[0]
        self.uses: list[tuple[int, Use]] = []  # of samples at these positions, to be added
        self._done: set[int] = set()  # positions whose samples came from here, or were found to be here
        self.look_again(connection)

    def look_again(self, connection: Connection) -> None:
        """See what stands there now: other programs may have stored something."""
        self._taken: set[int] = set()
        self._twins: dict[bytes, list[int]] = {}
        self._end = 0
        for position, *fields in connection.execute(_KNOWN, (self.row,)):
            self._take(position)
            if position not in self._done:
                self._twins.setdefault(_digest(*fields), []).append(position)

    def twin(self, sample: StoredSample) -> int | None:
        """Where the same sample stands already, bought at the same moment; of several equal ones each counts once."""
        answer, usage = sample.answer, sample.answer.usage
        if sample.bought_at is None:
            return None
        tokens = (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)
        twins = self._twins.get(_digest(sample.bought_at.encode(), answer.body.encode(), answer.seconds, *tokens))
        if not twins:
            return None
        position = sample.position if sample.position in twins else twins[0]
        twins.remove(position)
        self._done.add(position)
        return position

    def put(self, connection: Connection, sample: StoredSample, bought_at: str) -> int:
        """Store *sample* at its position if that is free, else behind all others; where it went."""
        position = self._room(sample.position)
        row = write_row(self.key, position, sample.answer, bought_at)
        if connection.execute(sql.ADD_SAMPLE, (self.row, *row, sample.cost)).rowcount != 1:
            raise CacheError(f"position {position} was taken in the middle of a transaction; nothing of it was kept")
        self._take(position)
        self._done.add(position)
        return position

    def _take(self, position: int) -> None:
        self._taken.add(position)
        self._end = max(self._end, position + 1)

    def _room(self, wanted: int | None) -> int:
        if wanted is None or wanted in self._taken:
            return self._end
        return self._end if wanted - len(self._taken) > MOST_HOLES // 2 else wanted


class Adding:
    """Adds samples in the transactions that it is given.

    *grouped*: no prompt comes back after another one, so that little need be remembered.
    """

    def __init__(self, *, grouped: bool) -> None:
        self.added = Added()
        self._grouped = grouped
        self._shelvings: dict[bytes, Shelving] = {}
        self._version = -1

    def begin(self, connection: Connection) -> None:
        """A transaction begins: look again, if another program has written since the last one."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            for shelving in self._shelvings.values():
                shelving.look_again(connection)
        self._version = version

    def add(self, connection: Connection, sample: StoredSample, now: str) -> None:
        """One sample, and who drew it."""
        shelving = self._shelving(connection, sample, now)
        position = shelving.twin(sample)
        if position is None:
            position = shelving.put(connection, sample, sample.bought_at or now)
            self.added.samples += 1
            self.added.moved += sample.position not in (None, position)
        else:
            self.added.known += 1
        if sample.rejected is not None:
            row = connection.execute(sql.ADD_REJECTION, (shelving.key, position, sample.rejected, now))
            self.added.rejections += row.rowcount
        shelving.uses += [(position, use) for use in sample.uses]

    def finish(self, connection: Connection, now: str) -> None:
        """Who drew the samples that were added: in order, for of a draw the latest record counts."""
        for shelving in self._shelvings.values():
            known: dict[str, _Drawn] = {}
            for position, use in sorted(shelving.uses, key=lambda item: _order(item[1], now)):
                if use.namespace not in known:
                    known[use.namespace] = _Drawn(connection, use.namespace, shelving.row)
                self._assign(connection, shelving, known[use.namespace], position, use, now)
        self._shelvings.clear()

    def _shelving(self, connection: Connection, sample: StoredSample, now: str) -> Shelving:
        prompt = Prompt(decode(sample.prompt))
        key = prompt.key(sample.scope)
        shelving = self._shelvings.get(key)
        if shelving is None:
            if self._grouped:
                self.finish(connection, now)
            shelving = self._shelvings[key] = Shelving(connection, prompt, sample.scope, sample.bought_at or now)
            self.added.prompts += shelving.new
        return shelving

    def _assign(
        self, connection: Connection, shelving: Shelving, known: _Drawn, position: int, use: Use, now: str
    ) -> None:
        draw = (use.request_id, use.ordinal)
        if (*draw, position) in known.all or draw in known.draws or position in known.positions:
            self.added.refused += (*draw, position) not in known.all
            return
        at = use.delivered_at or now
        record = Record(use.namespace, shelving.key, *draw, position)
        connection.execute(sql.ADD_NAMESPACE, (use.namespace,))
        connection.execute(sql.ADD_ASSIGNMENT, (*record[:5], at, seal(record, at)))
        self.added.assignments += 1


class _Drawn:
    """What one namespace had drawn of a prompt before: all of it, and what of that is in force."""

    def __init__(self, connection: Connection, namespace: str, prompt: int) -> None:
        rows = connection.execute(_DRAWN, (namespace, prompt)).fetchall()
        drawn = [(label and label.decode(), ordinal, position, good) for label, ordinal, position, good in rows]
        self.all = {(label, ordinal, position) for label, ordinal, position, _ in drawn}
        self.draws = {(label, ordinal) for label, ordinal, _, good in drawn if good}
        self.positions = {position for _, _, position, good in drawn if good}


def add(path: Path, samples: Iterable[StoredSample], step: Callable[[int], None], *, grouped: bool) -> Added:
    """Add *samples* to the cache at *path*, which is made if it is missing; *step* is told how many were done.

    Raises `CacheError`; what was added before stays, and adding all again adds the rest.
    """
    adding = Adding(grouped=grouped)
    with closing(open_store(path)) as store:
        for batch in _batches(iter(samples)):
            with store.writing() as (connection, now):
                adding.begin(connection)
                for sample in batch:
                    adding.add(connection, sample, now)
            step(len(batch))
        with store.writing() as (connection, now):
            adding.finish(connection, now)
    return adding.added


def _order(use: Use, now: str) -> tuple[bool, str]:
    """Clocks differ: what a later record has replaced comes first, whatever time it says."""
    return not use.superseded, use.delivered_at or now


def _batches(samples: Iterator[StoredSample]) -> Iterator[list[StoredSample]]:
    while batch := list(islice(samples, PAGE)):
        yield batch


def _digest(*fields: object) -> bytes:
    return blake2b(repr(fields).encode(), digest_size=16).digest()
