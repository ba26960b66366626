"""Samples of HTTP answers: the answer's own JSON, and under one name what belongs to it beside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from .._prompt import decode
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
    return {ASIDE: aside, **body} if aside else body


class Answer:
    """What a request gets: the body, whole or as a stream, and headers."""

    def __init__(self, question: Question, draws: Sequence[Draw]) -> None:
        self._question = question
        self._draws = draws
        self._parts = [_part(draw.answer.body) for draw in draws]
        self.headers: dict[str, str] = self._parts[-1][0].get("headers", {})

    def whole(self) -> bytes:
        """The body, unstreamed."""
        (_, first), *others = self._parts
        text = json.dumps(self._joined(), ensure_ascii=False) if others else first
        return text.encode()

    def stream(self) -> bytes:
        """The same as a stream."""
        dialect = self._question.dialect
        bodies: list[Body] = []
        cuts: list[Cuts | None] = []
        for aside, text in self._parts:
            parts = dialect.split(decode(text))
            own: list[Cuts] = aside.get("cuts", [])
            bodies += parts
            cuts += own if len(own) == len(parts) else [None] * len(parts)
        return b"".join(map(dialect.frames.write, dialect.replay(bodies, cuts, self._question.body)))

    def _joined(self) -> Body:
        billed = [not (draw.cached or draw.duplicated) for draw in self._draws]
        return self._question.dialect.join([decode(text) for _, text in self._parts], billed)


def without_aside(value: Any) -> Any:
    """A sample as the answer alone."""
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in cast("Body", value).items() if name != ASIDE}


def _part(text: str) -> tuple[Body, str]:
    """What stands aside in a stored sample, and the text of the answer; neither is parsed in vain."""
    if not text.startswith(_FIRST):
        return {}, text
    aside, end = _decoder.raw_decode(text, len(_FIRST))
    return aside, "{" + text[end:].removeprefix(",")


_decoder = json.JSONDecoder()
_FIRST = f'{{"{ASIDE}":'


def describe(draws: Sequence[Draw]) -> str:
    """The header that says what an answer was: "hit; position=3"."""
    bought, positions = 0, ""
    for draw in draws:
        bought += not (draw.cached or draw.duplicated)
        if draw.position is not None:
            positions += f",{draw.position}" if positions else f"; position={draw.position}"
    return f"miss{positions}; bought={bought}" if bought else f"hit{positions}"
