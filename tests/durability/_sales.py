"""Groups of samples to store, and the judge of the file that they were stored in."""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cachesaver import Cache, CacheCorrupt, CacheError
from cachesaver._records import Answer, Bought, Placed, Query, Record, Usage

# One thing a file says: an answer at a place, or an assignment.
Fact = tuple[bytes, int, Answer | CacheCorrupt] | Record


def figure(small: int, large: int) -> int:
    """How often to do it: the small figure by default, the large one with CACHESAVER_LONG=1."""
    return large if os.environ.get("CACHESAVER_LONG") else small


def key(name: str) -> bytes:
    return sha256(name.encode()).digest()


def bought(name: str, position: int, text: str) -> Bought:
    return Bought(key(name), "model", f'"{name}"', position, Answer(f'"{text}"', 1.5, Usage(10, 20)))


@dataclass(frozen=True)
class Group:
    """What one transaction stores."""

    sales: tuple[Bought, ...]
    records: tuple[Record, ...]

    @property
    def facts(self) -> set[Fact]:
        return {(one.key, one.position, one.answer) for one in self.sales} | set(self.records)

    @property
    def wanted(self) -> list[Placed]:
        return [Placed(one.position, None) for one in self.sales]


class Shop:
    """Sells groups of one to ten samples of four prompts; no two answers are alike."""

    def __init__(self, dice: random.Random) -> None:
        self.sold: list[Group] = []
        self._dice = dice
        self._positions: Counter[str] = Counter()

    def group(self) -> Group:
        sales = tuple(self._sale() for _ in range(self._dice.choice((1, 1, 3, 10))))
        records = tuple(Record("run", one.key, f"id{one.position}", 0, one.position) for one in sales)
        self.sold.append(Group(sales, records))
        return self.sold[-1]

    def _sale(self) -> Bought:
        name = self._dice.choice("abcd")
        position = self._positions[name]
        self._positions[name] += 1
        return bought(name, position, f"{name}{position} " + "word " * self._dice.choice((1, 50, 1000)))


def problems(path: Path, acknowledged: Collection[Group], offered: Iterable[Group]) -> list[str]:
    """What is wrong with a cache file in which some groups must be, and others may be, whole."""
    offered = list(offered)
    try:
        found = contents(path, offered)
    except CacheError as error:
        return [f"cannot be read: {error!r}"]
    wrong = [f"strange: {fact}" for fact in found - {fact for group in offered for fact in group.facts}]
    for group in offered:
        missing = len(group.facts - found)
        if missing and group in acknowledged:
            wrong.append(f"lost: {missing} acknowledged facts of {group}")
        elif 0 < missing < len(group.facts):
            wrong.append(f"half: {missing} facts are missing of {group}")
    return wrong + integrity(path)


def contents(path: Path, groups: Iterable[Group]) -> set[Fact]:
    """All that the library finds in a cache file about the prompts of *groups*."""
    keys = {one.key: 0 for group in groups for one in group.sales}
    with Cache(path) as cache:
        loaded = cache.load(Query(keys, [("run", one) for one in keys])).result()
        places = [(one, position) for one, stock in loaded.stocks.items() for position in stock.positions]
        answers: set[Fact] = {(*place, answer) for place, answer in cache.read(places).result().items()}
    return answers | {
        Record(namespace, one, drawn.request_id, drawn.ordinal, drawn.position)
        for (namespace, one), all_drawn in loaded.draws.items()
        for drawn in all_drawn
    }


def integrity(path: Path) -> list[str]:
    """What SQLite's own check says against the file."""
    with closing(sqlite3.connect(path)) as connection:
        try:
            rows = connection.execute("PRAGMA integrity_check").fetchall()
        except sqlite3.DatabaseError as error:
            return [f"integrity: {error}"]
    return [f"integrity: {row[0]}" for row in rows if row != ("ok",)]
