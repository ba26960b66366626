"""Answers that are never streamed: embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ._dialect import Assembly, Body, Cuts, Dialect
from ._frames import Frame


class Whole(Dialect):
    """One JSON value a request."""

    def streams(self, body: Body, path: str) -> bool:
        return False

    def assembly(self, n: int) -> Assembly:
        raise NotImplementedError

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        raise NotImplementedError
