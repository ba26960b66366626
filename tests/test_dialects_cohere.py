"""Cohere's chat, versions 1 and 2: streams put together, written again, and read by its own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cohere
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesaver._http._cohere import CohereChat, CohereLegacyChat
from cachesaver._http._dialect import Body, Cuts, Dialect, ErrorEvent

from ._replaying import TEXTS, events, fed, read, written

CHAT, LEGACY = CohereChat(), CohereLegacyChat()
USAGE = {
    "billed_units": {"input_tokens": 5, "output_tokens": 418},
    "tokens": {"input_tokens": 71, "output_tokens": 418},
    "cached_tokens": 64,
}
CALLS = [
    {"id": "weather_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Zürich"}'}},
    {"id": "time_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
]
SOURCES = [{"type": "document", "id": "doc:0", "document": {"id": "doc:0", "title": "Why"}}]
CITATIONS = [
    {"start": 0, "end": 3, "text": "Why", "sources": SOURCES, "content_index": 0, "type": "TEXT_CONTENT"},
    {"start": 5, "end": 12, "text": "because", "sources": SOURCES, "content_index": 0, "type": "TEXT_CONTENT"},
]
LOGPROBS = [{"text": "Why", "token_ids": [8], "logprobs": [-0.1]}, {"text": ",", "token_ids": [9], "logprobs": [-2.0]}]


def answer(reason: str = "COMPLETE", **message: Any) -> Body:
    return {
        "id": "29f14a5a",
        "finish_reason": reason,
        "message": {"role": "assistant", **message},
        "usage": USAGE,
    }


def text(value: str) -> Body:
    return {"type": "text", "text": value}


def thinking(value: str) -> Body:
    return {"type": "thinking", "thinking": value}


BODIES = {
    "text": answer(content=[text("Why, because.")]),
    "empty": answer(content=[text("")]),
    "nothing": answer(),
    "unicode": answer("MAX_TOKENS", content=[text("日本 \u2028 é 🦙\r\n\n")]),
    "thinking": answer(content=[thinking("Hm.\n"), text("Why, because.")]),
    "tools": answer("TOOL_CALL", tool_plan="I will look.", tool_calls=CALLS),
    "thinking and tools": answer("TOOL_CALL", content=[thinking("Hm.")], tool_calls=CALLS[:1]),
    "citations": answer(content=[text("Why, because.")], citations=CITATIONS),
    "logprobs": {**answer(content=[thinking("Hm."), text("Why, because.")]), "logprobs": LOGPROBS * 2},
}
LEGACY_BODIES: dict[str, Body] = {
    "text": {
        "response_id": "r",
        "generation_id": "g",
        "text": "Why, because.",
        "finish_reason": "COMPLETE",
        "meta": {},
    },
    "empty": {"generation_id": "g", "text": "", "finish_reason": "MAX_TOKENS"},
    "tools": {
        "generation_id": "g",
        "text": "I will look.",
        "finish_reason": "COMPLETE",
        "tool_calls": [{"name": "weather", "parameters": {"city": "Zürich"}}],
    },
    "search": {
        "generation_id": "g",
        "text": "日本 \u2028 é",
        "finish_reason": "COMPLETE",
        "search_queries": [{"text": "why", "generation_id": "g"}],
        "documents": [{"id": "d", "text": "Because."}],
        "citations": [{"start": 0, "end": 1, "text": "日", "document_ids": ["d"]}],
    },
}
ALL = [pytest.param(CHAT, body, id=name) for name, body in BODIES.items()]
ALL += [pytest.param(LEGACY, body, id=f"legacy {name}") for name, body in LEGACY_BODIES.items()]


@pytest.mark.parametrize(("dialect", "body"), ALL)
def test_written_and_read_it_is_the_same(dialect: Dialect, body: Body) -> None:
    assembly = read(dialect, written(dialect, body))
    assert assembly.ended
    assert assembly.body() == body


@given(
    texts=st.lists(TEXTS, min_size=4, max_size=4),
    cuts=st.lists(
        st.tuples(
            st.sampled_from(["content.0", "content.1", "tool_plan", "tool_calls.0", "tool_calls.1", "text"]),
            st.integers(0, 9),
        ).map(list)
    ),
    logprobs=st.lists(st.sampled_from(LOGPROBS), min_size=1),
    sizes=st.lists(st.integers(0, 80)),
)
def test_wherever_it_is_cut(texts: list[str], cuts: Cuts, logprobs: list[Body], sizes: list[int]) -> None:
    calls = [{**CALLS[0], "function": {"name": "weather", "arguments": texts[3]}}, CALLS[1]]
    body = answer(content=[thinking(texts[0]), text(texts[1])], tool_plan=texts[2], tool_calls=calls)
    body["logprobs"] = logprobs
    assert read(CHAT, written(CHAT, body, [cuts]), sizes).body() == body
    legacy = {**LEGACY_BODIES["search"], "text": texts[0]}
    assert read(LEGACY, written(LEGACY, legacy, [cuts]), sizes).body() == legacy


def event(kind: str, index: int | None = None, **message: Any) -> Body:
    numbered = {} if index is None else {"index": index}
    return {"type": kind, **numbered, **({"delta": {"message": message}} if message else {})}


START = {
    **event("message-start", role="assistant", content=[], tool_plan="", tool_calls=[], citations=[]),
    "id": "29f14a5a",
}


def end(reason: str, **fields: Any) -> Body:
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": USAGE, **fields}}


def test_the_same_events_come_again() -> None:
    stream = [
        START,
        event("content-start", 0, content=thinking("")),
        {**event("content-delta", 0, content={"thinking": "H"}), "logprobs": LOGPROBS[0]},
        {**event("content-delta", 0, content={"thinking": "m."}), "logprobs": LOGPROBS[1]},
        event("content-end", 0),
        event("content-start", 1, content=text("")),
        {**event("content-delta", 1, content={"text": "Why"}), "logprobs": LOGPROBS[0]},
        {**event("content-delta", 1, content={"text": ", because."}), "logprobs": LOGPROBS[1]},
        event("content-end", 1),
        event("citation-start", 0, citations=CITATIONS[0]),
        event("citation-end", 0),
        event("citation-start", 1, citations=CITATIONS[1]),
        event("citation-end", 1),
        end("COMPLETE"),
    ]
    assembly = fed(CHAT, stream)
    body = answer(content=[thinking("Hm."), text("Why, because.")], citations=CITATIONS)
    assert assembly.body() == {**body, "logprobs": LOGPROBS * 2}
    assert events(CHAT, written(CHAT, assembly.body(), assembly.cuts())) == stream


def test_the_same_events_of_tools_come_again() -> None:
    stream = [
        START,
        event("tool-plan-delta", tool_plan="I will"),
        event("tool-plan-delta", tool_plan=" look."),
        event("tool-call-start", 0, tool_calls={**CALLS[0], "function": {"name": "weather", "arguments": ""}}),
        event("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"city":'}}),
        event("tool-call-delta", 0, tool_calls={"function": {"arguments": '"Zürich"}'}}),
        event("tool-call-end", 0),
        event("tool-call-start", 1, tool_calls={**CALLS[1], "function": {"name": "time", "arguments": ""}}),
        event("tool-call-delta", 1, tool_calls={"function": {"arguments": "{}"}}),
        event("tool-call-end", 1),
        end("TOOL_CALL"),
    ]
    assembly = fed(CHAT, stream)
    assert assembly.body() == answer("TOOL_CALL", tool_plan="I will look.", tool_calls=CALLS)
    assert events(CHAT, written(CHAT, assembly.body(), assembly.cuts())) == stream


@pytest.mark.parametrize("first", [None, 1], ids=["no indexes", "from 1"])
def test_calls_are_told_apart_whatever_their_indexes(first: int | None) -> None:
    stream = [START]
    for number, call in enumerate(CALLS):
        index = None if first is None else first + number
        stream.append(
            event("tool-call-start", index, tool_calls={**call, "function": {"name": call["function"]["name"]}})
        )
        stream.append(
            event("tool-call-delta", index, tool_calls={"function": {"arguments": call["function"]["arguments"]}})
        )
        stream.append(event("tool-call-end", index))
    assert fed(CHAT, [*stream, end("TOOL_CALL")]).body() == answer("TOOL_CALL", tool_calls=CALLS)


def test_pieces_without_a_start() -> None:
    stream = [event("content-delta", 0, content={"text": piece}) for piece in ("Why", ".")]
    assert fed(CHAT, [START, *stream, end("COMPLETE")]).body() == answer(content=[{"text": "Why."}])


def test_the_same_pieces_of_version_1_come_again() -> None:
    pieces = ["Why", ", ", "because."]
    stream: list[Body] = [{"is_finished": False, "event_type": "stream-start", "generation_id": "g"}]
    stream += [{"is_finished": False, "event_type": "text-generation", "text": piece} for piece in pieces]
    body = LEGACY_BODIES["text"]
    stream.append({"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": body})
    assembly = fed(LEGACY, stream)
    assert assembly.body() == body
    assert events(LEGACY, written(LEGACY, body, assembly.cuts())) == stream


@contextmanager
def http(dialect: Dialect, body: Body) -> Iterator[httpx.Client]:
    def reply(request: httpx.Request) -> httpx.Response:
        if not json.loads(request.content)["stream"]:
            return httpx.Response(200, json=body)
        return httpx.Response(200, content=written(dialect, body), headers={"content-type": dialect.frames.media_type})

    with httpx.Client(transport=httpx.MockTransport(reply)) as client:
        yield client


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_its_client_reads_it(body: Body) -> None:
    with http(CHAT, body) as client:
        api = cohere.ClientV2(api_key="k", httpx_client=client)
        asked: Any = {"model": "command-a", "messages": [{"role": "user", "content": "Why?"}]}
        whole = api.chat(**asked)
        stream: list[Any] = list(api.chat_stream(**asked))
    for kind in ("text", "thinking"):
        said = [getattr(one.delta.message.content, kind) or "" for one in stream if one.type == "content-delta"]
        content = whole.message.content or []
        assert "".join(said) == "".join(getattr(item, kind) for item in content if item.type == kind)
    plan = "".join(one.delta.message.tool_plan for one in stream if one.type == "tool-plan-delta")
    assert plan == (whole.message.tool_plan or "")
    assert called(stream) == [
        (one.id, one.function.name, one.function.arguments) for one in whole.message.tool_calls or []
    ]
    cited = [one.delta.message.citations for one in stream if one.type == "citation-start"]
    assert cited == (whole.message.citations or [])
    last = stream[-1]
    assert (stream[0].type, stream[0].id, last.type) == ("message-start", whole.id, "message-end")
    assert (last.delta.finish_reason, last.delta.usage) == (whole.finish_reason, whole.usage)
    logprobs = [one.logprobs for one in stream if one.type == "content-delta" and one.logprobs]
    assert logprobs == (whole.logprobs or [])


def called(stream: list[Any]) -> list[tuple[str, str, str]]:
    starts = {one.index: one.delta.message.tool_calls for one in stream if one.type == "tool-call-start"}
    deltas = [(one.index, one.delta.message.tool_calls) for one in stream if one.type == "tool-call-delta"]
    return [
        (call.id, call.function.name, "".join(piece.function.arguments for at, piece in deltas if at == index))
        for index, call in starts.items()
    ]


@pytest.mark.parametrize("body", LEGACY_BODIES.values(), ids=LEGACY_BODIES)
def test_its_client_of_version_1_reads_it(body: Body) -> None:
    with http(LEGACY, body) as client:
        api = cohere.Client(api_key="k", httpx_client=client)
        whole = api.chat(message="Why?")
        stream: list[Any] = list(api.chat_stream(message="Why?"))
    assert "".join(one.text for one in stream if one.event_type == "text-generation") == whole.text
    calls = [call for one in stream if one.event_type == "tool-calls-generation" for call in one.tool_calls]
    assert calls == (whole.tool_calls or [])
    assert stream[-1].response == whole


@pytest.mark.parametrize(("dialect", "body"), ALL)
def test_a_stream_that_stops_early_has_not_ended(dialect: Dialect, body: Body) -> None:
    *stream, _ = events(dialect, written(dialect, body))
    assert not fed(dialect, stream).ended


@pytest.mark.parametrize("last", [end("ERROR"), end("ERROR", error="went wrong"), end("COMPLETE", error="went wrong")])
def test_an_error_in_a_stream(last: Body) -> None:
    with pytest.raises(ErrorEvent, match="message-end"):
        fed(CHAT, [START, last])


def test_an_error_in_a_stream_of_version_1() -> None:
    with pytest.raises(ErrorEvent, match="went wrong"):
        fed(LEGACY, [{"event_type": "stream-end", "finish_reason": "ERROR", "error": "went wrong", "response": {}}])
    with pytest.raises(ValueError, match="no answer"):
        fed(LEGACY, [{"event_type": "stream-end", "finish_reason": "COMPLETE"}])
