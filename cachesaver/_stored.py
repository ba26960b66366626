"""A stored sample with all that belongs to it: how it travels from cache to cache, and reads as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from ._errors import CacheCorrupt
from ._labels import check_label
from ._looking import PAGE, Look
from ._prompt import decode, encode
from ._records import Answer, Usage
from ._rows import damaged_assignment, is_sealed, read_answer

_LAST = "SELECT ifnull(max(id), 0) FROM samples"
_USES = (
    """
CREATE TEMP TABLE uses AS
SELECT prompt_id, position, CAST(name AS BLOB) AS namespace, CAST(request_id AS BLOB) AS request_id, ordinal,
    CAST(delivered_at AS BLOB) AS delivered_at, checksum, assignments.id AS id
FROM assignments JOIN namespaces ON namespaces.id = namespace_id""",
    "CREATE INDEX temp.uses_by_sample ON uses (prompt_id, position, id)",
)
_SAMPLES = f"""
SELECT samples.prompt_id, samples.position, key, scope, prompt, CAST(answer AS BLOB), CAST(bought_at AS BLOB),
    seconds, input_tokens, output_tokens, checksum, cost, reason, rejected_at
FROM samples JOIN prompts ON prompts.id = samples.prompt_id
LEFT JOIN rejections ON rejections.prompt_id = samples.prompt_id AND rejections.position = samples.position
WHERE (samples.prompt_id, samples.position) > (?, ?) AND samples.id <= ?
ORDER BY samples.prompt_id, samples.position LIMIT {PAGE}"""
_USES_OF = """
SELECT prompt_id, position, namespace, request_id, ordinal, delivered_at, checksum FROM uses
WHERE (prompt_id, position) BETWEEN (?, ?) AND (?, ?) ORDER BY prompt_id, position, id"""


class Use(NamedTuple):
    """Who drew a sample."""

    namespace: str
    request_id: str | None
    ordinal: int
    delivered_at: str | None


class StoredSample(NamedTuple):
    """A sample; prompt and answer as JSON texts. What a line from elsewhere does not say is None."""

    scope: str
    prompt: str
    position: int | None
    answer: Answer
    bought_at: str | None
    cost: float | None
    rejected: str | None
    uses: tuple[Use, ...]


def stored_samples(look: Look) -> Iterator[StoredSample]:
    """All samples of a cache file, prompt by prompt in the order of their positions, as of now.

    Raises `CacheCorrupt` for what is damaged: that must not travel.
    """
    last = look.value(_LAST)
    with look.transaction() as connection:
        for statement in ("DROP TABLE IF EXISTS temp.uses", *_USES):
            connection.execute(statement)
    place = (-1, -1)
    while page := look.rows(_SAMPLES, (*place, last)):
        first, place = tuple(page[0][:2]), tuple(page[-1][:2])
        uses: dict[tuple[int, int], list[Any]] = {}
        for prompt, position, *use in look.rows(_USES_OF, (*first, *place)):
            uses.setdefault((prompt, position), []).append(use)
        for row in page:
            yield _sample(row, uses.get(tuple(row[:2]), []))


def to_line(sample: StoredSample) -> str:
    """One line of JSON, without its end."""
    answer, usage = sample.answer, sample.answer.usage
    fields = {
        "scope": sample.scope,
        "prompt": decode(sample.prompt),
        "position": sample.position,
        "answer": decode(answer.body),
        "bought_at": sample.bought_at,
        "seconds": answer.seconds,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cost": sample.cost,
        "rejected": sample.rejected,
        "uses": [use._asdict() for use in sample.uses],
    }
    return json.dumps(fields, ensure_ascii=False)


def from_line(line: str) -> StoredSample:
    """What a line says; only `prompt`, `answer` and `scope` are needed. Raises TypeError or ValueError."""
    fields = decode(line)
    if not isinstance(fields, dict):
        raise TypeError("it is no JSON object")
    given = cast("dict[str, Any]", fields)
    for name in ("scope", "prompt", "answer"):
        if name not in given:
            raise ValueError(f"it has no {name!r}")
    check_label("scope", given["scope"])
    return StoredSample(
        given["scope"],
        encode(given["prompt"], "a prompt"),
        _optional(given, "position", int),
        Answer(encode(given["answer"], "an answer"), float(given.get("seconds") or 0), _usage(given)),
        _optional(given, "bought_at", str),
        _optional(given, "cost", (int, float)),
        _optional(given, "rejected", str),
        tuple(_use(use) for use in given.get("uses") or ()),
    )


def _sample(row: Any, uses: list[Any]) -> StoredSample:
    _, position, key, scope, prompt, *columns, cost, reason, _ = row
    answer = read_answer(key, (position, *columns))
    if isinstance(answer, CacheCorrupt):
        raise CacheCorrupt(
            f"sample {position} of prompt {key.hex()} is damaged, and damage must not travel. Save what is whole"
            " into a new cache with: cachesaver salvage"
        )
    drawn = tuple(_drawn(key, position, *use) for use in uses)
    return StoredSample(scope, prompt, position, answer, columns[1].decode(), cost, reason, drawn)


def _drawn(
    key: bytes, position: int, name: bytes, label: bytes | None, ordinal: int, delivered_at: bytes, checksum: bytes
) -> Use:
    if not is_sealed(name, key, label, ordinal, position, delivered_at, checksum):
        raise damaged_assignment(key)
    return Use(name.decode(), None if label is None else label.decode(), ordinal, delivered_at.decode())


def _use(fields: Any) -> Use:
    given = cast("dict[str, Any]", fields)
    use = Use(
        given["namespace"], _optional(given, "request_id", str), given["ordinal"], _optional(given, "delivered_at", str)
    )
    check_label("namespace", use.namespace)
    if type(use.ordinal) is not int or use.ordinal < 0:
        raise ValueError(f"an ordinal must be a number from 0 on, not {use.ordinal!r}")
    return use


def _usage(given: dict[str, Any]) -> Usage | None:
    sent, received = (_optional(given, name, int) for name in ("input_tokens", "output_tokens"))
    return None if sent is None and received is None else Usage(sent or 0, received or 0)


def _optional(given: dict[str, Any], name: str, kind: Any) -> Any:
    value = given.get(name)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise TypeError(f"its {name!r} is {value!r}")
    if name == "position" and value is not None and value < 0:
        raise ValueError("its 'position' is below 0")
    return value
