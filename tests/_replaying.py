"""Answers written as streams, and put together again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hypothesis import strategies as st

from cachesaver._http._dialect import Assembly, Body, Cuts, Dialect, frame
from cachesaver._http._frames import Frame

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


def written(dialect: Dialect, body: Body, cuts: list[Cuts] | None = None) -> bytes:
    """The stream of *body*, as bytes."""
    bodies = dialect.split(body)
    frames = dialect.replay(bodies, cuts or [None] * len(bodies), {})
    return b"".join(dialect.frames.write(one) for one in frames)


def read(dialect: Dialect, stream: bytes, sizes: Iterable[int] = (), n: int = 1) -> Assembly:
    """What *stream* is put together to, where it comes in chunks of *sizes*."""
    frames, assembly = dialect.frames(), dialect.assembly(n)
    for chunk in _chunks(stream, sizes):
        for one in frames.feed(chunk):
            assembly.add(one)
    for one in frames.end():
        assembly.add(one)
    return assembly


def events(dialect: Dialect, stream: bytes) -> list[Body]:
    """The JSON objects in *stream*."""
    frames = dialect.frames()
    return [json.loads(one.data) for one in [*frames.feed(stream), *frames.end()] if one.data != "[DONE]"]


def fed(dialect: Dialect, values: Iterable[Any], n: int = 1) -> Assembly:
    """What a stream of these JSON objects is put together to."""
    assembly = dialect.assembly(n)
    for value in values:
        assembly.add(value if isinstance(value, Frame) else frame(value))
    return assembly


def _chunks(stream: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    for size in sizes:
        yield stream[:size]
        stream = stream[size:]
    yield stream
