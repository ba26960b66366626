"""Gemini's generateContent: streams put together, written again, and read by its own client."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from google import genai
from google.genai import types
from hypothesis import given
from hypothesis import strategies as st

from cachesaver._http._dialect import Body, Cuts, ErrorEvent
from cachesaver._http._gemini import Gemini

from ._replaying import TEXTS, events, fed, read, written

GEMINI = Gemini()
HEAD = {"modelVersion": "gemini-2.5-flash", "responseId": "mAitaLmkHPPlz7IPvtfUqQ4"}
USAGE = {
    "promptTokenCount": 10,
    "candidatesTokenCount": 7,
    "thoughtsTokenCount": 5,
    "totalTokenCount": 22,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 10}],
}
RATINGS = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]
GROUNDING = {"webSearchQueries": ["why"], "groundingChunks": [{"web": {"uri": "https://a.test", "title": "a"}}]}
CALL = {"functionCall": {"name": "weather", "args": {"city": "Zürich"}}, "thoughtSignature": "c2ln"}
THOUGHT = {"text": "**Thinking**\n\nHm. ", "thought": True}


def candidate(*parts: Body, **fields: Any) -> Body:
    return {"content": {"role": "model", "parts": list(parts)}, "finishReason": "STOP", "index": 0, **fields}


def answer(*candidates: Body, **fields: Any) -> Body:
    numbered = [{**one, "index": index} for index, one in enumerate(candidates)]
    return {"candidates": numbered, "usageMetadata": USAGE, **HEAD, **fields}


def text(value: str) -> Body:
    return {"text": value}


BODIES = {
    "text": answer(candidate(text("Why, because."))),
    "empty": answer(candidate(text(""))),
    "unicode": answer(candidate(text("日本 \u2028 é 🦙\r\n\n"))),
    "thoughts": answer(candidate(THOUGHT, text("Why, because."))),
    "signed": answer(candidate(THOUGHT, {"text": "Why.", "thoughtSignature": "c2ln"})),
    "tools": answer(candidate(text("I look."), CALL, {"functionCall": {"name": "time", "args": {}}})),
    "code": answer(
        candidate(
            text("I count."),
            {"executableCode": {"language": "PYTHON", "code": "print(1)"}},
            {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}},
            text("It is 1."),
        )
    ),
    "picture": answer(candidate(text("Here:"), {"inlineData": {"mimeType": "image/png", "data": "aGk="}})),
    "all fields": answer(
        candidate(text("Why."), safetyRatings=RATINGS, groundingMetadata=GROUNDING, avgLogprobs=-0.25),
        promptFeedback={"safetyRatings": RATINGS},
    ),
    "no parts": answer({"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}),
    "no content": answer({"finishReason": "SAFETY", "safetyRatings": RATINGS}),
    "no index": {"candidates": [{"content": {"parts": [text("Why.")], "role": "model"}, "finishReason": "STOP"}]},
    "blocked": {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}, **HEAD},
    "candidates": answer(candidate(text("Why.")), candidate(THOUGHT, text("So.")), candidate(CALL)),
}


def n(body: Body) -> int:
    return len(body.get("candidates") or [1])


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_written_and_read_it_is_the_same(body: Body) -> None:
    assembly = read(GEMINI, written(GEMINI, body), n=n(body))
    assert assembly.ended
    assert assembly.body() == body
    assert len(assembly.cuts()) == len(GEMINI.split(body))


@given(
    texts=st.lists(TEXTS, min_size=2, max_size=4),
    cuts=st.lists(st.tuples(st.sampled_from("0123"), st.integers(0, 9)).map(list)),
    sizes=st.lists(st.integers(0, 80)),
)
def test_wherever_it_is_cut(texts: list[str], cuts: Cuts, sizes: list[int]) -> None:
    parts = [{"text": value, **({} if number % 2 else {"thought": True})} for number, value in enumerate(texts)]
    body = answer(candidate(*parts, CALL), candidate(text(texts[0]), CALL, *parts))
    assert read(GEMINI, written(GEMINI, body, [cuts, cuts[::-1]]), sizes, n=2).body() == body


def test_the_same_pieces_come_again() -> None:
    parts = [
        {"text": "Hm", "thought": True},
        {"text": "!", "thought": True},
        text("Why"),
        text(","),
        CALL,
        text(" so."),
    ]
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}], **HEAD} for part in parts]
    chunks[-1]["candidates"][0]["finishReason"] = "STOP"
    chunks[-1]["usageMetadata"] = USAGE
    assembly = fed(GEMINI, chunks)
    merged = [{"text": "Hm!", "thought": True}, text("Why,"), CALL, text(" so.")]
    assert assembly.body() == answer(candidate(*merged))
    assert events(GEMINI, written(GEMINI, assembly.body(), assembly.cuts())) == chunks


def test_candidates_that_came_in_turns_come_one_after_another() -> None:
    turns = [(0, "Why"), (1, "So"), (0, "?"), (1, "!")]
    chunks = [
        {"candidates": [{"content": {"role": "model", "parts": [text(piece)]}, "index": index}]}
        for index, piece in turns
    ]
    ends = [{"candidates": [{"finishReason": "STOP", "index": index}]} for index in (1, 0)]
    assembly = fed(GEMINI, [*chunks, *ends], n=2)
    assert assembly.ended
    assert assembly.body() == {"candidates": answer(candidate(text("Why?")), candidate(text("So!")))["candidates"]}
    again = events(GEMINI, written(GEMINI, assembly.body(), assembly.cuts()))
    said = [(one["index"], one["content"]["parts"][0]["text"]) for chunk in again for one in chunk["candidates"]]
    assert said == [(0, "Why"), (0, "?"), (1, "So"), (1, "!")]


def test_chunks_without_text_add_none() -> None:
    chunks = [
        {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": reason}]}
        for part, reason in ((text(""), None), (THOUGHT, None), (CALL, None), (text(""), "STOP"))
    ]
    assert fed(GEMINI, chunks).body()["candidates"][0]["content"]["parts"] == [THOUGHT, CALL]


def test_a_chunk_replaces_what_is_known() -> None:
    chunks: list[Body] = [
        {
            "candidates": [candidate(text("a"), finishReason=None, safetyRatings=[])],
            "usageMetadata": {"totalTokenCount": 1},
        },
        {"candidates": [candidate(text("b"), safetyRatings=RATINGS)], "usageMetadata": USAGE},
    ]
    whole = {"candidates": [candidate(text("ab"), safetyRatings=RATINGS)], "usageMetadata": USAGE}
    assert fed(GEMINI, chunks).body() == whole


def test_candidates_share_what_was_made() -> None:
    one, two = GEMINI.split(answer(candidate(text("a")), candidate(text("b"))))
    assert one["candidates"] == [candidate(text("a"))]
    assert two["candidates"] == [candidate(text("b"))]
    kept = {"promptTokenCount": 10, "promptTokensDetails": USAGE["promptTokensDetails"]}
    assert one["usageMetadata"] == {**kept, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 17}
    assert two["usageMetadata"] == {**kept, "candidatesTokenCount": 3, "thoughtsTokenCount": 2, "totalTokenCount": 15}
    assert GEMINI.join([one, two], [False, False]) == answer(candidate(text("a")), candidate(text("b")))


def test_usage_is_of_what_was_billed() -> None:
    bodies = GEMINI.split(BODIES["candidates"])
    joined = GEMINI.join(bodies, [False, True, True])
    assert joined["candidates"] == BODIES["candidates"]["candidates"]
    assert joined["usageMetadata"]["promptTokenCount"] == 10
    assert joined["usageMetadata"]["candidatesTokenCount"] == 2 + 2
    assert joined["usageMetadata"]["thoughtsTokenCount"] == 2 + 1
    assert joined["usageMetadata"]["totalTokenCount"] == 10 + 4 + 3


def test_one_candidate_or_none_is_left_as_it_is() -> None:
    for name in ("text", "blocked", "no index"):
        assert GEMINI.split(BODIES[name]) == [BODIES[name]]
        assert GEMINI.join([BODIES[name]], [True]) == BODIES[name]


def test_candidates_without_usage_get_none() -> None:
    body = {"candidates": answer(candidate(text("a")), candidate(text("b")))["candidates"]}
    assert GEMINI.join(GEMINI.split(body), [True, False]) == body
    assert all("usageMetadata" not in one for one in GEMINI.split(body))


def asked(body: Body) -> tuple[types.GenerateContentResponse, list[types.GenerateContentResponse]]:
    """*body* as the client reads it, whole and streamed."""

    def reply(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith(":generateContent"):
            return httpx2.Response(200, json=body)
        return httpx2.Response(200, content=written(GEMINI, body), headers={"content-type": GEMINI.frames.media_type})

    with httpx2.Client(transport=httpx2.MockTransport(reply)) as http:
        with genai.Client(api_key="k", http_options=types.HttpOptions(httpx_client=http)) as api:
            whole = api.models.generate_content(model="gemini-2.5-flash", contents="Why?")
            return whole, list(api.models.generate_content_stream(model="gemini-2.5-flash", contents="Why?"))


def parts_of(answers: list[types.GenerateContentResponse], index: int) -> list[types.Part]:
    candidates = [one for each in answers for one in each.candidates or [] if (one.index or 0) == index]
    return [part for one in candidates if one.content for part in one.content.parts or []]


def said(parts: list[types.Part]) -> tuple[str, str, list[types.Part]]:
    """The thoughts, the text, and all else."""
    thoughts = "".join(part.text or "" for part in parts if part.thought)
    others = [part for part in parts if part.text is None]
    return thoughts, "".join(part.text or "" for part in parts if not part.thought), others


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_its_client_reads_it(body: Body) -> None:
    whole, chunks = asked(body)
    for index in range(n(body)):
        assert said(parts_of(chunks, index)) == said(parts_of([whole], index))
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert chunks[-1].prompt_feedback == whole.prompt_feedback
    assert {chunk.response_id for chunk in chunks} == {whole.response_id}
    ends = [one.finish_reason for chunk in chunks for one in chunk.candidates or [] if one.finish_reason]
    assert ends == [one.finish_reason for one in whole.candidates or []]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_stream_that_stops_early_has_not_ended(body: Body) -> None:
    *chunks, _ = events(GEMINI, written(GEMINI, body))
    assert not fed(GEMINI, chunks, n=n(body)).ended


def test_an_error_in_a_stream() -> None:
    error = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}
    with pytest.raises(ErrorEvent, match="overloaded"):
        fed(GEMINI, [{"candidates": [{"content": {"parts": [text("a")]}}]}, error])
