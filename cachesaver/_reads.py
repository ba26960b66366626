"""What a cache file knows. Each function runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from sqlite3 import Connection, DataError
from typing import Any, TypeVar

from . import _statements as sql
from ._errors import CacheCorrupt
from ._records import NONE, Answer, Drawn, KnownPrompt, Stock
from ._rows import Row, damaged_assignment, is_sealed, read_answer

MOST_HOLES = 100_000  #: a prompt's positions that may be free below its last; failed purchases leave a few

Place = tuple[bytes, int]
Owned = tuple[str, bytes]  # a namespace, and what it may have drawn of
Label = tuple[bytes, str, int]
Unfit = Mapping[bytes, frozenset[int]]  # the rejected positions of prompts that have any
Question = TypeVar("Question", bound=tuple[Any, ...])


def stocks(connection: Connection, wanted: Mapping[bytes, int], unfit: Unfit) -> tuple[dict[bytes, Stock], set[int]]:
    """For each prompt every position from a given one on, and the first of its answers; and their rows."""
    found: dict[bytes, Stock] = {key: Stock([], {}, unfit.get(key, NONE)) for key in wanted}
    prompts: set[int] = set()
    for (key, since), (_, prompt, *sample) in _rows(connection, sql.STOCKS, list(wanted.items())):
        prompts.add(prompt)
        put(found[key], key, sample, since)
    for key, stock in found.items():
        put_in_order(stock, wanted[key])
    return found, prompts


def put(stock: Stock, key: bytes, sample: Sequence[Any], since: int = 0) -> None:
    """Add a sample to *stock*, which begins *since* a position; with its answer, if it is one of the first."""
    position, *columns = sample
    stock.positions.append(whole(position))
    if position < since + sql.ANSWERS_LOADED:
        stock.answers[position] = read_answer(key, position, columns)


def put_in_order(stock: Stock, since: int = 0) -> None:
    """Sort what was put into *stock*. Raises DataError for a position that nobody can have bought."""
    positions = stock.positions
    positions.sort()
    if positions and positions[-1] >= since + len(positions) + MOST_HOLES:
        raise DataError("a position in it is damaged")


def answers(connection: Connection, places: Iterable[Place]) -> dict[Place, Answer | CacheCorrupt]:
    """The answers at these places; those where there is none are left out."""
    found: dict[Place, Answer | CacheCorrupt] = {}
    for span, row in _rows(connection, sql.ANSWERS, _spans(places)):
        key, position = span[0], row[1]
        found[key, position] = read_answer(key, position, row[2:])
    return found


def _spans(places: Iterable[Place]) -> list[tuple[bytes, int, int]]:
    """The key, the first and the last position of each run of *places* that follow one another."""
    spans: list[tuple[bytes, int, int]] = []
    key, first, last = b"", 0, -1
    for place in places:
        if place != (key, last + 1):
            if last >= first:
                spans.append((key, first, last))
            key, first = place
        last = place[1]
    return [*spans, (key, first, last)] if last >= first else spans


def draws(connection: Connection, places: Iterable[Owned], unfit: Unfit) -> tuple[dict[Owned, list[Drawn]], set[int]]:
    """What each namespace got of each prompt, the latest last, without what was rejected since; and their rows."""
    found: dict[Owned, list[Drawn]] = {place: [] for place in places}
    prompts: set[int] = set()
    for place, (_, prompt, *draw) in _rows(connection, sql.DRAWS, list(found)):
        prompts.add(prompt)
        found[place] += drawn(place, draw, unfit)
    return found, prompts


def drawn(place: Owned, draw: Sequence[Any], unfit: Unfit) -> list[Drawn]:
    """What is recorded in a row; nothing, if it was rejected since."""
    namespace, key = place
    label, ordinal, position, *sealed = draw
    if not is_sealed(namespace.encode(), key, label, ordinal, position, *sealed):
        raise damaged_assignment(key)
    if unfit and position in unfit.get(key, NONE):
        return []
    return [Drawn(label and label.decode(), ordinal, position)]


def unused(connection: Connection, found: Mapping[tuple[str, bytes], Sequence[Drawn]]) -> set[str]:
    """Those of the namespaces whose draws were *found*, or not, that have drawn nothing at all."""
    names = {namespace for namespace, _ in found} - {namespace for (namespace, _), drawn in found.items() if drawn}
    known = {name for (name,), _ in _rows(connection, sql.NAMESPACES, [(name,) for name in names])}
    return names - known


def lowest(connection: Connection, labels: Iterable[Label]) -> dict[Label, int]:
    """The lowest position that any namespace recorded under each label, where one did."""
    found: dict[Label, int] = {}
    for label, (_, namespace, position, *sealed) in _rows(connection, sql.LOWEST_OF_LABEL, list(labels)):
        key, request_id, ordinal = label
        if not is_sealed(namespace, key, request_id.encode(), ordinal, position, *sealed):
            raise damaged_assignment(key)
        found[label] = position
    return found


def rejections(connection: Connection, since: int) -> Iterator[tuple[int, Place]]:
    """The rejected samples after the row *since*, each with its row."""
    (last,) = connection.execute(sql.LAST_REJECTION).fetchone()
    if last is not None and whole(last) > since:
        for row, key, position in connection.execute(sql.REJECTIONS_SINCE, (since,)):
            yield whole(row), (key, whole(position))


def known_prompts(connection: Connection, limit: int) -> list[KnownPrompt]:
    """The newest prompts."""
    rows = connection.execute(sql.KNOWN_PROMPTS, (limit,))
    return [KnownPrompt(_text(scope), _text(prompt), samples) for scope, prompt, samples in rows]


def _rows(
    connection: Connection, statements: Mapping[int, str], questions: Sequence[Question]
) -> Iterator[tuple[Question, Row]]:
    """The rows that answer *questions*, each with its question, whose number comes first in the row."""
    for start in range(0, len(questions), sql.SIZES[-1]):
        asked = questions[start : start + sql.SIZES[-1]]
        size = next(size for size in sql.SIZES if size >= len(asked))
        values = [value for question in asked for value in question]
        values += [None] * ((size - len(asked)) * len(asked[0]))
        for row in connection.execute(statements[size], values).fetchall():
            number: int = row[0]
            yield asked[number], row


def whole(value: Any) -> int:
    """*value*, if it is a whole number. Raises DataError where damage has made it something else."""
    if type(value) is not int:
        raise DataError("a number in it is damaged")
    return value


def _text(value: Any) -> str:
    if type(value) is not bytes:
        raise DataError("a text in it is damaged")
    return value.decode()
