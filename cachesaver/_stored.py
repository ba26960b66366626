"""A stored sample with all that belongs to it: how it travels from cache to cache, and reads as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple, cast

from ._errors import CacheCorrupt
from ._labels import check_label
from ._looking import PAGE, Look
from ._prompt import Prompt, decode, encode
from ._records import Answer, Usage
from ._rows import damaged_assignment, is_sealed, read_answer

_MOST = 2**53  # what every reader of JSON takes for the same number
_LAST = "SELECT ifnull(max(id), 0) FROM samples"
_USES = (
    """
CREATE TEMP TABLE uses AS
SELECT prompt_id, position, CAST(name AS BLOB) AS namespace, CAST(request_id AS BLOB) AS request_id, ordinal,
    CAST(delivered_at AS BLOB) AS delivered_at, checksum, assignments.id AS id,
    assignments.id < max(assignments.id) OVER (PARTITION BY namespace_id, prompt_id, request_id, ordinal) AS superseded
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
SELECT prompt_id, position, namespace, request_id, ordinal, delivered_at, checksum, superseded FROM uses
WHERE (prompt_id, position) BETWEEN (?, ?) AND (?, ?)
ORDER BY prompt_id, position, delivered_at, namespace, request_id, ordinal"""


class Use(NamedTuple):
    """Who drew a sample; *superseded* if the same draw was given another one later."""

    namespace: str
    request_id: str | None
    ordinal: int
    delivered_at: str | None
    superseded: bool = False


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
    place, checked = (-1, -1), b""
    while page := look.rows(_SAMPLES, (*place, last)):
        first, place = tuple(page[0][:2]), tuple(page[-1][:2])
        uses: dict[tuple[int, int], list[Any]] = {}
        for prompt, position, *use in look.rows(_USES_OF, (*first, *place)):
            uses.setdefault((prompt, position), []).append(use)
        for row in page:
            if row["key"] != checked:
                check_prompt(row["scope"], row["prompt"], row["key"])
                checked = row["key"]
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
        "uses": [{name: value for name, value in use._asdict().items() if value is not False} for use in sample.uses],
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
        _number(given, "position"),
        Answer(encode(given["answer"], "an answer"), _amount(given, "seconds") or 0.0, _usage(given)),
        _time(given, "bought_at"),
        _amount(given, "cost"),
        _text(given, "rejected"),
        tuple(_use(use) for use in given.get("uses") or ()),
    )


def _sample(row: Any, uses: list[Any]) -> StoredSample:
    _, position, key, scope, prompt, *columns, cost, reason, _ = row
    answer = read_answer(key, position, columns)
    if isinstance(answer, CacheCorrupt):
        raise damaged(f"sample {position} of prompt {key.hex()}")
    drawn = tuple(_drawn(key, position, *use) for use in uses)
    return StoredSample(scope, prompt, position, answer, columns[1].decode(), cost, reason, drawn)


def check_prompt(scope: str, prompt: str, key: bytes) -> None:
    """Refuse a prompt that is not the one of its key."""
    try:
        whole = Prompt(decode(prompt)).key(scope) == key
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise damaged(f"prompt {key.hex()}")


def damaged(what: str) -> CacheCorrupt:
    """The error for what must not travel."""
    return CacheCorrupt(
        f"{what} is damaged, and damage must not travel. Save what is whole into a new cache with: cachesaver salvage"
    )


def _drawn(key: bytes, position: int, name: bytes, label: bytes | None, ordinal: int, *rest: Any) -> Use:
    delivered_at, checksum, superseded = rest
    if not is_sealed(name, key, label, ordinal, position, delivered_at, checksum):
        raise damaged_assignment(key)
    request_id = None if label is None else label.decode()
    return Use(name.decode(), request_id, ordinal, delivered_at.decode(), bool(superseded))


def _use(fields: Any) -> Use:
    if not isinstance(fields, dict):
        raise TypeError(f"{fields!r} is not who drew it")
    given = cast("dict[str, Any]", fields)
    ordinal, superseded = _number(given, "ordinal"), given.get("superseded", False)
    if ordinal is None:
        raise ValueError("one who drew it has no 'ordinal'")
    check_label("namespace", given.get("namespace"))
    if given.get("request_id") is not None:
        check_label("request_id", given["request_id"])
    return Use(given["namespace"], given.get("request_id"), ordinal, _time(given, "delivered_at"), superseded is True)


def _usage(given: dict[str, Any]) -> Usage | None:
    sent, received = (_number(given, name) for name in ("input_tokens", "output_tokens"))
    return None if sent is None and received is None else Usage(sent or 0, received or 0)


def _number(given: dict[str, Any], name: str) -> int | None:
    value = given.get(name)
    if value is None or (type(value) is int and 0 <= value < _MOST):
        return value
    raise ValueError(f"its {name!r} is {value!r}, and should be a number from 0 on")


def _amount(given: dict[str, Any], name: str) -> float | None:
    value = given.get(name)
    if value is None or (type(value) in (int, float) and 0 <= value < _MOST):
        return None if value is None else float(value)
    raise ValueError(f"its {name!r} is {value!r}, and should be an amount from 0 on")


def _text(given: dict[str, Any], name: str) -> str | None:
    if given.get(name) is not None:
        check_label(name, given[name])
    return given.get(name)


def _time(given: dict[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"its {name!r} is {value!r}, and should be a time such as 2026-01-31T12:00:00.000+00:00")
    datetime.fromisoformat(value)
    return value
