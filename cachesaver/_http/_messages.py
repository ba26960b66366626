"""Anthropic's Messages API: a message is a list of blocks, and each block comes in events of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, cast

from ._choices import merge
from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame

_DONE = "[DONE]"  # no event of Anthropic's, but some who speak like it end with it, and its SDKs pass over it
_LATE = ("stop_reason", "stop_sequence", "stop_details", "container")  # what is known only at the end
_INPUT = ("input_json_delta", "partial_json")
_GROWING = {  # blocks that come in deltas: of what type these are, and which field has the piece
    "text": ("text_delta", "text"),
    "thinking": ("thinking_delta", "thinking"),
    "tool_use": _INPUT,
    "server_tool_use": _INPUT,
}


class Messages(Dialect):
    """Messages: one message a request."""

    made = ("content",)

    def assembly(self, n: int) -> Assembly:
        return MessageAssembly()

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        body, own = bodies[0], cuts[0]
        usage: Body = body.get("usage") or {}
        late = {name: body[name] for name in _LATE if name in body}
        start: Body = {**body, **dict.fromkeys(late), "content": [], "usage": {**usage, "output_tokens": 1}}
        yield _event("message_start", message=start)
        for index, block in enumerate(cast("list[Body]", body["content"])):
            yield _event("content_block_start", index=index, content_block=_started(block))
            for delta in _deltas(block, str(index), own):
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        yield _event("message_delta", delta=late, usage=usage)
        yield _event("message_stop")


class MessageAssembly(Assembly):
    """Puts the blocks of a message together."""

    def __init__(self) -> None:
        super().__init__()
        self._message: Body = {}
        self._blocks: dict[int, Body] = {}
        self._inputs: dict[int, str] = {}  # what tools are called with: JSON only when all of it is there
        self._cuts: Cuts = []

    def add(self, frame: Frame) -> None:
        if frame.data == _DONE:
            return
        event = parse(frame)
        kind = event.get("type") or frame.event
        if kind == "error":
            raise ErrorEvent(frame.data)
        try:
            self._take(kind, event)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no {kind} of a message: {frame.data}") from error

    def _take(self, kind: str | None, event: Body) -> None:
        match kind:
            case "message_start":
                merge(self._message, event["message"], replace=True)
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
            case "content_block_delta":
                self._grow(event["index"], event["delta"])
            case "message_delta":
                self._change(event)
            case "message_stop":
                self._end()
            case "content_block_stop" | "ping":
                pass
            case _:
                raise ValueError(f"unknown event {kind!r} in a message")

    def _grow(self, index: int, delta: Body) -> None:
        block = self._blocks[index]
        match delta["type"]:
            case "text_delta":
                block["text"] += self._piece(index, delta["text"])
            case "thinking_delta":
                block["thinking"] += self._piece(index, delta["thinking"])
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + self._piece(index, delta["partial_json"])
            case "signature_delta":
                block["signature"] = delta["signature"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case kind:
                raise ValueError(f"unknown delta {kind!r} in a message")

    def _piece(self, index: int, piece: str) -> str:
        if piece:
            self._cuts.append([str(index), len(piece)])
        return piece

    def _change(self, event: Body) -> None:
        usage: Body = self._message.setdefault("usage", {})
        merge(usage, event.get("usage") or {}, replace=True)
        others = {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
        merge(self._message, {**others, **event["delta"]}, replace=True)
        if self._message.get("stop_reason"):
            self._end()

    def _end(self) -> None:
        for index, text in self._inputs.items():
            block = self._blocks[index]
            block["input"] = json.loads(text) if text else block.get("input") or {}
        self.ended = True

    def body(self) -> Body:
        return {**self._message, "content": list(self._blocks.values())}

    def cuts(self) -> list[Cuts]:
        return [self._cuts]


def _event(kind: str, **fields: Any) -> Frame:
    return frame({"type": kind, **fields}, kind)


def _started(block: Body) -> Body:
    """*block* as it is before its deltas."""
    match block["type"]:
        case "text":
            return {**block, "text": "", **({"citations": []} if block.get("citations") else {})}
        case "thinking":
            return {**block, "thinking": "", **({"signature": ""} if "signature" in block else {})}
        case "tool_use" | "server_tool_use":
            return {**block, "input": {}}
        case _:
            return block


def _deltas(block: Body, name: str, cuts: Cuts | None) -> Iterator[Body]:
    if block["type"] not in _GROWING:
        return
    kind, field = _GROWING[block["type"]]
    for _, piece in Pieces({name: _text(block)}, cuts):
        yield {"type": kind, field: piece}
    for citation in block.get("citations") or ():
        yield {"type": "citations_delta", "citation": citation}
    if signature := block.get("signature"):
        yield {"type": "signature_delta", "signature": signature}


def _text(block: Body) -> str:
    """What the deltas of *block* add up to."""
    if "input" in block:
        return json.dumps(block["input"], ensure_ascii=False) if block["input"] else ""
    return block[block["type"]]
