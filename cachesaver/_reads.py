"""What a cache file knows. Each function runs inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable
from sqlite3 import Connection, DataError
from typing import Any

from . import _statements as sql
from ._errors import CacheCorrupt
from ._records import Answer, Drawn, KnownPrompt, Stock
from ._rows import damaged_assignment, is_sealed, read_answer

MOST_HOLES = 100_000  #: a prompt's positions that may be free below its last; failed purchases leave a few

Label = tuple[bytes, str, int]


def stock(connection: Connection, key: bytes) -> Stock:
    """Every position of a prompt, and its first answers."""
    rows = connection.execute(sql.FIRST_SAMPLES, (key,)).fetchall()
    answers = {_whole(row[0]): read_answer(key, row) for row in rows}
    positions = tuple(answers)
    if len(rows) == sql.ANSWERS_LOADED:
        later = connection.execute(sql.LATER_POSITIONS, (key, positions[-1]))
        positions += tuple(_whole(position) for (position,) in later)
    if positions and positions[-1] >= len(positions) + MOST_HOLES:
        raise DataError("a position in it is damaged")
    return Stock(positions, answers)


def answer(connection: Connection, key: bytes, position: int) -> Answer | CacheCorrupt | None:
    """The answer at one place, None if there is none."""
    row = connection.execute(sql.ONE_SAMPLE, (key, position)).fetchone()
    # With the position asked for: a damaged index can lead to the whole row of another.
    return row and read_answer(key, (position, *row[1:]))


def draws(connection: Connection, namespace: str, key: bytes) -> tuple[Drawn, ...]:
    """What *namespace* was given of a prompt, the latest last."""
    owner = namespace.encode()
    drawn: list[Drawn] = []
    for label, ordinal, position, *sealed in connection.execute(sql.DRAWS, (key, namespace)):
        if not is_sealed(owner, key, label, ordinal, position, *sealed):
            raise damaged_assignment(key)
        drawn.append(Drawn(label and label.decode(), ordinal, position))
    return tuple(drawn)


def lowest(connection: Connection, labels: Iterable[Label]) -> dict[Label, int]:
    """The lowest position that any namespace recorded under each label, where one did."""
    found: dict[Label, int] = {}
    for label in labels:
        row = connection.execute(sql.LOWEST_OF_LABEL, label).fetchone()
        if row:
            namespace, position, *sealed = row
            key, request_id, ordinal = label
            if not is_sealed(namespace, key, request_id.encode(), ordinal, position, *sealed):
                raise damaged_assignment(key)
            found[label] = position
    return found


def known_prompts(connection: Connection, limit: int) -> list[KnownPrompt]:
    """The newest prompts."""
    rows = connection.execute(sql.KNOWN_PROMPTS, (limit,))
    return [KnownPrompt(_text(scope), _text(prompt), samples) for scope, prompt, samples in rows]


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise DataError("a number in it is damaged")
    return value


def _text(value: Any) -> str:
    if type(value) is not bytes:
        raise DataError("a text in it is damaged")
    return value.decode()
