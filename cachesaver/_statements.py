"""The SQL that runs often. Constant texts with bound parameters, nothing else."""

from __future__ import annotations

ANSWERS_LOADED = 8  #: answers that come with the positions of a prompt
SIZES = (1, 8, 64)  #: questions that one statement takes; fewer are filled up with NULLs, which equal nothing


def _for_each_size(columns: str, select: str) -> dict[int, str]:
    """Statements that answer many questions of these *columns*; each row begins with the number of its question."""
    marks = ", ".join("?" for _ in columns.split(","))
    return {
        size: f"WITH asked (number, {columns}) AS (VALUES {', '.join(f'({n}, {marks})' for n in range(size))}) {select}"
        for size in SIZES
    }


# CROSS JOIN keeps SQLite from beginning elsewhere than with what was asked.
_PROMPTS = "asked CROSS JOIN prompts ON prompts.key = asked.key"
_COLUMNS = ("answer", "bought_at", "seconds", "input_tokens", "output_tokens", "checksum")
_SAMPLE = ", ".join(("position", *_COLUMNS))

STOCKS = _for_each_size(
    "key, since",
    f"""
SELECT number, prompt_id, position,
    {", ".join(f"iif(position < since + {ANSWERS_LOADED}, {name}, NULL)" for name in _COLUMNS)}
FROM {_PROMPTS} CROSS JOIN samples ON prompt_id = prompts.id AND position >= since""",
)

ANSWERS = _for_each_size(
    "key, first, last",
    f"""
SELECT number, {_SAMPLE}
FROM {_PROMPTS} CROSS JOIN samples ON prompt_id = prompts.id AND position BETWEEN first AND last""",
)

DRAWS = _for_each_size(
    "namespace, key",
    f"""
SELECT number, prompt_id, request_id, ordinal, position, delivered_at, checksum
FROM {_PROMPTS} CROSS JOIN namespaces ON name = namespace
CROSS JOIN assignments ON namespace_id = namespaces.id AND prompt_id = prompts.id
ORDER BY assignments.id""",
)

NAMESPACES = _for_each_size("namespace", "SELECT number FROM asked CROSS JOIN namespaces ON name = namespace")

LOWEST_OF_LABEL = _for_each_size(
    "key, label, nth",
    f"""
SELECT number, (SELECT name FROM namespaces WHERE id = namespace_id), position, delivered_at, checksum
FROM {_PROMPTS} CROSS JOIN assignments ON assignments.id = (
    SELECT id FROM assignments AS drawn WHERE prompt_id = prompts.id AND request_id = label AND ordinal = nth
    AND NOT EXISTS (SELECT 1 FROM rejections WHERE prompt_id = drawn.prompt_id AND position = drawn.position)
    ORDER BY position LIMIT 1
)""",
)

# The same of prompts that stand one behind the other, up to a number of rows.
STOCKS_AHEAD = f"""
SELECT prompts.id, key, position, {", ".join(f"iif(position < {ANSWERS_LOADED}, {name}, NULL)" for name in _COLUMNS)}
FROM prompts CROSS JOIN samples ON prompt_id = prompts.id
WHERE prompts.id BETWEEN ? AND ? ORDER BY prompts.id LIMIT ?"""

DRAWS_AHEAD = """
SELECT prompt_id, request_id, ordinal, position, delivered_at, checksum
FROM assignments WHERE namespace_id = (SELECT id FROM namespaces WHERE name = ?) AND prompt_id BETWEEN ? AND ?
ORDER BY prompt_id, id LIMIT ?"""

NEXT_POSITION = "SELECT max(position) + 1 FROM samples WHERE prompt_id = ?"

KNOWN_PROMPTS = """
SELECT scope, prompt, (SELECT count(*) FROM samples WHERE prompt_id = prompts.id)
FROM prompts ORDER BY id DESC LIMIT ?"""

FIND_PROMPT = "SELECT id FROM prompts WHERE key = ?"

ADD_PROMPT = "INSERT INTO prompts (key, scope, prompt, first_seen) VALUES (?, ?, ?, ?)"

ADD_SAMPLE = f"""
INSERT INTO samples (prompt_id, {_SAMPLE}, cost) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (prompt_id, position) DO NOTHING"""

ADD_NAMESPACE = "INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING"

ADD_ASSIGNMENT = """
INSERT INTO assignments (namespace_id, prompt_id, request_id, ordinal, position, delivered_at, checksum)
VALUES (
    (SELECT id FROM namespaces WHERE name = ?), (SELECT id FROM prompts WHERE key = ?),
    ?, ?, ?, ?, ?
)"""

REJECTIONS_SINCE = """
SELECT rejections.id, key, position FROM rejections JOIN prompts ON prompts.id = prompt_id WHERE rejections.id > ?"""

LAST_REJECTION = "SELECT max(id) FROM rejections"

ADD_REJECTION = """
INSERT INTO rejections (prompt_id, position, reason, rejected_at)
VALUES ((SELECT id FROM prompts WHERE key = ?), ?, ?, ?)
ON CONFLICT DO NOTHING"""

ADD_RUN = "INSERT INTO runs (name, program, started_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"

ADD_ENTRY = """
INSERT INTO ledger (
    run_id, namespace_id, model, requests, asked, bought, reused,
    input_tokens_spent, output_tokens_spent, input_tokens_saved, output_tokens_saved,
    seconds_spent, seconds_saved, cost_spent, cost_saved, entered_at
) VALUES (
    (SELECT id FROM runs WHERE name = ?), (SELECT id FROM namespaces WHERE name = ?),
    ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
)"""

ADD_SPILL = "INSERT INTO spills (digest, taken_in_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
