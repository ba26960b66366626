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
SELECT number, position, {", ".join(f"iif(position < since + {ANSWERS_LOADED}, {name}, NULL)" for name in _COLUMNS)}
FROM {_PROMPTS} CROSS JOIN samples ON prompt_id = prompts.id AND position >= since""",
)

ANSWERS = _for_each_size(
    "key, place",
    f"SELECT number, {_SAMPLE} FROM {_PROMPTS} CROSS JOIN samples ON prompt_id = prompts.id AND position = place",
)

DRAWS = _for_each_size(
    "namespace, key",
    f"""
SELECT number, request_id, ordinal, position, delivered_at, checksum
FROM {_PROMPTS} CROSS JOIN namespaces ON name = namespace
CROSS JOIN assignments ON namespace_id = namespaces.id AND prompt_id = prompts.id
ORDER BY assignments.id""",
)

LOWEST_OF_LABEL = _for_each_size(
    "key, label, nth",
    f"""
SELECT number, (SELECT name FROM namespaces WHERE id = namespace_id), position, delivered_at, checksum
FROM {_PROMPTS} CROSS JOIN assignments ON assignments.id = (
    SELECT id FROM assignments WHERE prompt_id = prompts.id AND request_id = label AND ordinal = nth
    ORDER BY position LIMIT 1
)""",
)

NEXT_POSITION = "SELECT max(position) + 1 FROM samples WHERE prompt_id = ?"

KNOWN_PROMPTS = """
SELECT scope, prompt, (SELECT count(*) FROM samples WHERE prompt_id = prompts.id)
FROM prompts ORDER BY id DESC LIMIT ?"""

FIND_PROMPT = "SELECT id FROM prompts WHERE key = ?"

ADD_PROMPT = "INSERT INTO prompts (key, scope, prompt, first_seen) VALUES (?, ?, ?, ?)"

ADD_SAMPLE = f"""
INSERT INTO samples (prompt_id, {_SAMPLE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (prompt_id, position) DO NOTHING"""

ADD_NAMESPACE = "INSERT INTO namespaces (name) VALUES (?) ON CONFLICT DO NOTHING"

ADD_ASSIGNMENT = """
INSERT INTO assignments (namespace_id, prompt_id, request_id, ordinal, position, delivered_at, checksum)
VALUES (
    (SELECT id FROM namespaces WHERE name = ?), (SELECT id FROM prompts WHERE key = ?),
    ?, ?, ?, ?, ?
)"""

ADD_SPILL = "INSERT INTO spills (digest, taken_in_at) VALUES (?, ?) ON CONFLICT DO NOTHING"
