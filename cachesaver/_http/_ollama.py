"""Ollama's own API: one JSON object a line, the last one with the counts and times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ._choices import merge
from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame, JsonLines

_TEXTS = ("thinking", "content", "response")  # in the order in which a model writes them
_GROWING = frozenset({*_TEXTS, "message", "logprobs"})  # the rest of a line is of the line, and the last one's counts


class OllamaGenerate(Dialect):
    """`/api/generate`: what is said is in fields of the line itself."""

    frames = JsonLines
    made = ("message", "response")
    answer = "response"  #: the field of what is said

    def streams(self, body: Body, path: str) -> bool:
        return body.get("stream") is not False  # it is on by default

    def assembly(self, n: int) -> Assembly:
        return OllamaAssembly()

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        body, said = bodies[0], self.said(bodies[0])
        head = {name: body[name] for name in ("model", "created_at") if name in body}
        texts = {name: said[name] for name in _TEXTS if said.get(name)}
        calls = {"tool_calls": said["tool_calls"]} if said.get("tool_calls") else {}
        # A line always has the field of the answer, and the other ones only where there is something in them.
        silent = {name: said[name] for name in ("role",) if name in said} | {self.answer: ""}
        pieces = [{name: piece} for name, piece in Pieces(texts, cuts[0])]
        for piece in [*pieces, calls] if calls else pieces:
            yield frame({**head, **self.saying({**silent, **piece}), "done": False})
        shown = texts.keys() | calls.keys()
        rest = {name: value for name, value in said.items() if name not in shown}
        end = self.saying(rest | ({self.answer: ""} if self.answer in shown else {}))
        yield frame({name: value for name, value in body.items() if name not in shown} | end)

    def said(self, body: Body) -> Body:
        """Where a body has its texts."""
        return {name: value for name, value in body.items() if name in _TEXTS}

    def saying(self, said: Body) -> Body:
        """The fields of a line that says this."""
        return said


class OllamaChat(OllamaGenerate):
    """`/api/chat`: what is said is in a message."""

    answer = "content"

    def said(self, body: Body) -> Body:
        return body.get("message") or {}

    def saying(self, said: Body) -> Body:
        return {"message": said}


class OllamaAssembly(Assembly):
    """Puts the lines together."""

    def __init__(self) -> None:
        super().__init__()
        self._body: Body = {}
        self._cuts: Cuts = []

    def add(self, frame: Frame) -> None:
        line = parse(frame)
        if line.get("error"):
            raise ErrorEvent(frame.data)
        said: dict[str, Any] = line.get("message") or line
        self._cuts.extend([name, len(said[name])] for name in _TEXTS if said.get(name))
        merge(self._body, {name: value for name, value in line.items() if name in _GROWING})
        self._body |= {name: value for name, value in line.items() if name not in _GROWING}
        self.ended = line.get("done") is True

    def body(self) -> Body:
        return self._body

    def cuts(self) -> list[Cuts]:
        return [self._cuts]
