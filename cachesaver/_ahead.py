"""What is probably asked next: a program that runs again asks for prompts in the order in which they were bought."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import closing
from sqlite3 import Connection
from typing import Any

from . import _reads as reads
from . import _statements as sql
from ._records import Drawn, Loaded, Query, Stock

FEW = 4  #: prompts of a query behind which more are read: the more there are, the less that saves
LEAST, MOST = 8, 64  #: prompts that are read; twice as many each time, while they are what is asked for
EACH = 4  #: samples and draws of each that are looked for, in the mean; of prompts with more come fewer
BYTES = 2**18  #: of answers that are read, so that no event loop is held up for long
SHORT = BYTES // LEAST  #: characters of answers to a query behind which more are read
NEAR = 8  #: rows by which a prompt may come before or after its turn: what was bought side by side is in any order


class ReadAhead:
    """The prompts behind those that were looked up, as long as nobody has written since.

    So nothing is found here but what a look into the file would find. What is damaged fails who asks
    for it, and no one before.
    """

    def __init__(self) -> None:
        self._mark: bytes | None = None  # of the last write before they were read
        self._samples: dict[bytes, list[Any]] = {}  # rows, by the key of their prompt
        self._draws: dict[reads.Owned, list[Any]] = {}
        self._asked = 0  # the row of the last prompt that was looked up
        self._due = 1  # and of the one that is looked up next, if they are asked for in order
        self._most = LEAST

    def find(self, query: Query, mark: bytes | None, unfit: reads.Unfit) -> Loaded | None:
        """What *query* asks, if all of it is here and *mark* is still that of the last write."""
        new = not query.labels and not any(query.stocks.values())
        if not new or mark is None or mark != self._mark:
            return None
        if not (query.stocks.keys() <= self._samples.keys() and all(place in self._draws for place in query.draws)):
            return None
        return Loaded(
            {key: self._stock(key, unfit) for key in query.stocks},
            {place: self._drawn(place, unfit) for place in query.draws},
            labels={},
            unused=set(),
        )

    def are_due(self, rows: Collection[int], mark: bytes | None) -> bool:
        """Whether the prompts in *rows*, which are not here, come in order: then those behind are worth reading."""
        first, last = min(rows), max(rows)
        if self._samples and mark == self._mark and self._asked - NEAR <= first < self._due:  # a straggler
            return False
        in_order = self._asked < first < self._due + NEAR
        self._samples, self._draws = {}, {}
        self._asked, self._due = last, last + 1
        if not in_order:
            self._most = LEAST
        return in_order

    def read(self, connection: Connection, namespaces: Collection[str], mark: bytes | None) -> None:
        """Read what stands behind the prompt that was looked up last, with what the *namespaces* have drawn of it."""
        span, limit = (self._asked + 1, self._asked + self._most), EACH * self._most
        draws = {name: connection.execute(sql.DRAWS_AHEAD, (name, *span, limit)).fetchall() for name in namespaces}
        with closing(connection.execute(sql.STOCKS_AHEAD, (*span, limit))) as rows:  # not to be read to its end
            samples = _whole(rows, limit)
        last = min((rows[-1][0] - 1 for rows in draws.values() if len(rows) == limit), default=span[1])
        keys = {row: key for row, (key, _) in samples.items() if row <= last}
        self._mark = mark
        self._samples = {key: rows for row, (key, rows) in samples.items() if row in keys}
        self._draws = {(name, key): [] for name in namespaces for key in keys.values()}
        for name, rows in draws.items():
            for row, *draw in rows:
                if row in keys:
                    self._draws[name, keys[row]].append(draw)
        self._due = max(keys, default=self._asked) + 1
        self._most = min(2 * self._most, MOST) if keys else LEAST

    def written(self, before: bytes | None, after: bytes | None, keys: Collection[bytes]) -> None:
        """This process itself has written something about *keys*; what the marks were *before* that and *after*."""
        if before is None or before != self._mark or len(keys) > MOST:
            self._samples, self._draws = {}, {}
        self._mark = after
        for key in keys:
            if self._samples.pop(key, None) is not None:
                self._draws = {place: rows for place, rows in self._draws.items() if place[1] != key}

    def _stock(self, key: bytes, unfit: reads.Unfit) -> Stock:
        stock = Stock([], {}, unfit.get(key, reads.NONE))
        for sample in self._samples[key]:
            reads.put(stock, key, sample)
        reads.put_in_order(stock)
        return stock

    def _drawn(self, place: reads.Owned, unfit: reads.Unfit) -> list[Drawn]:
        return [drawn for draw in self._draws[place] for drawn in reads.drawn(place, draw, unfit)]


def _whole(rows: Iterable[Any], limit: int) -> dict[int, tuple[bytes, list[Any]]]:
    """The key and the samples of each prompt of which all are in *rows*, by the row of the prompt."""
    found: dict[int, tuple[bytes, list[Any]]] = {}
    size = 0
    for count, (row, key, *sample) in enumerate(rows, 1):
        answer = sample[1]
        size += len(answer) if isinstance(answer, bytes) else 0
        if type(key) is not bytes or size > BYTES or count == limit:
            found.pop(row, None)  # of this one some may be missing
            break
        found.setdefault(row, (key, []))[1].append(sample)
    return found
