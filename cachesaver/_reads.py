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
Label = tuple[bytes, str, int]
Unfit = Mapping[bytes, frozenset[int]]  # the rejected positions of prompts that have any
Question = TypeVar("Question", bound=tuple[Any, ...])


def stocks(connection: Connection, wanted: Mapping[bytes, int], unfit: Unfit) -> dict[bytes, Stock]:
    """For each prompt every position from a given one on, and the first of its answers."""
    found: dict[bytes, Stock] = {key: Stock([], {}, unfit.get(key, NONE)) for key in wanted}
    for (key, since), (_, position, *columns) in _rows(connection, sql.STOCKS, list(wanted.items())):
        stock = found[key]
        stock.positions.append(_whole(position))
        if position < since + sql.ANSWERS_LOADED:
            stock.answers[position] = read_answer(key, position, columns)
    for key, (positions, _, _) in found.items():
        positions.sort()
        if positions and positions[-1] >= wanted[key] + len(positions) + MOST_HOLES:
            raise DataError("a position in it is damaged")
    return found


def answers(connection: Connection, places: Iterable[Place]) -> dict[Place, Answer | CacheCorrupt]:
    """The answers at these places; those where there is none are left out."""
    # With the position asked for: a damaged index can lead to the whole row of another.
    return {
        (key, position): read_answer(key, position, columns)
        for (key, position), (_, _, *columns) in _rows(connection, sql.ANSWERS, list(places))
    }


def draws(
    connection: Connection, places: Iterable[tuple[str, bytes]], unfit: Unfit
) -> dict[tuple[str, bytes], list[Drawn]]:
    """What each namespace was given of each prompt, the latest last; without what was rejected since."""
    found: dict[tuple[str, bytes], list[Drawn]] = {place: [] for place in places}
    for place, (_, label, ordinal, position, *sealed) in _rows(connection, sql.DRAWS, list(found)):
        namespace, key = place
        if not is_sealed(namespace.encode(), key, label, ordinal, position, *sealed):
            raise damaged_assignment(key)
        if not unfit or position not in unfit.get(key, NONE):
            found[place].append(Drawn(label and label.decode(), ordinal, position))
    return found


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
    if last is not None and _whole(last) > since:
        for row, key, position in connection.execute(sql.REJECTIONS_SINCE, (since,)):
            yield _whole(row), (key, _whole(position))


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


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise DataError("a number in it is damaged")
    return value


def _text(value: Any) -> str:
    if type(value) is not bytes:
        raise DataError("a text in it is damaged")
    return value.decode()
