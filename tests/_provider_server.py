"""A server that speaks the APIs of many providers, so that their own SDKs can be tested: plain, streamed and failing.

Every answer it sells is unique (`answer 0`, `answer 1`, ...), so that one that was delivered twice, or lost, shows.
"""

from __future__ import annotations

import base64
import json
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import zip_longest
from re import fullmatch
from socket import MSG_DONTWAIT, MSG_PEEK
from ssl import SSLContext
from threading import Lock, Semaphore, Thread
from typing import Any

Json = dict[str, Any]
Sell = Callable[[int], list[int]]  #: the numbers of as many new answers

FAILED = {"error": {"message": "as scripted"}}
GATE_TIMEOUT = 10.0  #: a stream whose gate stays shut goes on after as many seconds, so that no test hangs


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    path: str  #: with the query
    method: str
    headers: dict[str, str]  #: names in lower case
    body: Any  #: parsed; None where there is none, or it is no JSON


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one POST. `Fault()` lets one pass, so that a later one can be hit."""

    status: int | None = None  #: instead of an answer; nothing is sold
    body: Any = None  #: of that status
    headers: Json = field(default_factory=dict)  #: added to whatever is answered
    cut_after: int | None = None  #: stream events until the connection breaks; half a plain body; -1: no answer at all
    silent_end_after: int | None = None  #: stream events until a clean end that lacks (at least) the terminal event
    error_event: bool = False  #: in the middle of the stream, which then ends; a plain request gets a 500


@dataclass
class ProviderServer:
    """What was asked of it, what it sold, and how it shall behave."""

    url: str = ""
    requests: list[Asked] = field(default_factory=list)
    sold: int = 0
    faults: list[Fault] = field(default_factory=list)  #: each is used up by one POST, in order
    encoding: str | None = None  #: "gzip" or "br", for every answer and whatever the client accepts
    gate: Semaphore | None = None  #: acquired before each stream event but the first
    hold: Semaphore | None = None  #: acquired before anything is answered
    delay: float = 0.0
    ignores_n: bool = False  #: sells one answer, however many are asked for
    open: int = 0  #: streams that are being sent
    closed_early: int = 0  #: streams whose client went away before their end
    lock: Lock = field(default_factory=Lock)

    def arrived(self, asked: Asked) -> tuple[int, Fault]:
        """The number of the request, and what goes wrong with it."""
        with self.lock:
            self.requests.append(asked)
            faulty = asked.method == "POST" and self.faults
            return len(self.requests), self.faults.pop(0) if faulty else Fault()

    def sell(self, count: int) -> list[int]:
        with self.lock:
            self.sold += count
            return list(range(self.sold - count, self.sold))

    def count(self, *, opened: int = 0, closed_early: int = 0) -> None:
        with self.lock:
            self.open += opened
            self.closed_early += closed_early


@dataclass(frozen=True)
class Reply:
    """Either a whole body, or the events of a stream as they go over the wire."""

    body: Any = None
    events: list[str] | None = None
    error: str = ""  #: the event by which this provider reports an error inside of a stream
    media: str = "text/event-stream"
    status: int = 200

    def scripted(self, fault: Fault) -> list[str]:
        """The events that are sent in spite of the fault."""
        events = self.events or []
        if fault.error_event:
            return [*events[: len(events) // 2], self.error]
        if fault.silent_end_after is not None:
            return events[:-1][: fault.silent_end_after]
        return events if fault.cut_after is None else events[: fault.cut_after]


# ---------------------------------------------------------------------------------------------------------------------
# What all have in common


def sse(data: Any, event: str = "") -> str:
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


def line(data: Any) -> str:
    return json.dumps(data) + "\n"


def text_of(number: int, as_json: Any = False) -> str:
    return json.dumps({"answer": number}) if as_json else f"answer {number}"


def arguments(number: int) -> Json:
    return {"city": f"answer {number}"}


def pieces(text: str) -> list[str]:
    return [text[:3], text[3:6], text[6:]]


def interleaved(streams: Iterable[list[Any]]) -> list[Any]:
    """The streams of all choices, mixed; the last choice comes first, so that nobody relies on their order."""
    rows = zip_longest(*reversed(list(streams)))
    return [event for row in rows for event in row if event is not None]


def calls(body: Json, tools: Any) -> bool:
    """Whether the answer is a call of a tool. Not once a tool has answered: loops over tools must end."""
    results = ('"role": "tool"', '"tool_result"', '"function_call_output"', '"functionResponse"', '"tool_results"')
    return bool(tools) and body.get("tool_choice") != "none" and not any(mark in json.dumps(body) for mark in results)


def listed(inputs: Any) -> list[Any]:
    return inputs if isinstance(inputs, list) else [inputs]


def vector(number: int) -> list[float]:
    return [float(number), 0.5, -0.25]


# ---------------------------------------------------------------------------------------------------------------------
# OpenAI's chat completions, and those who speak them: Mistral, Groq, Together, OpenRouter, Hugging Face, vLLM...

OPENAI_ERROR = sse({"error": {"message": "as scripted", "type": "server_error", "code": "500", "param": None}})


def openai_usage(numbers: list[int]) -> Json:
    bought = 7 * len(numbers)
    return {"prompt_tokens": 10, "completion_tokens": bought, "total_tokens": 10 + bought}


def chat_logprobs(body: Json, text: str | None) -> Json | None:
    if not body.get("logprobs"):
        return None
    token = {"token": text or "", "logprob": -0.5, "bytes": list((text or "").encode())}
    return {"content": [token | {"top_logprobs": [token]}], "refusal": None}


def chat_message(body: Json, number: int) -> Json:
    if calls(body, body.get("tools")):
        function = {"name": "get_weather", "arguments": json.dumps(arguments(number))}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    as_json = body.get("response_format", {}).get("type", "text") != "text"
    return {"role": "assistant", "content": text_of(number, as_json)}


def chat_deltas(body: Json, number: int) -> list[Json]:
    message = chat_message(body, number)
    if message["content"] is not None:
        return [message | {"content": ""}, *({"content": piece} for piece in pieces(message["content"]))]
    call = message["tool_calls"][0] | {"index": 0}
    if "mistral" in body.get("model", ""):  # it never splits a call, and its SDK could not read the pieces
        return [message | {"content": "", "tool_calls": [call]}]
    opening = call | {"function": call["function"] | {"arguments": ""}}
    rest = [{"index": 0, "function": {"arguments": piece}} for piece in pieces(call["function"]["arguments"])]
    return [message | {"tool_calls": [opening]}, *({"tool_calls": [piece]} for piece in rest)]


def chat_stream(body: Json, shared: Json, numbers: list[int]) -> list[str]:
    def chunk(index: int, delta: Json, finish: str | None = None) -> Json:
        logprobs = chat_logprobs(body, delta["content"]) if delta.get("content") else None
        choice = {"index": index, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return shared | {"object": "chat.completion.chunk", "choices": [choice]}

    def choice(index: int, number: int) -> list[Json]:
        deltas = chat_deltas(body, number)
        finish = "tool_calls" if "tool_calls" in deltas[0] else "stop"
        return [*(chunk(index, delta) for delta in deltas), chunk(index, {}, finish)]

    chunks = interleaved(choice(index, number) for index, number in enumerate(numbers))
    return [*with_usage(body, chunks, numbers), sse("[DONE]")]


def with_usage(body: Json, chunks: list[Json], numbers: list[int]) -> list[str]:
    """The chunks, framed: OpenAI tells the usage in one more where it was asked, Mistral in the last and unasked."""
    if (body.get("stream_options") or {}).get("include_usage"):
        last = chunks[-1] | {"choices": [], "usage": openai_usage(numbers)}
        return [sse(chunk) for chunk in [*(chunk | {"usage": None} for chunk in chunks), last]]
    if "mistral" in body.get("model", ""):
        chunks[-1]["usage"] = openai_usage(numbers)
    return [sse(chunk) for chunk in chunks]


def chat(path: str, body: Json, sell: Sell) -> Reply:
    numbers = sell(body.get("n") or 1)
    shared = {"id": f"chatcmpl-{numbers[0]}", "created": 1, "model": body.get("model", ""), "system_fingerprint": "fp"}
    if body.get("stream"):
        return Reply(events=chat_stream(body, shared, numbers), error=OPENAI_ERROR)
    messages = [chat_message(body, number) for number in numbers]
    choices = [
        {
            "index": index,
            "message": message,
            "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
            "logprobs": chat_logprobs(body, message["content"]),
        }
        for index, message in enumerate(messages)
    ]
    whole = {"object": "chat.completion", "choices": choices, "usage": openai_usage(numbers), "prompt": []}
    return Reply(shared | whole)


def completions(path: str, body: Json, sell: Sell) -> Reply:
    prompts = body.get("prompt", "")
    many = len(prompts) if isinstance(prompts, list) and not all(isinstance(token, int) for token in prompts) else 1
    numbers = sell((body.get("n") or 1) * many)
    shared = {"id": f"cmpl-{numbers[0]}", "object": "text_completion", "created": 1, "model": body.get("model", "")}

    def part(index: int, text: str, finish: str | None) -> Json:
        return {"index": index, "text": text, "finish_reason": finish, "logprobs": None}

    if not body.get("stream"):
        choices = [part(index, text_of(number), "stop") for index, number in enumerate(numbers)]
        return Reply(shared | {"choices": choices, "usage": openai_usage(numbers), "prompt": []})
    streams = (
        [*(part(index, piece, None) for piece in pieces(text_of(number))), part(index, "", "stop")]
        for index, number in enumerate(numbers)
    )
    chunks = [shared | {"choices": [choice]} for choice in interleaved(streams)]
    return Reply(events=[*with_usage(body, chunks, numbers), sse("[DONE]")], error=OPENAI_ERROR)


def embeddings(path: str, body: Json, sell: Sell) -> Reply:
    inputs = body.get("input", "")
    one = isinstance(inputs, str) or all(isinstance(token, int) for token in inputs)
    numbers = sell(1 if one else len(inputs))

    def encoded(number: int) -> Any:
        floats = vector(number)
        packed = struct.pack(f"<{len(floats)}f", *floats)
        return base64.b64encode(packed).decode() if body.get("encoding_format") == "base64" else floats

    data = [
        {"object": "embedding", "index": index, "embedding": encoded(number)} for index, number in enumerate(numbers)
    ]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return Reply({"id": "embd-1", "object": "list", "model": body.get("model", ""), "data": data, "usage": usage})


# ---------------------------------------------------------------------------------------------------------------------
# OpenAI's responses


def response_item(body: Json, number: int) -> Json:
    if calls(body, body.get("tools")):
        call = {"name": "get_weather", "arguments": json.dumps(arguments(number)), "call_id": f"call_{number}"}
        return {"id": f"fc_{number}", "type": "function_call", "status": "completed"} | call
    form = (body.get("text") or {}).get("format") or {}
    text = text_of(number, form.get("type", "text") != "text")
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": f"msg_{number}", "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def response_events(item: Json) -> list[Json]:
    """What happens to the one item, from its being added to its being done."""
    place = {"item_id": item["id"], "output_index": 0}
    opened = {"type": "response.output_item.added", "output_index": 0, "item": item | {"status": "in_progress"}}
    closed = {"type": "response.output_item.done", "output_index": 0, "item": item}
    if item["type"] == "function_call":
        opened["item"]["arguments"] = ""
        kind = "response.function_call_arguments"
        deltas = [{"type": f"{kind}.delta", "delta": piece} | place for piece in pieces(item["arguments"])]
        done = {"type": f"{kind}.done", "name": item["name"], "arguments": item["arguments"]} | place
        return [opened, *deltas, done, closed]
    opened["item"]["content"] = []
    place["content_index"] = 0
    part = item["content"][0]
    kind = "response.output_text"
    deltas = [{"type": f"{kind}.delta", "delta": piece, "logprobs": []} | place for piece in pieces(part["text"])]
    return [
        opened,
        {"type": "response.content_part.added", "part": part | {"text": ""}} | place,
        *deltas,
        {"type": f"{kind}.done", "text": part["text"], "logprobs": []} | place,
        {"type": "response.content_part.done", "part": part} | place,
        closed,
    ]


def responses(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    item = response_item(body, number)
    usage = {"input_tokens": 10, "output_tokens": 7, "total_tokens": 17}
    usage["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
    usage["output_tokens_details"] = {"reasoning_tokens": 0}
    shared = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": body.get("model", "")}
    shared |= {"error": None, "incomplete_details": None, "instructions": None, "metadata": {}, "temperature": 1.0}
    shared |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": body.get("tools") or [], "top_p": 1.0}
    shared |= {"text": body.get("text") or {"format": {"type": "text"}}}
    begun = shared | {"status": "in_progress", "output": [], "usage": None}
    whole = shared | {"status": "completed", "output": [item], "usage": usage}
    if not body.get("stream"):
        return Reply(whole)
    happened = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        *response_events(item),
        {"type": "response.completed", "response": whole},
    ]
    events = [sse(event | {"sequence_number": place}, event["type"]) for place, event in enumerate(happened)]
    error = {"type": "error", "code": "server_error", "message": "as scripted", "param": None, "sequence_number": 99}
    return Reply(events=events, error=sse(error, "error"))


# ---------------------------------------------------------------------------------------------------------------------
# Anthropic


def anthropic_blocks(body: Json, number: int) -> list[Json]:
    thinking = {"type": "thinking", "thinking": f"thought {number}", "signature": f"signature {number}"}
    blocks = [thinking] if (body.get("thinking") or {}).get("type", "disabled") != "disabled" else []
    if calls(body, body.get("tools")):
        call = {"type": "tool_use", "id": f"toolu_{number}", "name": "get_weather", "input": arguments(number)}
        return [*blocks, call]
    as_json = (body.get("output_config") or {}).get("format") or body.get("output_format")
    return [*blocks, {"type": "text", "text": text_of(number, as_json)}]


def anthropic_block_events(index: int, block: Json) -> list[Json]:
    match block["type"]:
        case "thinking":
            empty = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            empty = {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": ""}]
            deltas += [
                {"type": "input_json_delta", "partial_json": part} for part in pieces(json.dumps(block["input"]))
            ]
        case _:
            empty = {"text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    return [
        {"type": "content_block_start", "index": index, "content_block": block | empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def messages(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    blocks = anthropic_blocks(body, number)
    stop = {"stop_reason": "tool_use" if blocks[-1]["type"] == "tool_use" else "end_turn", "stop_sequence": None}
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body.get("model", "")}
    usage = {"input_tokens": 10, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 7}
    if not body.get("stream"):
        return Reply(message | stop | {"content": blocks, "usage": usage})
    begun = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    happened = [
        {"type": "message_start", "message": begun | {"usage": usage | {"output_tokens": 1}}},
        *(event for index, block in enumerate(blocks) for event in anthropic_block_events(index, block)),
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    happened.insert(2, {"type": "ping"})
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "as scripted"}}
    return Reply(events=[sse(event, event["type"]) for event in happened], error=sse(error, "error"))


def count_tokens(path: str, body: Json, sell: Sell) -> Reply:
    return Reply({"input_tokens": 10, "totalTokens": 10})


# ---------------------------------------------------------------------------------------------------------------------
# Gemini


def gemini_parts(body: Json, number: int) -> list[Json]:
    config = body.get("generationConfig") or {}
    thought = {"text": f"thought {number}", "thought": True}
    thinking = config.get("thinkingConfig") or {}  # Google's own SDK writes it either way, and so may everybody
    parts = [thought] if thinking.get("includeThoughts") or thinking.get("include_thoughts") else []
    if calls(body, any("functionDeclarations" in tool for tool in body.get("tools") or [])):
        return [*parts, {"functionCall": {"name": "get_weather", "args": arguments(number)}}]
    return [*parts, {"text": text_of(number, config.get("responseMimeType") == "application/json")}]


def gemini_pieces(body: Json, number: int) -> list[Json]:
    """The parts with the text, but not the thought or a call, in pieces."""
    *others, last = gemini_parts(body, number)
    return [*others, *({"text": piece} for piece in pieces(last["text"]))] if "text" in last else [*others, last]


def generate_content(path: str, body: Json, sell: Sell) -> Reply:
    numbers = sell((body.get("generationConfig") or {}).get("candidateCount") or 1)
    bought = 7 * len(numbers)
    usage = {"promptTokenCount": 10, "candidatesTokenCount": bought, "totalTokenCount": 10 + bought}
    model = path.rpartition("/")[2].partition(":")[0]
    shared = {"usageMetadata": usage, "modelVersion": model, "responseId": f"response-{numbers[0]}"}

    def candidate(index: int, parts: list[Json], **finish: str) -> Json:
        return {"content": {"parts": parts, "role": "model"}, "index": index, **finish}

    if ":stream" not in path:
        whole = [
            candidate(index, gemini_parts(body, number), finishReason="STOP") for index, number in enumerate(numbers)
        ]
        return Reply(shared | {"candidates": whole})

    def stream(index: int, number: int) -> list[Json]:
        *parts, last = gemini_pieces(body, number)
        return [*(candidate(index, [part]) for part in parts), candidate(index, [last], finishReason="STOP")]

    mixed = interleaved(stream(index, number) for index, number in enumerate(numbers))
    error = sse({"error": {"code": 503, "message": "as scripted", "status": "UNAVAILABLE"}})
    return Reply(events=[sse(shared | {"candidates": [part]}).replace("\n", "\r\n") for part in mixed], error=error)


def embed_content(path: str, body: Json, sell: Sell) -> Reply:
    if ":batch" not in path:
        return Reply({"embedding": {"values": vector(sell(1)[0])}})
    return Reply({"embeddings": [{"values": vector(number)} for number in sell(len(body.get("requests", [])))]})


# ---------------------------------------------------------------------------------------------------------------------
# Cohere, the second and the first version

COHERE_TOKENS = {"input_tokens": 10, "output_tokens": 7}
COHERE_USAGE = {"billed_units": COHERE_TOKENS, "tokens": COHERE_TOKENS}


def cohere_stream(message: Json) -> list[Json]:
    """The events between the start and the end of the message."""
    if "content" in message:
        text = message["content"][0]["text"]
        contents = [{"type": "text", "text": ""}, *({"text": piece} for piece in pieces(text))]
        kinds = ["content-start"] + ["content-delta"] * 3
        parts = [("content", content) for content in contents]
        end = "content-end"
    else:
        call = message["tool_calls"][0]
        opening = call | {"function": call["function"] | {"arguments": ""}}
        rest = [{"function": {"arguments": piece}} for piece in pieces(call["function"]["arguments"])]
        parts = [("tool_plan", piece) for piece in pieces(message["tool_plan"])]
        parts += [("tool_calls", part) for part in [opening, *rest]]
        kinds = ["tool-plan-delta"] * 3 + ["tool-call-start"] + ["tool-call-delta"] * 3
        end = "tool-call-end"
    events = [
        {"type": kind, "index": 0, "delta": {"message": {name: part}}}
        for kind, (name, part) in zip(kinds, parts, strict=True)
    ]
    return [*events, {"type": end, "index": 0}]


def cohere_chat(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    message: Json = {"role": "assistant"}
    if calls(body, body.get("tools")):
        function = {"name": "get_weather", "arguments": json.dumps(arguments(number))}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        message |= {"tool_plan": f"I plan {number}", "tool_calls": [call]}
    else:
        as_json = (body.get("response_format") or {}).get("type", "text") != "text"
        message |= {"content": [{"type": "text", "text": text_of(number, as_json)}]}
    finish = "TOOL_CALL" if "tool_calls" in message else "COMPLETE"
    shared = {"id": f"chat-{number}"}
    if not body.get("stream"):
        return Reply(shared | {"message": message, "finish_reason": finish, "usage": COHERE_USAGE})
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    happened = [
        shared | {"type": "message-start", "delta": {"message": empty}},
        *cohere_stream(message),
        shared | {"type": "message-end", "delta": {"finish_reason": finish, "usage": COHERE_USAGE}},
    ]
    error = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "as scripted"}}
    return Reply(events=[sse(event, event["type"]) for event in happened], error=sse(error, "message-end"))


def cohere_chat_v1(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    called = calls(body, body.get("tools"))
    call = {"name": "get_weather", "parameters": arguments(number)}
    text = "" if called else text_of(number, (body.get("response_format") or {}).get("type", "text") != "text")
    whole = {"text": text, "generation_id": f"gen-{number}", "response_id": f"chat-{number}", "chat_history": []}
    whole |= {"finish_reason": "COMPLETE", "meta": COHERE_USAGE | {"api_version": {"version": "1"}}}
    whole |= {"tool_calls": [call]} if called else {}
    if not body.get("stream"):
        return Reply(whole)
    if called:
        deltas = [{"index": 0, "name": call["name"]}]
        deltas += [{"index": 0, "parameters": piece} for piece in pieces(json.dumps(call["parameters"]))]
        middle: list[Json] = [{"event_type": "tool-calls-chunk", "tool_call_delta": delta} for delta in deltas]
        middle.append({"event_type": "tool-calls-generation", "tool_calls": [call]})
    else:
        middle = [{"event_type": "text-generation", "text": piece} for piece in pieces(text)]
    start = {"event_type": "stream-start", "generation_id": f"gen-{number}"}
    end = {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": whole, "is_finished": True}
    failed = end | {"finish_reason": "ERROR", "response": whole | {"text": "", "finish_reason": "ERROR"}}
    events = [line({"is_finished": False} | event) for event in [start, *middle, end]]
    return Reply(events=events, error=line(failed), media="application/stream+json")


def cohere_embed(path: str, body: Json, sell: Sell) -> Reply:
    texts = body.get("texts") or []
    vectors = [vector(number) for number in sell(len(texts) or len(body.get("inputs") or []))]
    by_type = dict.fromkeys(body.get("embedding_types") or ["float"], vectors)
    shared = {"id": "embed-1", "texts": texts, "meta": COHERE_USAGE | {"api_version": {"version": "2"}}}
    return Reply(shared | {"response_type": "embeddings_by_type", "embeddings": by_type})


# ---------------------------------------------------------------------------------------------------------------------
# Ollama


def ollama_answer(path: str, body: Json, number: int) -> list[Json]:
    """The messages that make up the answer: thoughts, then a call or the text, in pieces."""
    thoughts = [{"thinking": piece} for piece in pieces(f"thought {number}")] if body.get("think") else []
    if calls(body, body.get("tools")):
        return [*thoughts, {"tool_calls": [{"function": {"name": "get_weather", "arguments": arguments(number)}}]}]
    return [*thoughts, *({"content": piece} for piece in pieces(text_of(number, body.get("format"))))]


def ollama(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    shared = {"model": body.get("model", ""), "created_at": "2025-01-01T00:00:00.000000Z"}
    done = {"done": True, "done_reason": "stop", "total_duration": 5, "load_duration": 1, "prompt_eval_count": 10}
    done |= {"prompt_eval_duration": 2, "eval_count": 7, "eval_duration": 2}

    def placed(part: Json) -> Json:
        if path.endswith("/chat"):
            return {"message": {"role": "assistant", "content": "", **part}}
        rest = {name: value for name, value in part.items() if name != "content"}
        return {"response": part.get("content", ""), **rest}

    parts = ollama_answer(path, body, number)
    if body.get("stream", True):
        happened = [*(shared | placed(part) | {"done": False} for part in parts), shared | placed({}) | done]
        error = line({"error": "as scripted"})
        return Reply(events=[line(event) for event in happened], error=error, media="application/x-ndjson")
    whole: Json = {}
    for part in parts:
        for name, value in part.items():
            whole[name] = whole[name] + value if name in whole else value
    return Reply(shared | placed(whole) | done)


def ollama_embed(path: str, body: Json, sell: Sell) -> Reply:
    if path.endswith("/embeddings"):  # the older of the two
        return Reply({"embedding": vector(sell(1)[0])})
    vectors = [vector(number) for number in sell(len(listed(body.get("input", ""))))]
    timings = {"total_duration": 5, "load_duration": 1, "prompt_eval_count": 10}
    return Reply({"model": body.get("model", ""), "embeddings": vectors} | timings)


# ---------------------------------------------------------------------------------------------------------------------
# Hugging Face's own, and what is no model


def hugging_face(path: str, body: Json, sell: Sell) -> Reply:
    (number,) = sell(1)
    if not body.get("stream"):
        return Reply([{"generated_text": text_of(number)}])
    tokens = [{"id": 1, "logprob": -0.5, "special": False, "text": piece} for piece in pieces(text_of(number))]
    happened: list[Json] = [{"index": place, "token": token} for place, token in enumerate(tokens, 1)]
    details = {"finish_reason": "eos_token", "generated_tokens": 7, "input_length": 10, "seed": None}
    happened[-1] |= {"generated_text": text_of(number), "details": details}
    error = sse({"error": "as scripted", "error_type": "overloaded"})
    return Reply(events=[sse(event).replace("data: ", "data:") for event in happened], error=error)


def file(path: str, body: Json, sell: Sell) -> Reply:
    made = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}
    return Reply(made | {"sample_type": "batch_request", "source": "upload"})


def known(path: str) -> Reply:
    """Any GET: a list of models, or of agent harnesses (none), or one model."""
    if path.endswith("/agent-harnesses"):
        return Reply({"standardEnvVars": [], "harnesses": {}})
    kind = {"object": "model", "created": 1, "owned_by": "x", "type": "model", "created_at": "2025-01-01T00:00:00Z"}
    if "/models/" in path:
        name = path.partition("/models/")[2]
        info = {"name": f"models/{name}", "display_name": name, "tags": ["conversational"]}
        return Reply({"id": name, "pipeline_tag": "text-generation"} | kind | info)
    listed_here = {"object": "list", "data": [{"id": "model-1", "display_name": "model-1"} | kind], "has_more": False}
    return Reply(listed_here | {"models": [{"name": "models/model-1", "model": "model-1"}]})


# ---------------------------------------------------------------------------------------------------------------------
# The server

ROUTES: list[tuple[str, Callable[[str, Json, Sell], Reply]]] = [
    (r"/(chat|fim|agents)/completions", chat),
    (r"/completions", completions),
    (r"/responses", responses),
    (r"/api/embeddings|/api/embed", ollama_embed),
    (r"/embeddings", embeddings),
    (r"/messages/count_tokens|:countTokens", count_tokens),
    (r"/messages", messages),
    (r":generateContent|:streamGenerateContent", generate_content),
    (r":embedContent|:batchEmbedContents", embed_content),
    (r"/v2/chat", cohere_chat),
    (r"/v1/chat", cohere_chat_v1),
    (r"/v[12]/embed", cohere_embed),
    (r"/api/(chat|generate)", ollama),
    (r"/files", file),
    (r"/models/[^:]+", hugging_face),
]


def replied(asked: Asked, sell: Sell) -> Reply:
    path = asked.path.partition("?")[0]
    if asked.method == "GET":
        return known(path)
    if asked.method == "POST":
        for pattern, reply in ROUTES:
            if fullmatch(f".*({pattern})", path):
                return reply(path, asked.body or {}, sell)
    return Reply({"error": {"message": f"no such path: {path}", "type": "not_found_error"}}, status=404)


def squeezed(encoding: str | None, parts: list[bytes]) -> list[bytes]:
    """The parts, each compressed such that it can be read on its arrival, and the end of the compressed stream."""
    if encoding == "gzip":
        gzip = zlib.compressobj(wbits=31)
        return [*(gzip.compress(part) + gzip.flush(zlib.Z_SYNC_FLUSH) for part in parts), gzip.flush()]
    if encoding == "br":
        import brotli

        br = brotli.Compressor()
        return [*(br.process(part) + br.flush() for part in parts), br.finish()]
    return [*parts, b""]


def chunked(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""  # an empty chunk would be the end


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    provider: ProviderServer

    def handle_one(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.path, self.command, headers, self.read())
        number, fault = self.provider.arrived(asked)
        time.sleep(self.provider.delay)
        if self.provider.hold:
            self.provider.hold.acquire(timeout=GATE_TIMEOUT)
        self.extra = {("request-id" if "/messages" in self.path else "x-request-id"): f"req-{number}"} | fault.headers
        if fault.cut_after == -1:
            self.close_connection = True
            return
        if fault.status is not None:
            return self.send_whole(fault.status, FAILED if fault.body is None else fault.body)
        one_only = (lambda count: self.provider.sell(1)) if self.provider.ignores_n else self.provider.sell
        reply = replied(asked, one_only)
        if reply.events is not None:
            return self.send_stream(reply, fault)
        if fault.error_event:
            return self.send_whole(500, FAILED)
        return self.send_whole(reply.status, reply.body, cut=fault.cut_after is not None)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

    def read(self) -> Any:
        try:
            return json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        except ValueError:
            return None

    def head(self, status: int, media: str, length: tuple[str, str]) -> None:
        self.send_response(status)
        noise = {"content-type": media, "x-ratelimit-remaining": "9000", "set-cookie": "a=b"}
        squeeze = {"content-encoding": self.provider.encoding} if self.provider.encoding else {}
        for name, value in (noise | squeeze | self.extra | dict([length])).items():
            self.send_header(name, value)
        self.end_headers()

    def send_whole(self, status: int, body: Any, cut: bool = False) -> None:
        payload = b"".join(squeezed(self.provider.encoding, [json.dumps(body).encode()]))
        self.head(status, "application/json", ("content-length", str(len(payload))))
        self.wfile.write(payload[: len(payload) // 2] if cut else payload)
        self.close_connection |= cut

    def send_stream(self, reply: Reply, fault: Fault) -> None:
        events = [event.encode() for event in reply.scripted(fault)]
        parts = [chunked(part) for part in squeezed(self.provider.encoding, events)]
        end = parts.pop()
        if fault.cut_after is None:  # the end goes with the last event, as clients leave once they have read that
            parts = [*parts[:-1], b"".join([*parts[-1:], end, b"0\r\n\r\n"])]
        self.provider.count(opened=1)
        try:
            self.head(200, reply.media, ("transfer-encoding", "chunked"))
            for place, part in enumerate(parts):
                self.wait(gated=place > 0)
                self.wfile.write(part)
        except OSError:
            self.provider.count(closed_early=1)
            self.close_connection = True
        finally:
            self.provider.count(opened=-1)
        self.close_connection |= fault.cut_after is not None

    def wait(self, gated: bool) -> None:
        """For the gate; an OSError where the client goes away before it opens."""
        gate, deadline = self.provider.gate, time.monotonic() + GATE_TIMEOUT
        self.expect_client()
        while gated and gate and time.monotonic() < deadline and not gate.acquire(timeout=0.02):
            self.expect_client()

    def expect_client(self) -> None:
        """An OSError where the client has gone; writing alone would notice it one event too late."""
        with suppress(BlockingIOError):
            if self.connection.recv(1, MSG_PEEK | MSG_DONTWAIT) == b"":
                raise BrokenPipeError

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *args: Any) -> None:
        """Says nothing: clients that leave are no errors here."""


@contextmanager
def provider_server(tls: SSLContext | None = None) -> Iterator[ProviderServer]:
    """The server, on a port of its own, as long as the block; with *tls* it speaks HTTPS."""
    provider = ProviderServer()
    with Server(("127.0.0.1", 0), type("Bound", (Handler,), {"provider": provider})) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        provider.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
