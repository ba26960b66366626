"""The SQL that runs often. Constant texts with bound parameters, nothing else."""

from __future__ import annotations

ANSWERS_LOADED = 8

_SAMPLE = "position, answer, bought_at, seconds, input_tokens, output_tokens, checksum"
_OF_KEY = "prompt_id = (SELECT id FROM prompts WHERE key = ?)"

FIRST_SAMPLES = f"""
SELECT {_SAMPLE} FROM samples WHERE {_OF_KEY} ORDER BY position LIMIT {ANSWERS_LOADED}"""

LATER_POSITIONS = f"""
SELECT position FROM samples WHERE {_OF_KEY} AND position > ? ORDER BY position"""

ONE_SAMPLE = f"""
SELECT {_SAMPLE} FROM samples WHERE {_OF_KEY} AND position = ?"""

NEXT_POSITION = "SELECT max(position) + 1 FROM samples WHERE prompt_id = ?"

DRAWS = f"""
SELECT request_id, ordinal, position, delivered_at, checksum FROM assignments
WHERE {_OF_KEY} AND namespace_id = (SELECT id FROM namespaces WHERE name = ?)
ORDER BY id"""

LOWEST_OF_LABEL = f"""
SELECT (SELECT name FROM namespaces WHERE id = namespace_id), position, delivered_at, checksum FROM assignments
WHERE {_OF_KEY} AND request_id = ? AND ordinal = ? ORDER BY position LIMIT 1"""

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
