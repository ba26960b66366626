"""What is probably asked next: a program that runs again asks for prompts in the order in which they were bought."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from sqlite3 import Connection, DataError, Error
from typing import Any, NamedTuple

from . import _reads as reads
from . import _statements as sql
from ._errors import CacheCorrupt
from ._records import NONE, Answer, Drawn, Stock

EACH = 4  #: samples and draws of a prompt, in the mean, that are looked for; of those with more come fewer
NEAR = 8  #: rows by which a prompt may come later than it is due: what was bought side by side stands in any order


class Ahead(NamedTuple):
    """Prompts behind others in the file, and the row of the last one."""

    stocks: dict[bytes, Stock]
    draws: dict[reads.Owned, list[Drawn]]
    last: int


def in_order(rows: Collection[int], due: int) -> bool:
    """Whether the first of these *rows* is the one that is *due*, or comes soon after it."""
    return 0 <= min(rows, default=0) - due < NEAR


def prompts_behind(
    connection: Connection, row: int, most: int, namespaces: Collection[str], unfit: reads.Unfit
) -> Ahead | None:
    """The prompts behind *row*, at most so many, each with all its samples and what the *namespaces* have drawn.

    None where there are none, or something is damaged, which is for those to know who ask for it.
    """
    try:
        return _prompts_between(connection, (row + 1, row + most), EACH * most, namespaces, unfit)
    except (Error, OverflowError, UnicodeDecodeError, CacheCorrupt):
        return None


def _prompts_between(
    connection: Connection, span: tuple[int, int], limit: int, namespaces: Collection[str], unfit: reads.Unfit
) -> Ahead | None:
    samples = connection.execute(sql.STOCKS_AHEAD, (*span, limit)).fetchall()
    draws = {name: connection.execute(sql.DRAWS_AHEAD, (name, *span, limit)).fetchall() for name in namespaces}
    # Of the last one some may be missing, where there are more rows than were looked for.
    last = min((rows[-1][0] - 1 for rows in (samples, *draws.values()) if len(rows) == limit), default=span[1])
    keys = {row: _key(key) for row, key, *_ in samples if row <= last}
    return Ahead(_stocks(samples, keys, unfit), _draws(draws, keys, unfit), max(keys)) if keys else None


def _stocks(samples: list[Any], keys: Mapping[int, bytes], unfit: reads.Unfit) -> dict[bytes, Stock]:
    found: dict[bytes, Stock] = {key: Stock([], {}, unfit.get(key, NONE)) for key in keys.values()}
    for row, key, *sample in samples:
        if row in keys:
            reads.put(found[key], key, sample)
    for stock in found.values():
        reads.put_in_order(stock)
        if not all(isinstance(answer, Answer) for answer in stock.answers.values()):
            raise DataError("a sample in it is damaged")
    return found


def _draws(
    draws: Mapping[str, list[Any]], keys: Mapping[int, bytes], unfit: reads.Unfit
) -> dict[reads.Owned, list[Drawn]]:
    found: dict[reads.Owned, list[Drawn]] = {(namespace, key): [] for namespace in draws for key in keys.values()}
    for namespace, rows in draws.items():
        for row, *draw in rows:
            if row in keys:
                place = (namespace, keys[row])
                found[place] += reads.drawn(place, draw, unfit)
    return found


def _key(value: Any) -> bytes:
    if type(value) is not bytes:
        raise DataError("a key in it is damaged")
    return value
