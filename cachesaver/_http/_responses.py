"""OpenAI's Responses API: a response is a list of items, and its last event has all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from ._dialect import Assembly, Body, Cuts, Dialect, ErrorEvent, Pieces, frame, parse
from ._frames import Frame

_DONE = "[DONE]"  # no event of OpenAI's, but some who speak like it end with it, and its SDKs pass over it
_LAST = ("response.completed", "response.incomplete")
_LATE = ("completed_at", "error", "incomplete_details", "usage")  # what is known only at the end
_ARGUMENTS = {  # items that are one text: its field, and the events that it comes in
    "function_call": ("arguments", "response.function_call_arguments"),
    "custom_tool_call": ("input", "response.custom_tool_call_input"),
}
_PARTS = {  # the same for the parts of an item's content
    "output_text": ("text", "response.output_text"),
    "refusal": ("refusal", "response.refusal"),
    "reasoning_text": ("text", "response.reasoning_text"),
}
_SUMMARY = ("text", "response.reasoning_summary_text")
_LISTS = {"message": ("content",), "reasoning": ("summary", "content")}  # items with parts, and where these are
_DELTAS = frozenset(f"{event}.delta" for _, event in (*_ARGUMENTS.values(), *_PARTS.values(), _SUMMARY))


class Responses(Dialect):
    """Responses: one response a request."""

    made = ("output",)

    def assembly(self, n: int) -> Assembly:
        return ResponseAssembly()

    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        for number, event in enumerate(_response(bodies[0], cuts[0])):
            yield frame({**event, "sequence_number": number}, event["type"])


class ResponseAssembly(Assembly):
    """Waits for the whole response, and notes how its texts were cut."""

    def __init__(self) -> None:
        super().__init__()
        self._response: Body = {}
        self._cuts: Cuts = []

    def add(self, frame: Frame) -> None:
        if frame.data == _DONE:
            return
        event = parse(frame)
        kind = event.get("type") or frame.event
        if kind in ("error", "response.failed"):
            raise ErrorEvent(frame.data)
        try:
            self._take(kind, event)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no {kind}: {frame.data}") from error

    def _take(self, kind: str | None, event: Body) -> None:
        if kind in _DELTAS and event["delta"]:
            self._cuts.append([_name({**_place(kind), **event}), len(event["delta"])])
        elif kind in _LAST:
            self._response = {**event["response"], "output": [*event["response"]["output"]]}
            self.ended = True

    def body(self) -> Body:
        return self._response

    def cuts(self) -> list[Cuts]:
        return [self._cuts]


def _place(kind: str) -> Body:
    """Where a text is if a server tells no place: llama.cpp's makes but one."""
    whole = kind.removesuffix(".delta") in [event for _, event in _ARGUMENTS.values()]
    return {"output_index": 0} if whole else {"output_index": 0, "content_index": 0}


def _name(place: Body) -> str:
    """The name in cuts of the text at this place."""
    index = place["output_index"]
    if "summary_index" in place:
        return f"{index}.summary.{place['summary_index']}"
    return f"{index}.{place['content_index']}" if "content_index" in place else f"{index}.arguments"


def _response(body: Body, cuts: Cuts | None) -> Iterator[Body]:
    """The events of a response, but for their numbers."""
    late = dict.fromkeys(name for name in _LATE if name in body)
    start: Body = {**body, **late, "status": "in_progress", "output": []}
    yield {"type": "response.created", "response": start}
    yield {"type": "response.in_progress", "response": start}
    for index, item in enumerate(cast("list[Body]", body["output"])):
        yield {"type": "response.output_item.added", "output_index": index, "item": _started(item)}
        yield from _item(item, {"item_id": item.get("id") or "", "output_index": index}, cuts)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    status = body.get("status")
    end = status if status in ("incomplete", "failed") else "completed"
    yield {"type": f"response.{end}", "response": body}


def _started(item: Body) -> Body:
    """*item* as it is before its texts."""
    kind = item["type"]
    if kind not in _ARGUMENTS and kind not in _LISTS:
        return item
    lists: Body = {name: [] for name in _LISTS.get(kind, ()) if item.get(name)}
    text = {_ARGUMENTS[kind][0]: ""} if kind in _ARGUMENTS else {}
    return {**item, **lists, **text, **({"status": "in_progress"} if "status" in item else {})}


def _item(item: Body, place: Body, cuts: Cuts | None) -> Iterator[Body]:
    """What comes between an item's start and its end."""
    kind = item["type"]
    if kind in _ARGUMENTS:
        yield from _text(item, _ARGUMENTS[kind], place, cuts)
    elif kind in _LISTS:
        for index, part in enumerate(item.get("summary") or ()):
            yield from _part(part, _SUMMARY, "reasoning_summary_part", {**place, "summary_index": index}, cuts)
        for index, part in enumerate(item.get("content") or ()):
            yield from _part(part, _PARTS.get(part["type"]), "content_part", {**place, "content_index": index}, cuts)


def _part(part: Body, text: tuple[str, str] | None, event: str, place: Body, cuts: Cuts | None) -> Iterator[Body]:
    lists: Body = {name: [] for name in ("annotations", "logprobs") if part.get(name)}
    start: Body = {**part, **lists, **({text[0]: ""} if text else {})}
    yield {"type": f"response.{event}.added", **place, "part": start}
    if text:
        yield from _text(part, text, place, cuts)
    yield {"type": f"response.{event}.done", **place, "part": part}


def _text(whole: Body, text: tuple[str, str], place: Body, cuts: Cuts | None) -> Iterator[Body]:
    """The events of one text, which is a field of *whole*."""
    field, event = text
    spoken = whole["type"] == "output_text"
    for _, piece in Pieces({_name(place): whole[field]}, cuts):
        yield {"type": f"{event}.delta", **place, "delta": piece, **({"logprobs": []} if spoken else {})}
    for index, annotation in enumerate(whole.get("annotations") or ()):
        added = {"annotation_index": index, "annotation": annotation}
        yield {"type": "response.output_text.annotation.added", **place, **added}
    done: Body = {field: whole[field], **({"logprobs": whole.get("logprobs") or []} if spoken else {})}
    name: Body = {"name": whole["name"]} if whole["type"] == "function_call" and "name" in whole else {}
    yield {"type": f"{event}.done", **place, **name, **done}
