"""Cohere's chat, of version 2 of its API and of version 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any, cast

from ._choices import merge
from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame, JsonLines

_DONE = "[DONE]"
_LISTS = {"content": "content", "tool-call": "tool_calls", "citation": "citations"}  # events, and where they go
_EMPTY: Body = {"content": [], "tool_plan": "", "tool_calls": [], "citations": []}  # what every stream announces
_LEGACY_BEFORE = {"search-queries-generation": ["search_queries"], "search-results": ["search_results", "documents"]}
_LEGACY_AFTER = {"citation-generation": ["citations"], "tool-calls-generation": ["tool_calls"]}


class CohereChat(Dialect):
    """`/v2/chat`: the parts of a message one after another, each with its start, pieces and end."""

    made = ("message",)

    def assembly(self, n: int) -> Assembly:
        return CohereAssembly()

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        body, own = bodies[0], cuts[0]
        message: Body = body["message"]
        others = {name: value for name, value in message.items() if name not in _EMPTY}
        yield _event("message-start", {"id": body.get("id")}, {"message": {**others, **_EMPTY}})
        yield from _content(message.get("content") or [], body.get("logprobs") or [], own)
        for _, piece in Pieces({"tool_plan": message.get("tool_plan") or ""}, own):
            yield _event("tool-plan-delta", {}, {"message": {"tool_plan": piece}})
        yield from _calls(message.get("tool_calls") or [], own)
        for index, citation in enumerate(message.get("citations") or []):
            yield _event("citation-start", {"index": index}, {"message": {"citations": citation}})
            yield _event("citation-end", {"index": index})
        end = {name: value for name, value in body.items() if name not in ("id", "message", "logprobs")}
        yield _event("message-end", {}, end)
        yield Frame(_DONE)


class CohereAssembly(Assembly):
    """Puts the parts of a message together."""

    def __init__(self) -> None:
        super().__init__()
        self._body: Body = {}
        self._message: Body = {}
        self._logprobs: list[Any] = []
        self._places: dict[tuple[str, Any], int] = {}  # indexes are not always there, and not always from 0
        self._cuts: Cuts = []

    def add(self, frame: Frame) -> None:
        if frame.data == _DONE:
            return
        event = parse(frame)
        delta: Body = event.get("delta") or {}
        message: Body = delta.get("message") or {}
        subject, _, change = str(event.get("type")).rpartition("-")
        if subject in _LISTS and change != "end":
            self._add(_LISTS[subject], event, message, new=change == "start")
        elif subject == "tool-plan":
            self._grow(message)
        elif subject == "message" and change == "start":
            self._body["id"] = event.get("id")
            self._message |= message
        elif subject == "message":
            self._end(frame, delta)

    def _add(self, name: str, event: Body, message: Body, *, new: bool) -> None:
        items: list[Body] = self._message.get(name) or []
        self._message[name] = items
        place = (name, event.get("index"))
        if new or place not in self._places:
            self._places[place] = len(items)
            items.append({})
        number = self._places[place]
        piece: Body = message.get(name) or {}
        merge(items[number], piece)
        if name != "citations" and (text := _text(piece)):
            self._cuts.append([f"{name}.{number}", len(text)])
        if logprobs := event.get("logprobs"):
            self._logprobs.append(logprobs)

    def _grow(self, message: Body) -> None:
        merge(self._message, message)
        self._cuts.append(["tool_plan", len(message.get("tool_plan") or "")])

    def _end(self, frame: Frame, delta: Body) -> None:
        if delta.get("error") or delta.get("finish_reason") == "ERROR":
            raise ErrorEvent(frame.data)
        self._body |= delta
        self.ended = True

    def body(self) -> Body:
        message = {name: value for name, value in self._message.items() if value or name not in _EMPTY}
        return {**self._body, "message": message, **({"logprobs": self._logprobs} if self._logprobs else {})}

    def cuts(self) -> list[Cuts]:
        return [self._cuts]


class CohereLegacyChat(Dialect):
    """`/v1/chat`: lines with pieces of the text, and the whole answer in the last one."""

    frames = JsonLines
    made = ("text",)

    def assembly(self, n: int) -> Assembly:
        return CohereLegacyAssembly()

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        body = bodies[0]
        yield _line("stream-start", {"generation_id": body.get("generation_id")})
        yield from _lines(_LEGACY_BEFORE, body)
        for _, piece in Pieces({"text": body.get("text") or ""}, cuts[0]):
            yield _line("text-generation", {"text": piece})
        yield from _lines(_LEGACY_AFTER, body)
        yield _line("stream-end", {"finish_reason": body.get("finish_reason"), "response": body}, last=True)


class CohereLegacyAssembly(Assembly):
    """Waits for the answer, and notes how its text came."""

    def __init__(self) -> None:
        super().__init__()
        self._body: Body = {}
        self._cuts: Cuts = []

    def add(self, frame: Frame) -> None:
        line = parse(frame)
        if line.get("finish_reason") == "ERROR":
            raise ErrorEvent(frame.data)
        if line.get("event_type") == "text-generation":
            self._cuts.append(["text", len(line.get("text") or "")])
        elif line.get("event_type") == "stream-end":
            if not isinstance(line.get("response"), dict):
                raise ValueError("the last line of a stream has no answer")
            self._body, self.ended = cast("Body", line["response"]), True

    def body(self) -> Body:
        return self._body

    def cuts(self) -> list[Cuts]:
        return [self._cuts]


def _event(kind: str, fields: Body, delta: Body | None = None) -> Frame:
    return frame({"type": kind, **fields, **({} if delta is None else {"delta": delta})}, kind)


def _text(item: Body) -> str:
    function: Body = item.get("function") or {}
    return item.get("text") or item.get("thinking") or function.get("arguments") or ""


def _content(items: list[Body], logprobs: list[Any], cuts: Cuts | None) -> Iterator[Frame]:
    for index, item in enumerate(items):
        field = "thinking" if "thinking" in item else "text"
        yield _event("content-start", {"index": index}, {"message": {"content": {**item, field: ""}}})
        pieces = [piece for _, piece in Pieces({f"content.{index}": _text(item)}, cuts)]
        # An event holds those of one piece; what is over still has to come.
        share = logprobs if item is items[-1] else logprobs[: len(pieces)]
        logprobs = logprobs[len(share) :]
        for piece, own in zip_longest(pieces, share):
            fields = {"index": index, **({"logprobs": own} if own else {})}
            yield _event("content-delta", fields, {"message": {"content": {field: piece or ""}}})
        yield _event("content-end", {"index": index})


def _calls(calls: list[Body], cuts: Cuts | None) -> Iterator[Frame]:
    for index, call in enumerate(calls):
        start = {**call, "function": {**call["function"], "arguments": ""}}
        yield _event("tool-call-start", {"index": index}, {"message": {"tool_calls": start}})
        for _, piece in Pieces({f"tool_calls.{index}": _text(call)}, cuts):
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield _event("tool-call-delta", {"index": index}, delta)
        yield _event("tool-call-end", {"index": index})


def _line(kind: str, fields: Body, *, last: bool = False) -> Frame:
    return frame({"is_finished": last, "event_type": kind, **fields})


def _lines(events: dict[str, list[str]], body: Body) -> Iterator[Frame]:
    for kind, names in events.items():
        if fields := {name: body[name] for name in names if body.get(name)}:
            yield _line(kind, fields)
