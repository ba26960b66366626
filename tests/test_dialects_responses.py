"""OpenAI's Responses API: what is assembled from a stream, and the stream that is written out of it."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from cachesaver._http._dialect import Assembly, Body, Cuts, ErrorEvent, frame
from cachesaver._http._frames import EventStream, Frame
from cachesaver._http._responses import Responses

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
ASKED: dict[str, Any] = {"model": "gpt", "input": "Hi"}
LOGPROB = {"token": "Hi", "bytes": [72, 105], "logprob": -0.5, "top_logprobs": []}
ANNOTATION = {"type": "url_citation", "start_index": 0, "end_index": 2, "title": "Hi", "url": "https://hi.example"}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Zürich"}',
    "status": "completed",
}
CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "code", "input": "print(1)\n"}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "First."}, {"type": "summary_text", "text": "Then."}],
    "encrypted_content": "gAAA",
}
RAW_REASONING = {
    "type": "reasoning",
    "id": "rs_2",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "Let me see."}],
    "status": "completed",
}
SEARCH = {
    "type": "web_search_call",
    "id": "ws_1",
    "status": "completed",
    "action": {"type": "search", "query": "grass"},
}


def part(text: str, **fields: Any) -> Body:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": [], **fields}


def said(*parts: Body, **fields: Any) -> Body:
    item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}
    return {**item, **fields}


def response(*output: Body, **fields: Any) -> Body:
    usage = {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 34,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 46,
    }
    body = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000.0,
        "completed_at": 1700000001.0,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": "gpt",
        "output": list(output),
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage,
    }
    return {**body, **fields}


BODIES = {
    "text": response(said(part("Hello, world."))),
    "nothing": response(),
    "no parts": response(said()),
    "empty text": response(said(part(""))),
    "unicode": response(said(part("Grüße\r\n\u2028\x85\x00🦆\n\ndata: x"))),
    "parts": response(said(part("Hello."), {"type": "refusal", "refusal": "No, I won't."}, part("Bye."))),
    "messages": response(said(part("Hello."), phase="commentary"), said(part("Bye."), id="msg_2")),
    "annotations": response(said(part("Hi", annotations=[ANNOTATION, ANNOTATION]))),
    "logprobs": response(said(part("Hi", logprobs=[LOGPROB]))),
    "no logprobs": response(said({"type": "output_text", "text": "Hi", "annotations": []})),
    "tools": response(CALL, {**CALL, "id": "fc_2", "call_id": "call_3", "arguments": "{}"}, CUSTOM),
    "no id": response({name: value for name, value in CALL.items() if name != "id"}),
    "reasoning": response(REASONING, said(part("Hello."))),
    "raw reasoning": response(RAW_REASONING, CALL),
    "no reasoning": response({"type": "reasoning", "id": "rs_1", "summary": []}, said(part("Hello."))),
    "search": response(SEARCH, said(part("Green.", annotations=[ANNOTATION]))),
}
INCOMPLETE = response(
    said(part("Hel"), status="incomplete"),
    status="incomplete",
    incomplete_details={"reason": "max_output_tokens"},
    completed_at=None,
)
complete = pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
bodies = pytest.mark.parametrize("body", [*BODIES.values(), INCOMPLETE], ids=[*BODIES, "incomplete"])


def replay(body: Body, cuts: Cuts | None = None) -> list[Frame]:
    return list(Responses().replay([body], [cuts], ASKED))


def assemble(frames: list[Frame]) -> Assembly:
    assembly = Responses().assembly(1)
    for one in frames:
        assembly.add(one)
    return assembly


def event(kind: str, **fields: Any) -> Frame:
    return frame({"type": kind, **fields}, kind)


def delta(text: str, kind: str = "output_text", **place: int) -> Frame:
    return event(f"response.{kind}.delta", delta=text, **place)


def deltas(frames: list[Frame]) -> list[tuple[str, str]]:
    events = [json.loads(one.data) for one in frames if str(one.event).endswith(".delta")]
    return [(one["type"], one["delta"]) for one in events]


class TestAssembly:
    def test_the_last_event_has_the_answer(self) -> None:
        body = response(REASONING, RAW_REASONING, said(part("Hello."), {"type": "refusal", "refusal": "No"}), CALL)
        pieces = [
            delta("Fir", "reasoning_summary_text", output_index=0, summary_index=0),
            delta("Then", "reasoning_summary_text", output_index=0, summary_index=1),
            delta("Let", "reasoning_text", output_index=1, content_index=0),
            delta("", output_index=2, content_index=0),
            delta("Hello", output_index=2, content_index=0),
            delta(".", output_index=2, content_index=0),
            delta("No", "refusal", output_index=2, content_index=1),
            delta("{", "function_call_arguments", output_index=3),
        ]
        created = event("response.created", response=response(status="in_progress"))
        assembly = assemble([created, event("keepalive"), *pieces])
        assert not assembly.ended
        assembly.add(event("response.completed", response=body))
        assert assembly.ended
        assert assembly.body() == body
        names = ["0.summary.0", "0.summary.1", "1.0", "2.0", "2.0", "2.1", "3.arguments"]
        assert assembly.cuts() == [[[name, length] for name, length in zip(names, [3, 4, 3, 5, 1, 2, 1], strict=True)]]

    def test_an_incomplete_answer_is_one(self) -> None:
        assembly = assemble([event("response.incomplete", response=INCOMPLETE), Frame("[DONE]")])
        assert assembly.ended
        assert assembly.body() == INCOMPLETE

    def test_errors(self) -> None:
        failed = response(status="failed", error={"code": "server_error", "message": "Sorry."})
        untyped = Frame('{"message":"Sorry."}', "error")
        for last in (event("error", message="Sorry."), untyped, replay(failed)[-1]):
            with pytest.raises(ErrorEvent) as raised:
                assemble([event("response.created", response=response(status="in_progress")), last])
            assert raised.value.args == (last.data,)

    @pytest.mark.parametrize(
        "one",
        [
            Frame("no JSON", "response.completed"),
            Frame("[]", "response.completed"),
            event("response.completed"),
            event("response.completed", response="a"),
            event("response.completed", response=response(output=None)),
            event("response.output_text.delta", output_index=0, content_index=0),
            event("response.output_text.delta", delta=7),
        ],
    )
    def test_what_is_not_understood(self, one: Frame) -> None:
        with pytest.raises(ValueError):
            assemble([one])


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

    @bodies
    def test_events_are_numbered(self, body: Body) -> None:
        events = [json.loads(one.data) for one in replay(body)]
        assert [one["sequence_number"] for one in events] == list(range(len(events)))
        assert [one["type"] for one in events] == [one.event for one in replay(body)]

    def test_the_order_of_events(self) -> None:
        frames = replay(response(REASONING, said(part("Hi", annotations=[ANNOTATION])), SEARCH, CALL))
        summary = ("_part.added", "_text.delta", "_text.done", "_part.done")
        text = ("content_part.added", "output_text.delta", "output_text.annotation.added", "output_text.done")
        call = ("function_call_arguments.delta", "function_call_arguments.done")
        assert [str(one.event).removeprefix("response.") for one in frames] == [
            *("created", "in_progress"),
            *("output_item.added", *(f"reasoning_summary{name}" for name in summary * 2), "output_item.done"),
            *("output_item.added", *text, "content_part.done", "output_item.done"),
            *("output_item.added", "output_item.done"),
            *("output_item.added", *call, "output_item.done"),
            "completed",
        ]

    def test_the_start_does_not_know_the_end(self) -> None:
        events = [json.loads(one.data) for one in replay(INCOMPLETE)]
        unknown = {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        assert [one["response"] for one in events[:2]] == [{**INCOMPLETE, **unknown}] * 2
        assert events[2]["item"] == said(status="in_progress")
        assert events[-1]["type"] == "response.incomplete"

    def test_items_start_without_their_texts(self) -> None:
        frames = replay(response(REASONING, RAW_REASONING, said(part("Hi")), CALL, CUSTOM, SEARCH))
        added = [json.loads(one.data)["item"] for one in frames if one.event == "response.output_item.added"]
        assert added == [
            {**REASONING, "summary": []},
            {**RAW_REASONING, "content": [], "status": "in_progress"},
            said(status="in_progress"),
            {**CALL, "arguments": "", "status": "in_progress"},
            {**CUSTOM, "input": ""},
            SEARCH,
        ]

    def test_logprobs_come_with_the_whole_text(self) -> None:
        body = response(said(part("Hi", logprobs=[LOGPROB])))
        events = {one.event: json.loads(one.data) for one in replay(body)}
        assert events["response.content_part.added"]["part"] == part("")
        assert events["response.output_text.delta"]["logprobs"] == []
        assert events["response.output_text.done"]["logprobs"] == [LOGPROB]
        assert events["response.content_part.done"]["part"] == part("Hi", logprobs=[LOGPROB])

    def test_events_say_where_they_belong(self) -> None:
        frames = replay(response(CALL, said(part("Hi"))))
        place = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
        events = {one.event: json.loads(one.data) for one in frames}
        for name in ("content_part.added", "output_text.delta", "output_text.done", "content_part.done"):
            assert events[f"response.{name}"].items() >= place.items()
        assert events["response.function_call_arguments.done"].items() >= {"item_id": "fc_1", "output_index": 0}.items()

    def test_pieces(self) -> None:
        frames = [
            delta("Fir", "reasoning_summary_text", output_index=0, summary_index=0),
            delta("st.", "reasoning_summary_text", output_index=0, summary_index=0),
            delta("Then.", "reasoning_summary_text", output_index=0, summary_index=1),
            delta("Hel", output_index=1, content_index=0),
            delta("lo.", output_index=1, content_index=0),
            delta('{"city":', "function_call_arguments", output_index=2),
            delta('"Zürich"}', "function_call_arguments", output_index=2),
            delta("print", "custom_tool_call_input", output_index=3),
            delta("(1)\n", "custom_tool_call_input", output_index=3),
        ]
        whole = response(REASONING, said(part("Hello.")), CALL, CUSTOM)
        assembly = assemble([*frames, event("response.completed", response=whole)])
        assert deltas(replay(assembly.body(), assembly.cuts()[0])) == deltas(frames)

    def test_items_come_one_after_another_however_they_were_cut(self) -> None:
        body = response(said(part("abc")), said(part("def"), id="msg_2"))
        frames = replay(body, [["1.0", 1], ["0.0", 2], ["1.0", 1], ["0.0", 1], ["7.0", 3]])
        assert [piece for _, piece in deltas(frames)] == ["ab", "c", "d", "e", "f"]


texts_of_any_kind = st.text(st.characters(exclude_categories=["Cs"]))
items = st.lists(
    st.builds(lambda texts: said(*map(part, texts)), st.lists(texts_of_any_kind))
    | st.builds(lambda text: {**CALL, "arguments": text}, texts_of_any_kind)
    | st.builds(lambda text: {**REASONING, "summary": [{"type": "summary_text", "text": text}]}, texts_of_any_kind)
)
names = st.sampled_from(["0.0", "0.1", "1.0", "0.arguments", "1.arguments", "0.summary.0", "9.9"])
cuts_of_any_kind = st.none() | st.lists(st.tuples(names, st.integers(0, 9)).map(list))


@settings(deadline=None)
@given(items, cuts_of_any_kind, st.lists(st.integers(1, 50)))
def test_any_body_however_it_is_cut(output: list[Body], cuts: Cuts | None, sizes: list[int]) -> None:
    body = response(*output)
    data = b"".join(EventStream.write(one) for one in replay(body, cuts))
    stream, frames = EventStream(), list[Frame]()
    for size in sizes:
        frames += stream.feed(data[:size])
        data = data[size:]
    assembly = assemble([*frames, *stream.feed(data), *stream.end()])
    assert assembly.body() == body
    again = replay(body, assembly.cuts()[0])
    assert assemble(again).cuts() == assembly.cuts()


def client(body: Body, cuts: Cuts | None) -> openai.OpenAI:
    """A client of a server that gives *body*, streamed where that is asked."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if not json.loads(request.content).get("stream"):
            return httpx2.Response(200, json=body)
        data = b"".join(EventStream.write(one) for one in replay(body, cuts))
        return httpx2.Response(200, content=data, headers={"content-type": EventStream.media_type})

    transport = httpx2.MockTransport(answer)
    return openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))


@pytest.mark.parametrize("cuts", [None, [["0.0", 1], ["1.0", 2], ["0.0", 3], ["0.arguments", 4]]], ids=["whole", "cut"])
class TestSDK:
    @complete
    def test_its_final_response(self, body: Body, cuts: Cuts | None) -> None:
        with client(body, cuts) as api:
            whole = api.responses.parse(**ASKED)
            with api.responses.stream(**ASKED) as stream:
                final = stream.get_final_response()
        assert final.model_dump(warnings=False) == whole.model_dump(warnings=False)

    @complete
    def test_what_it_adds_up(self, body: Body, cuts: Cuts | None) -> None:
        with client(body, cuts) as api, api.responses.stream(**ASKED) as stream:
            ends = {}
            for one in stream:
                if one.type in ("response.output_text.delta", "response.function_call_arguments.delta"):
                    ends[one.output_index, getattr(one, "content_index", None)] = one.snapshot
        parts = {(i, j): p for i, item in enumerate(body["output"]) for j, p in enumerate(item.get("content") or ())}
        texts = {place: p["text"] for place, p in parts.items() if p["type"] == "output_text" and p["text"]}
        calls = {(i, None): item["arguments"] for i, item in enumerate(body["output"]) if "arguments" in item}
        assert ends == texts | calls

    @bodies
    def test_its_events(self, body: Body, cuts: Cuts | None) -> None:
        with client(body, cuts) as api:
            whole = api.responses.create(**ASKED)
            with api.responses.create(**ASKED, stream=True) as stream:
                events = list(stream)
        assert [json.loads(one.to_json()) for one in events] == [json.loads(one.data) for one in replay(body, cuts)]
        assert events[-1].type in ("response.completed", "response.incomplete")
        assert events[-1].response.model_dump() == whole.model_dump()
