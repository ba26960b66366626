"""Ollama's chat and generate: streams put together, written again, and read by its own client."""

from __future__ import annotations

import json
from typing import Any

import httpx
import ollama
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachesaver._http._dialect import Body, Cuts, Dialect, ErrorEvent
from cachesaver._http._ollama import OllamaChat, OllamaGenerate

from ._replaying import TEXTS, events, fed, read, written

HEAD = {"model": "qwen3", "created_at": "2026-05-04T14:33:21.123Z"}
END = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}
CALLS = [
    {"id": "call_1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Zürich", "days": 3}}},
    {"id": "call_2", "function": {"index": 1, "name": "time", "arguments": {}}},
]
LOGPROBS = [{"token": "Hi", "logprob": -0.1, "bytes": [72, 105], "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}]


def chat(**fields: Any) -> Body:
    message = {"role": "assistant", "content": "Why, because.", **fields}
    return {**HEAD, "message": message, **END}


def generate(**fields: Any) -> Body:
    return {**HEAD, "response": "Why, because.", **END, "context": [1, 2, 3], **fields}


CHATS = {
    "text": chat(),
    "empty": chat(content=""),
    "unicode": chat(content="日本 \u2028 é 🦙\r\n\n"),
    "thinking": chat(thinking="The user asks why.\n"),
    "empty thinking": chat(thinking=""),
    "tools": chat(content="", tool_calls=CALLS),
    "all": {**chat(content="Let me look.", thinking="Hm.", tool_calls=CALLS), "logprobs": LOGPROBS},
}
GENERATES = {
    "text": generate(),
    "empty": generate(response=""),
    "unicode": generate(response="日本 \u2028 é 🦙\r\n\n"),
    "thinking": generate(thinking="The user asks why.\n"),
    "logprobs": generate(logprobs=LOGPROBS),
}
BODIES = [pytest.param(OllamaChat(), body, id=f"chat {name}") for name, body in CHATS.items()]
BODIES += [pytest.param(OllamaGenerate(), body, id=f"generate {name}") for name, body in GENERATES.items()]
BODIES += [pytest.param(OllamaGenerate(), {**HEAD, "image": "aGk=", **END}, id="generate picture")]
BODIES += [pytest.param(OllamaChat(), chat(content="\ud83e"), id="half a surrogate pair")]


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_written_and_read_it_is_the_same(dialect: Dialect, body: Body) -> None:
    assembly = read(dialect, written(dialect, body))
    assert assembly.ended
    assert assembly.body() == body


@given(
    content=TEXTS | st.just(""),
    thinking=TEXTS,
    cuts=st.lists(st.tuples(st.sampled_from(["content", "thinking", "response"]), st.integers(0, 9)).map(list)),
    sizes=st.lists(st.integers(0, 50)),
)
def test_wherever_it_is_cut(content: str, thinking: str, cuts: Cuts, sizes: list[int]) -> None:
    for dialect, body in (
        (OllamaChat(), chat(content=content, thinking=thinking, tool_calls=CALLS)),
        (OllamaGenerate(), generate(response=content, thinking=thinking)),
    ):
        assert read(dialect, written(dialect, body, [cuts]), sizes).body() == body


def test_the_same_pieces_come_again() -> None:
    pieces = [{"thinking": "The"}, {"thinking": " user"}, {"content": "Why"}, {"content": ","}, {"content": " so."}]
    lines = [
        {**HEAD, "message": {"role": "assistant", "content": "", **piece}, "done": False}
        for piece in [*pieces, {"tool_calls": CALLS[:1]}, {"tool_calls": CALLS[1:]}]
    ]
    lines.append({**HEAD, "message": {"role": "assistant", "content": ""}, **END})
    assembly = fed(OllamaChat(), lines)
    assert assembly.body() == chat(thinking="The user", content="Why, so.", tool_calls=CALLS)
    again = events(OllamaChat(), written(OllamaChat(), assembly.body(), assembly.cuts()))
    assert again[:5] == lines[:5]
    assert again[5]["message"]["tool_calls"] == CALLS
    assert again[6:] == lines[7:]


def test_the_same_pieces_of_generate_come_again() -> None:
    lines: list[Body] = [
        {**HEAD, "response": "", "thinking": "Hm", "done": False},
        {**HEAD, "response": "Why", "done": False, "logprobs": LOGPROBS},
        {**HEAD, "response": " so.", "done": False, "logprobs": LOGPROBS},
        {**HEAD, "response": "", **END, "context": [1]},
    ]
    assembly = fed(OllamaGenerate(), lines)
    assert assembly.body() == generate(response="Why so.", thinking="Hm", context=[1], logprobs=LOGPROBS * 2)
    again = events(OllamaGenerate(), written(OllamaGenerate(), assembly.body(), assembly.cuts()))
    assert [(one["response"], one.get("thinking")) for one in again] == [
        (one["response"], one.get("thinking")) for one in lines
    ]


def client(dialect: Dialect, body: Body) -> ollama.Client:
    def answer(request: httpx.Request) -> httpx.Response:
        if not json.loads(request.content)["stream"]:
            return httpx.Response(200, json=body)
        return httpx.Response(200, content=written(dialect, body), headers={"content-type": dialect.frames.media_type})

    return ollama.Client(host="http://ollama.test", transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("body", CHATS.values(), ids=CHATS)
def test_its_client_reads_a_chat(body: Body) -> None:
    with client(OllamaChat(), body) as api:
        whole = api.chat("qwen3", [{"role": "user", "content": "Why?"}])
        parts = list(api.chat("qwen3", [{"role": "user", "content": "Why?"}], stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    assert "".join(part.message.thinking or "" for part in parts) == (whole.message.thinking or "")
    assert [call for part in parts for call in part.message.tool_calls or []] == (whole.message.tool_calls or [])
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (parts[-1].eval_count, parts[-1].done_reason) == (whole.eval_count, whole.done_reason)


@pytest.mark.parametrize("body", GENERATES.values(), ids=GENERATES)
def test_its_client_reads_what_was_generated(body: Body) -> None:
    with client(OllamaGenerate(), body) as api:
        whole = api.generate("qwen3", "Why?")
        parts = list(api.generate("qwen3", "Why?", stream=True))
    assert "".join(part.response or "" for part in parts) == whole.response
    assert "".join(part.thinking or "" for part in parts) == (whole.thinking or "")
    assert (parts[-1].eval_count, parts[-1].context) == (whole.eval_count, whole.context)


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_a_stream_that_stops_early_has_not_ended(dialect: Dialect, body: Body) -> None:
    *lines, _ = events(dialect, written(dialect, body))
    assert not fed(dialect, lines).ended


def test_an_error_in_a_stream() -> None:
    with pytest.raises(ErrorEvent, match="went wrong"):
        fed(OllamaChat(), [*events(OllamaChat(), written(OllamaChat(), chat()))[:1], {"error": "it went wrong"}])
