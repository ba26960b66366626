"""Anthropic's Messages API: what is assembled from a stream, and the stream that is written out of it."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cachesaver._http._dialect import Assembly, Body, Cuts, ErrorEvent, frame
from cachesaver._http._frames import EventStream, Frame
from cachesaver._http._messages import Messages

EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
ASKED: dict[str, Any] = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
CITATION = {
    "type": "char_location",
    "cited_text": "Grass is green.",
    "document_index": 0,
    "document_title": "Grass",
    "start_char_index": 0,
    "end_char_index": 15,
    "file_id": None,
}
TEXT = {"type": "text", "text": "Hello, world.", "citations": None}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Zürich", "days": [1, 2.5]}}
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB=="}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "grass"}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "Grass",
            "url": "https://grass.example",
            "encrypted_content": "abc",
            "page_age": None,
        }
    ],
}


def message(*content: Body, **fields: Any) -> Body:
    usage = {
        "input_tokens": 12,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": None,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 34,
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude"}
    end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    return {**head, "content": list(content), **end, **fields}


BODIES = {
    "text": message(TEXT),
    "nothing": message(),
    "empty text": message({"type": "text", "text": ""}),
    "unicode": message({"type": "text", "text": "Grüße\r\n\u2028\x85\x00🦆\n\ndata: x"}),
    "blocks": message(TEXT, {"type": "text", "text": "Hello again."}, TEXT),
    "citations": message({"type": "text", "text": "Green.", "citations": [CITATION, CITATION]}, TEXT),
    "no citations": message({"type": "text", "text": "Green.", "citations": []}),
    "tools": message(TEXT, TOOL, {**TOOL, "id": "toolu_2", "input": {}}, stop_reason="tool_use"),
    "thinking": message(THINKING, {"type": "redacted_thinking", "data": "abc"}, TEXT),
    "hidden thinking": message({**THINKING, "thinking": ""}, TEXT),
    "search": message(SEARCH, FOUND, TEXT),
    "cut off": message(TEXT, stop_reason="max_tokens"),
    "stopped": message(TEXT, stop_reason="stop_sequence", stop_sequence="\n\n"),
    "refused": message(
        stop_reason="refusal", stop_details={"type": "refusal", "category": "cyber", "explanation": "No."}
    ),
    "container": message(TEXT, container={"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}),
}
bodies = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)


def replay(body: Body, cuts: Cuts | None = None) -> list[Frame]:
    return list(Messages().replay([body], [cuts], ASKED))


def assemble(frames: list[Frame]) -> Assembly:
    assembly = Messages().assembly(1)
    for one in frames:
        assembly.add(one)
    return assembly


def event(kind: str, **fields: Any) -> Frame:
    return frame({"type": kind, **fields}, kind)


def start(**fields: Any) -> Frame:
    usage = {"input_tokens": 12, "cache_read_input_tokens": 3, "output_tokens": 1}
    return event("message_start", message=message(stop_reason=None, usage=usage, **fields))


def block(index: int, started: Body, *deltas: Body) -> list[Frame]:
    return [
        event("content_block_start", index=index, content_block=started),
        event("ping"),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def end(reason: str = "end_turn", **usage: Any) -> Frame:
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=usage)


def deltas(frames: list[Frame]) -> list[tuple[int, Body]]:
    events = [json.loads(one.data) for one in frames if one.event == "content_block_delta"]
    return [(one["index"], one["delta"]) for one in events]


def texts(*pieces: str) -> list[Body]:
    return [{"type": "text_delta", "text": piece} for piece in pieces]


def inputs(*pieces: str) -> list[Body]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


class TestAssembly:
    def test_a_real_stream(self) -> None:
        frames = [
            start(),
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "Let me "},
                {"type": "thinking_delta", "thinking": "see."},
                {"type": "signature_delta", "signature": "EqQB=="},
            ),
            *block(
                1,
                {"type": "text", "text": "", "citations": []},
                *texts("Gr", "een."),
                {"type": "citations_delta", "citation": CITATION},
            ),
            *block(2, {**TOOL, "input": {}}, *inputs("", '{"city": "Zür', 'ich", "days": [1, 2.5]}')),
            *block(3, {**SEARCH, "input": {}}, *inputs("")),
            *block(4, FOUND),
            end("tool_use", input_tokens=13, cache_read_input_tokens=None, output_tokens=99),
        ]
        assembly = assemble(frames)
        assert assembly.ended
        cited = {"type": "text", "text": "Green.", "citations": [CITATION]}
        assert assembly.body() == message(
            THINKING,
            cited,
            TOOL,
            {**SEARCH, "input": {}},
            FOUND,
            stop_reason="tool_use",
            usage={"input_tokens": 13, "cache_read_input_tokens": 3, "output_tokens": 99},
        )
        assert assembly.cuts() == [[["0", 7], ["0", 4], ["1", 2], ["1", 4], ["2", 13], ["2", 23]]]

    def test_fields_beside_the_delta(self) -> None:
        late = event("message_delta", delta={"stop_reason": "end_turn"}, usage={}, context_management={"a": 1})
        assert assemble([start(), late]).body()["context_management"] == {"a": 1}

    def test_it_has_ended_with_a_reason_to_stop(self) -> None:
        frames = [start(), *block(0, {"type": "text", "text": ""}, *texts("a"))]
        assert not assemble(frames).ended
        assert not assemble([*frames, event("message_delta", delta={}, usage={"output_tokens": 2})]).ended
        assert assemble([*frames, end()]).ended
        assert assemble([*frames, event("message_stop")]).ended
        assert assemble([*frames, end(), event("message_stop"), Frame("[DONE]")]).ended

    def test_inputs_that_come_without_deltas(self) -> None:
        bare = {name: value for name, value in TOOL.items() if name != "input"}
        frames = [start(), *block(0, TOOL, *inputs("")), *block(1, TOOL), *block(2, bare, *inputs("")), end()]
        assert assemble(frames).body()["content"] == [TOOL, TOOL, {**TOOL, "input": {}}]

    def test_errors(self) -> None:
        data = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
        for one in (Frame(data, "error"), Frame(data), Frame('{"error":{"message":"Overloaded"}}', "error")):
            with pytest.raises(ErrorEvent) as raised:
                assemble([start(), one])
            assert raised.value.args == (one.data,)

    @pytest.mark.parametrize(
        "frames",
        [
            [Frame("no JSON", "message_start")],
            [Frame("[]", "message_start")],
            [event("message_start")],
            [event("message_start", message="a")],
            [event("chat.completion.chunk", choices=[])],
            block(0, {"type": "text", "text": ""}, {"type": "compaction_delta", "content": "a"}),
            block(0, {"type": "text", "text": ""}, {"type": "text_delta"}),
            block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": None}),
            block(0, FOUND, *texts("a")),
            [event("content_block_delta", index=0, delta=texts("a")[0])],
            [start(), *block(0, {**TOOL, "input": {}}, *inputs('{"city": "Zü')), end("max_tokens")],
        ],
    )
    def test_what_is_not_understood(self, frames: list[Frame]) -> None:
        with pytest.raises(ValueError):
            assemble(frames)


class TestReplay:
    @bodies
    def test_the_body_comes_back(self, body: Body) -> None:
        assembly = assemble(replay(body))
        assert assembly.ended
        assert assembly.body() == body

    @bodies
    def test_events_have_all_their_fields(self, body: Body) -> None:
        for one in replay(body):
            EVENT.validate_json(one.data)

    def test_the_order_of_events(self) -> None:
        frames = replay(message(THINKING, FOUND), None)
        assert [one.event for one in frames] == [
            "message_start",
            *("content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"),
            *("content_block_start", "content_block_stop"),
            *("message_delta", "message_stop"),
        ]
        assert all(json.loads(one.data)["type"] == one.event for one in frames)

    def test_the_start_does_not_know_the_end(self) -> None:
        body = message(TEXT, stop_reason="stop_sequence", stop_sequence="\n")
        started = json.loads(replay(body)[0].data)["message"]
        assert (started["content"], started["stop_reason"], started["stop_sequence"]) == ([], None, None)
        assert started["usage"] == {**body["usage"], "output_tokens": 1}

    def test_pieces(self) -> None:
        pieces = [(0, texts("He")[0]), (0, texts("llo")[0]), (1, inputs('{"city": "Zü')[0]), (1, inputs('rich"}')[0])]
        frames = [
            start(),
            *block(0, {"type": "text", "text": ""}, *(delta for index, delta in pieces if index == 0)),
            *block(1, {**TOOL, "input": {}}, *(delta for index, delta in pieces if index == 1)),
            end("tool_use"),
        ]
        assembly = assemble(frames)
        assert deltas(replay(assembly.body(), assembly.cuts()[0])) == pieces

    def test_blocks_come_one_after_another_however_they_were_cut(self) -> None:
        body = message({"type": "text", "text": "abc"}, {"type": "text", "text": "def"})
        frames = replay(body, [["1", 1], ["0", 2], ["1", 1], ["0", 1], ["7", 3]])
        a, b, c, d = texts("ab", "c", "d", "e")
        assert deltas(frames) == [(0, a), (0, b), (1, c), (1, d), (1, texts("f")[0])]


texts_of_any_kind = st.text(st.characters(exclude_categories=["Cs"]))
arguments = st.dictionaries(
    texts_of_any_kind, st.none() | st.booleans() | st.integers() | texts_of_any_kind | st.lists(texts_of_any_kind)
)
blocks = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, texts_of_any_kind)
    | st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": text}, texts_of_any_kind)
    | st.builds(lambda given: {**TOOL, "input": given}, arguments)
)
cuts_of_any_kind = st.none() | st.lists(st.tuples(st.sampled_from(["0", "1", "2", "9"]), st.integers(0, 9)).map(list))


@settings(deadline=None)
@given(blocks, cuts_of_any_kind, st.lists(st.integers(1, 50)))
def test_any_body_however_it_is_cut(content: list[Body], cuts: Cuts | None, sizes: list[int]) -> None:
    body = message(*content)
    data = b"".join(EventStream.write(one) for one in replay(body, cuts))
    stream, frames = EventStream(), list[Frame]()
    for size in sizes:
        frames += stream.feed(data[:size])
        data = data[size:]
    assembly = assemble([*frames, *stream.feed(data), *stream.end()])
    assert assembly.body() == body
    again = replay(body, assembly.cuts()[0])
    assert assemble(again).cuts() == assembly.cuts()


def client(body: Body, cuts: Cuts | None) -> anthropic.Anthropic:
    """A client of a server that gives *body*, streamed where that is asked."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if not json.loads(request.content).get("stream"):
            return httpx2.Response(200, json=body)
        data = b"".join(EventStream.write(one) for one in replay(body, cuts))
        return httpx2.Response(200, content=data, headers={"content-type": EventStream.media_type})

    transport = httpx2.MockTransport(answer)
    return anthropic.Anthropic(api_key="none", http_client=httpx2.Client(transport=transport))


@bodies
@pytest.mark.parametrize("cuts", [None, [["0", 1], ["1", 2], ["0", 3], ["2", 1]]], ids=["whole", "cut"])
class TestSDK:
    def test_its_final_message(self, body: Body, cuts: Cuts | None) -> None:
        with client(body, cuts) as api:
            whole = api.messages.parse(**ASKED)
            with api.messages.stream(**ASKED) as stream:
                final = stream.get_final_message()
        assert final.model_dump(warnings=False) == whole.model_dump(warnings=False)

    def test_its_events(self, body: Body, cuts: Cuts | None) -> None:
        with client(body, cuts) as api, api.messages.create(**ASKED, stream=True) as stream:
            events = [json.loads(one.to_json()) for one in stream]
        assert events == [json.loads(one.data) for one in replay(body, cuts)]
