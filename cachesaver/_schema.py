"""The tables of a cache file, and the test that a file has exactly these."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ._errors import CacheCorrupt, CacheUnavailable

APPLICATION_ID = 0x63616368  # "cach"
VERSION = 1

# The statements stand here exactly as SQLite keeps them, so that a file is ours
# if and only if its schema has these texts: no trigger or view of a stranger's.
STATEMENTS = (
    """\
CREATE TABLE prompts (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE CHECK (length(key) = 32),
    scope TEXT NOT NULL,
    prompt TEXT NOT NULL,
    first_seen TEXT NOT NULL
) STRICT""",
    """\
CREATE TABLE samples (
    id INTEGER PRIMARY KEY,
    prompt_id INTEGER NOT NULL REFERENCES prompts (id),
    position INTEGER NOT NULL CHECK (position >= 0),
    answer TEXT NOT NULL,
    bought_at TEXT NOT NULL,
    seconds REAL NOT NULL,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost REAL,
    checksum BLOB NOT NULL CHECK (length(checksum) = 16),
    UNIQUE (prompt_id, position)
) STRICT""",
    """\
CREATE TABLE namespaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT""",
    """\
CREATE TABLE assignments (
    id INTEGER PRIMARY KEY,
    namespace_id INTEGER NOT NULL REFERENCES namespaces (id),
    prompt_id INTEGER NOT NULL,
    request_id TEXT CHECK (request_id <> ''),
    ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
    position INTEGER NOT NULL,
    delivered_at TEXT NOT NULL,
    checksum BLOB NOT NULL CHECK (length(checksum) = 16),
    FOREIGN KEY (prompt_id, position) REFERENCES samples (prompt_id, position)
) STRICT""",
    """\
CREATE TABLE spills (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    taken_in_at TEXT NOT NULL
) STRICT""",
    """\
CREATE INDEX assignments_by_namespace
ON assignments (namespace_id, prompt_id)""",
    """\
CREATE INDEX assignments_by_label
ON assignments (prompt_id, request_id, ordinal, position)
WHERE request_id IS NOT NULL""",
    """\
CREATE VIEW overview AS
SELECT prompts.scope, prompts.prompt, samples.position, samples.answer,
    namespaces.name AS namespace, assignments.request_id, assignments.ordinal,
    assignments.delivered_at, samples.bought_at, samples.seconds,
    samples.input_tokens, samples.output_tokens, samples.cost
FROM prompts
JOIN samples ON samples.prompt_id = prompts.id
LEFT JOIN assignments
    ON assignments.prompt_id = samples.prompt_id
    AND assignments.position = samples.position
LEFT JOIN namespaces ON namespaces.id = assignments.namespace_id
ORDER BY prompts.id, samples.position, assignments.id""",
    *(
        f"CREATE TRIGGER {table}_never_{verb.lower()} BEFORE {verb} ON {table}\n"
        f"BEGIN SELECT RAISE(ABORT, 'a cache only grows: {table} are never changed'); END"
        for table in ("prompts", "samples", "namespaces", "assignments", "spills")
        for verb in ("UPDATE", "DELETE")
    ),
)


SCHEMA = "".join(f"{statement};\n" for statement in STATEMENTS)


def write_schema(connection: sqlite3.Connection) -> None:
    """Make an empty database a cache, in one transaction."""
    from sqlite_utils import Database  # here, for it is slow to import

    Database(connection, execute_plugins=False).executescript(
        f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {SCHEMA} COMMIT;"
    )


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


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a cache whose schema is not word for word ours."""
    # No sqlite_utils here: to import it takes longer than all else that opening does.
    found = [statement for (statement,) in connection.execute("SELECT sql FROM sqlite_schema WHERE sql NOT NULL")]
    if not all(isinstance(statement, str) for statement in found):
        raise CacheCorrupt(
            f"{path} has a damaged schema; it was not touched. Restore a copy of it, or choose another path."
        )
    if sorted(found) != sorted(STATEMENTS):  # VACUUM changes their order
        raise CacheCorrupt(
            f"{path} has other tables, triggers or views than cachesaver writes; nothing was changed. Remove"
            " what was added to it, or choose another path."
        )
