"""Samples of HTTP answers: the answer's own JSON, and under one name what belongs to it beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from .._ticket import Draw
from ._dialect import Body, Cuts
from ._endpoint import Question

ASIDE = "x-cachesaver"  #: the field of a sample that is no part of the answer
KEPT = ("x-request-id", "request-id")  #: headers that are told again with a hit


def samples(question: Question, answer: Any, headers: Any, cuts: Sequence[Cuts] = ()) -> list[Any]:
    """The samples that make an *answer*, to be stored."""
    if not isinstance(answer, dict):
        return [answer]
    body = cast("Body", answer)
    kept = {name: headers[name] for name in KEPT if name in headers}
    bodies = [body] if question.answers > 1 else question.dialect.split(body)
    own = [list(cuts)] if question.answers > 1 else [[each] for each in cuts]
    return [_with_aside(one, kept, own[i] if i < len(own) else []) for i, one in enumerate(bodies)]


def _with_aside(body: Body, headers: dict[str, str], cuts: list[Cuts]) -> Body:
    aside: Body = {"headers": headers} if headers else {}
    if cuts:
        aside["cuts"] = cuts
    return {**body, ASIDE: aside} if aside else body


class Answer:
    """What a request gets: the body, whole or as a stream, and headers."""

    def __init__(self, question: Question, draws: Sequence[Draw]) -> None:
        self._question = question
        self._draws = draws
        self._values = [draw.value for draw in draws]
        asides: list[Body] = [one.pop(ASIDE, {}) if isinstance(one, dict) else {} for one in self._values]
        self.headers: dict[str, str] = asides[-1].get("headers", {})
        self._cuts: list[list[Cuts]] = [aside.get("cuts", []) for aside in asides]

    def whole(self) -> bytes:
        """The body, unstreamed."""
        body = self._values[0] if len(self._values) == 1 else self._joined()
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    def stream(self) -> bytes:
        """The same as a stream."""
        dialect = self._question.dialect
        bodies: list[Body] = []
        cuts: list[Cuts | None] = []
        for value, own in zip(self._values, self._cuts, strict=True):
            parts = dialect.split(value)
            bodies += parts
            cuts += own if len(own) == len(parts) else [None] * len(parts)
        return b"".join(map(dialect.frames.write, dialect.replay(bodies, cuts, self._question.body)))

    def _joined(self) -> Body:
        billed = [not (draw.cached or draw.duplicated) for draw in self._draws]
        return self._question.dialect.join(self._values, billed)


def describe(draws: Sequence[Draw]) -> str:
    """The header that says what an answer was: "hit; position=3"."""
    bought = sum(not (draw.cached or draw.duplicated) for draw in draws)
    positions = ",".join(str(draw.position) for draw in draws if draw.position is not None)
    return "; ".join(
        filter(
            None, ["miss" if bought else "hit", positions and f"position={positions}", bought and f"bought={bought}"]
        )
    )
