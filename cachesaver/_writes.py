"""New rows of a cache file. Each function runs inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from sqlite3 import Connection

from . import _statements as sql
from ._drawer import sole
from ._errors import CacheCorrupt, CacheError
from ._reads import Unfit, answers, draws
from ._records import Bought, Entry, Placed, Record, Rejected
from ._rows import seal, write_row

# What is wrong with one row alone, and leaves the transaction as it was.
_ROW_ERRORS = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)


def keep(connection: Connection, one: Bought, now: str) -> Placed | CacheError:
    """Store one answer, or say why it cannot be stored; its neighbours are not touched."""
    connection.execute("SAVEPOINT one")
    try:
        placed = _placed(connection, one, now)
    except _ROW_ERRORS as error:
        connection.execute("ROLLBACK TO one")
        placed = CacheError(f"this answer could not be stored: {error}. The others of its batch were kept.")
    connection.execute("RELEASE one")
    return placed


def record(connection: Connection, records: Sequence[Record], now: str) -> list[Record]:
    """Store assignments, of which the latest counts; those that name no stored sample come back."""
    for namespace in {one.namespace for one in records}:
        connection.execute(sql.ADD_NAMESPACE, (namespace,))
    return [one for one in records if not _recorded(connection, one, now)]


def contested(connection: Connection, records: Sequence[Record], unfit: Unfit) -> list[Record]:
    """Of *records* with an id: those whose position another draw has, or whose draw has another position."""
    lost: list[Record] = []
    drawn, _ = draws(connection, {(one.namespace, one.key) for one in records}, unfit)
    held = {place: sole(draws) for place, draws in drawn.items()}
    holders = {place: {position: draw for draw, position in draws.items()} for place, draws in held.items()}
    for one in records:
        place, draw = (one.namespace, one.key), (one.request_id, one.ordinal)
        if one.position in unfit.get(one.key, ()):
            lost.append(one)
            continue
        mine = held[place].setdefault(draw, one.position) == one.position
        if one.request_id is not None and not (mine and holders[place].setdefault(one.position, draw) == draw):
            lost.append(one)
    return lost


def reject(connection: Connection, rejected: Sequence[Rejected], now: str) -> list[Rejected]:
    """Mark samples as unfit, for the first reason given; those that are not in the file come back."""
    return [one for one in rejected if not _rejected(connection, one, now)]


def enter(connection: Connection, entries: Sequence[Entry], now: str) -> None:
    """Add lines to the ledger. One that cannot be kept is left out: samples are worth more."""
    for entry in entries:
        connection.execute("SAVEPOINT line")
        try:
            connection.execute(sql.ADD_RUN, entry.run)
            connection.execute(sql.ADD_NAMESPACE, (entry.namespace,))
            connection.execute(sql.ADD_ENTRY, (entry.run.name, *entry[1:], now))
        except _ROW_ERRORS:
            connection.execute("ROLLBACK TO line")
        connection.execute("RELEASE line")


def take_spill(connection: Connection, digest: str, now: str) -> bool:
    """Note that a spill file is being taken in; False if it was before."""
    return connection.execute(sql.ADD_SPILL, (digest, now)).rowcount == 1


def _placed(connection: Connection, one: Bought, now: str) -> Placed:
    """Keep *one* where it was wanted, or behind all others if that place is taken."""
    prompt = _prompt_id(connection, one, now)
    if _inserted(connection, prompt, one, one.position, now):
        return Placed(one.position, None)
    stored = answers(connection, [(one.key, one.position)]).get((one.key, one.position))
    (end,) = connection.execute(sql.NEXT_POSITION, (prompt,)).fetchone()
    _inserted(connection, prompt, one, end, now)
    return Placed(end, None if isinstance(stored, CacheCorrupt) else stored)


def _inserted(connection: Connection, prompt: int, one: Bought, position: int, now: str) -> bool:
    row = write_row(one.key, position, one.answer, now)
    return connection.execute(sql.ADD_SAMPLE, (prompt, *row, one.cost)).rowcount == 1


def _prompt_id(connection: Connection, one: Bought, now: str) -> int:
    found = connection.execute(sql.FIND_PROMPT, (one.key,)).fetchone()
    if not found:
        connection.execute(sql.ADD_PROMPT, (one.key, one.scope, one.prompt, now))
        found = connection.execute(sql.FIND_PROMPT, (one.key,)).fetchone()
    return found[0]


def _recorded(connection: Connection, one: Record, now: str) -> bool:
    row = (one.namespace, one.key, one.request_id, one.ordinal, one.position, now)
    try:
        connection.execute(sql.ADD_ASSIGNMENT, (*row, seal(one, now)))
    except _ROW_ERRORS:
        return False
    return True


def _rejected(connection: Connection, one: Rejected, now: str) -> bool:
    try:
        connection.execute(sql.ADD_REJECTION, (one.key, one.position, one.reason, now))
    except _ROW_ERRORS:
        return False
    return True


def followed(
    records: Sequence[Record], bought: Sequence[Bought], placed: Sequence[Placed | CacheError]
) -> Sequence[Record]:
    """*records*, of which those that follow their samples name the places where these were kept."""
    pairs = zip(bought, placed, strict=True)
    places = {(one.key, one.position): place.position for one, place in pairs if isinstance(place, Placed)}
    return [
        one._replace(position=places.get((one.key, one.position), one.position)) if one.follows else one
        for one in records
    ]


def refuse_strays(strays: Sequence[Record], bought: Sequence[Bought], placed: Sequence[Placed | CacheError]) -> None:
    """Raise for assignments to samples that nobody stored, but for those of answers that just failed."""
    pairs = zip(bought, placed, strict=True)
    failed = {(one.key, one.position) for one, place in pairs if isinstance(place, CacheError)}
    wrong = [stray for stray in strays if (stray.key, stray.position) not in failed]
    if wrong:
        raise CacheError(
            f"{len(wrong)} assignments name samples that are not stored, the first {wrong[0]}; all the rest"
            " was kept. This is a bug in cachesaver: please report it."
        )
