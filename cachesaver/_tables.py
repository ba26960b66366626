"""The tables, views and triggers of a cache file: the texts of each version of them."""

from __future__ import annotations

VERSION = 2


def _growing(*tables: str) -> list[str]:
    """Triggers that keep rows of these *tables* as they were written."""
    return [
        f"CREATE TRIGGER {table}_never_{verb.lower()} BEFORE {verb} ON {table}\n"
        f"BEGIN SELECT RAISE(ABORT, 'a cache only grows: {table} are never changed'); END"
        for table in tables
        for verb in ("UPDATE", "DELETE")
    ]


# The statements stand here exactly as SQLite keeps them, so that a file is ours
# if and only if its schema has these texts: no trigger or view of a stranger's.
FIRST_OVERVIEW = """\
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
ORDER BY prompts.id, samples.position, assignments.id"""

FIRST = (
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
    FIRST_OVERVIEW,
    *_growing("prompts", "samples", "namespaces", "assignments", "spills"),
)

ADDED = (
    """\
CREATE TABLE rejections (
    id INTEGER PRIMARY KEY,
    prompt_id INTEGER NOT NULL,
    position INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rejected_at TEXT NOT NULL,
    UNIQUE (prompt_id, position),
    FOREIGN KEY (prompt_id, position) REFERENCES samples (prompt_id, position)
) STRICT""",
    """\
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    program TEXT NOT NULL,
    started_at TEXT NOT NULL
) STRICT""",
    """\
CREATE TABLE ledger (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES runs (id),
    namespace_id INTEGER NOT NULL REFERENCES namespaces (id),
    model TEXT NOT NULL,
    entered_at TEXT NOT NULL,
    requests INTEGER NOT NULL,
    asked INTEGER NOT NULL,
    bought INTEGER NOT NULL,
    reused INTEGER NOT NULL,
    input_tokens_spent INTEGER NOT NULL,
    output_tokens_spent INTEGER NOT NULL,
    input_tokens_saved INTEGER NOT NULL,
    output_tokens_saved INTEGER NOT NULL,
    seconds_spent REAL NOT NULL,
    seconds_saved REAL NOT NULL,
    cost_spent REAL,
    cost_saved REAL
) STRICT""",
    """\
CREATE VIEW overview AS
SELECT prompts.scope, prompts.prompt, samples.position, samples.answer,
    namespaces.name AS namespace, assignments.request_id, assignments.ordinal,
    assignments.delivered_at, samples.bought_at, samples.seconds,
    samples.input_tokens, samples.output_tokens, samples.cost,
    rejections.reason AS rejected
FROM prompts
JOIN samples ON samples.prompt_id = prompts.id
LEFT JOIN assignments
    ON assignments.prompt_id = samples.prompt_id
    AND assignments.position = samples.position
LEFT JOIN namespaces ON namespaces.id = assignments.namespace_id
LEFT JOIN rejections
    ON rejections.prompt_id = samples.prompt_id
    AND rejections.position = samples.position
ORDER BY prompts.id, samples.position, assignments.id""",
    """\
CREATE VIEW samples_per_prompt AS
SELECT prompts.id AS prompt_id, scope, prompt, first_seen,
    ifnull(bought.samples, 0) AS samples, ifnull(refused.samples, 0) AS rejected,
    ifnull(drawn.namespaces, 0) AS namespaces
FROM prompts
LEFT JOIN (SELECT prompt_id, count(*) AS samples FROM samples GROUP BY prompt_id)
    AS bought ON bought.prompt_id = prompts.id
LEFT JOIN (SELECT prompt_id, count(*) AS samples FROM rejections GROUP BY prompt_id)
    AS refused ON refused.prompt_id = prompts.id
LEFT JOIN (SELECT prompt_id, count(DISTINCT namespace_id) AS namespaces FROM assignments GROUP BY prompt_id)
    AS drawn ON drawn.prompt_id = prompts.id""",
    *(
        f"""\
CREATE VIEW ledger_by_{name} AS
SELECT {column},
    sum(requests) AS requests, sum(asked) AS asked, sum(bought) AS bought, sum(reused) AS reused,
    sum(input_tokens_spent) AS input_tokens_spent, sum(output_tokens_spent) AS output_tokens_spent,
    sum(input_tokens_saved) AS input_tokens_saved, sum(output_tokens_saved) AS output_tokens_saved,
    sum(seconds_spent) AS seconds_spent, sum(seconds_saved) AS seconds_saved,
    sum(cost_spent) AS cost_spent, sum(cost_saved) AS cost_saved
FROM ledger
JOIN runs ON runs.id = run_id
JOIN namespaces ON namespaces.id = namespace_id
GROUP BY {group}"""
        for name, column, group in (
            ("run", "runs.name AS run, program, started_at", "run_id"),
            ("namespace", "namespaces.name AS namespace", "namespace_id"),
            ("model", "model", "model"),
        )
    ),
    *_growing("rejections", "runs", "ledger"),
)

STATEMENTS = (*(statement for statement in FIRST if statement != FIRST_OVERVIEW), *ADDED)
OF_VERSION = {1: FIRST, VERSION: STATEMENTS}
