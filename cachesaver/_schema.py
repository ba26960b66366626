"""The schema of a cache file: written, checked to be exactly ours, and brought up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ._errors import CacheCorrupt, CacheUnavailable
from ._tables import ADDED, OF_VERSION, STATEMENTS, VERSION

APPLICATION_ID = 0x63616368  # "cach"
SCHEMA = "".join(f"{statement};\n" for statement in STATEMENTS)
UPGRADE = "".join(f"{statement};\n" for statement in ("DROP VIEW overview", *ADDED))


def write_schema(connection: sqlite3.Connection) -> None:
    """Make an empty database a cache, in one transaction."""
    _execute(connection, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {SCHEMA}")


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring a cache of version 1 up to date, in one transaction: nothing that is in it changes."""
    _execute(connection, f"{UPGRADE} PRAGMA user_version = {VERSION};")


def stand_in(connection: sqlite3.Connection) -> None:
    """Give a cache of version 1 that cannot be written the tables it lacks, empty and in memory."""
    for statement in ADDED:
        if statement.startswith("CREATE TABLE"):
            connection.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))


def check_header(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not a cache, or one of a later version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise CacheCorrupt(f"{path} is a database of something else; it was not touched. Choose another path.")
    if version > VERSION:
        raise CacheUnavailable(
            f"{path} was written by a newer cachesaver (format {version}, this one reads"
            f" {VERSION}); it was not touched. Upgrade cachesaver, or choose another path."
        )


def check_schema(connection: sqlite3.Connection, path: Path) -> bool:
    """Refuse a cache whose schema is not word for word ours; whether it is up to date."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    # No sqlite_utils here: to import it takes longer than all else that opening does.
    # As bytes: what is no UTF-8 would leave the statement, and with it the file, open.
    found = [sql for (sql,) in connection.execute("SELECT CAST(sql AS BLOB) FROM sqlite_schema WHERE sql NOT NULL")]
    wanted = [statement.encode() for statement in OF_VERSION.get(version, ())]
    if sorted(found) != sorted(wanted):  # VACUUM changes their order
        raise CacheCorrupt(
            f"{path} has other tables, triggers or views than cachesaver writes, or they are damaged; nothing was"
            " changed. Remove what was added to it, restore a copy of it, or choose another path."
        )
    return version == VERSION


def _execute(connection: sqlite3.Connection, script: str) -> None:
    from sqlite_utils import Database  # here, for it is slow to import

    Database(connection, execute_plugins=False).executescript(f"BEGIN IMMEDIATE; {script} COMMIT;")
