"""One stored sample or assignment: its checksum, and its way back."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from ._errors import CacheCorrupt
from ._records import Answer, Record, Usage

# position, answer, bought_at, seconds, input_tokens, output_tokens, checksum
Row = tuple[Any, ...]


def write_row(key: bytes, position: int, answer: Answer, now: str) -> Row:
    """The columns to store for *answer*."""
    usage = answer.usage
    spent = (usage.input_tokens, usage.output_tokens) if usage else (None, None)
    meta = (now, float(answer.seconds), *spent)
    body = answer.body.encode()
    seal = _checksum(key, position, body, now.encode(), *meta[1:])
    return (position, answer.body, *meta, seal)


def read_answer(key: bytes, position: int, columns: Sequence[Any]) -> Answer | CacheCorrupt:
    """The answer in the *columns* that follow a position, texts as bytes; or what to raise for it."""
    body, bought_at, seconds, sent, received, seal = columns
    try:
        if _checksum(key, position, body, bought_at, seconds, sent, received) == seal:
            usage = None if sent is None else Usage(sent, received)
            return Answer(body.decode(), seconds, usage)
    except TypeError:
        pass  # damage made a column's text a number or nothing
    return CacheCorrupt(
        f"sample {position} of prompt {key.hex()} is damaged in the cache file; it is not used,"
        " and nothing was changed. Restore a copy of the file, or refresh the prompt."
    )


def seal(record: Record, now: str) -> bytes:
    """The checksum of an assignment."""
    label = None if record.request_id is None else record.request_id.encode()
    return _seal(record.namespace.encode(), record.key, label, record.ordinal, record.position, now.encode())


def is_sealed(
    namespace: bytes, key: bytes, label: bytes | None, ordinal: int, position: int, delivered_at: bytes, checksum: bytes
) -> bool:
    """Whether an assignment is as it was written; texts come as bytes."""
    return _seal(namespace, key, label, ordinal, position, delivered_at) == checksum


def damaged_assignment(key: bytes) -> CacheCorrupt:
    """The error for an assignment that is not as it was written."""
    return CacheCorrupt(
        f"who got which sample of prompt {key.hex()} is damaged in the cache file, so it cannot be replayed; nothing"
        " was changed. Restore a copy of the file, or save what is whole of it with: cachesaver salvage."
    )


def _seal(namespace: bytes, key: bytes, label: bytes | None, ordinal: int, position: int, delivered_at: bytes) -> bytes:
    text = b"%a %b %a %a %a %a" % (namespace, key, label, ordinal, position, delivered_at)
    return blake2b(text, digest_size=16).digest()


def _checksum(
    key: bytes,
    position: int,
    body: bytes,
    bought_at: bytes,
    seconds: float,
    sent: int | None,
    received: int | None,
) -> bytes:
    text = b"%b %a %b %a %a %a %b" % (key, position, bought_at, seconds, sent, received, body)
    return blake2b(text, digest_size=16).digest()
