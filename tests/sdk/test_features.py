"""What the SDKs can do beyond plain chat: recorded live, replayed offline by a new client, equal field by field."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from .._colours import BY_NAME, COLOURS, Ask, ask_in, asked, on, rows
from .._provider_server import ProviderServer, provider_server

# The SDKs leave the generators of a stream to the garbage collector, with a cache underneath or without.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")

SAY = [{"role": "user", "content": "How is the weather?"}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather of a city", "parameters": SCHEMA}
TOOLS = [{"type": "function", "function": WEATHER}]
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "number", "schema": SCHEMA}}


class Number(BaseModel):
    """What the stub answers where it is asked for JSON."""

    answer: int


@dataclass(frozen=True)
class Feature:
    """One call of one SDK, and something that must be in its answer."""

    sdk: str
    name: str
    ask: Ask
    has: str
    of: Callable[[Any], Any] = lambda answer: answer  #: what of a stream is the same
    colours: tuple[str, ...] = COLOURS

    @property
    def id(self) -> str:
        return f"{self.sdk}-{self.name}"


def chat(**options: Any) -> Ask:
    return lambda client: client.chat.completions.create(model="tiny", messages=SAY, **options)


def responses(method: str = "create", **options: Any) -> Ask:
    return lambda client: getattr(client.responses, method)(model="tiny", input="Say something.", **options)


def messages(method: str = "create", **options: Any) -> Ask:
    return lambda client: getattr(client.messages, method)(model="tiny", messages=SAY, max_tokens=2000, **options)


def gemini(method: str = "generate_content", contents: Any = "Say something.", **config: Any) -> Ask:
    return lambda client: getattr(client.models, method)(model="tiny", contents=contents, config=config or None)


def cohere(method: str = "chat", **options: Any) -> Ask:
    return lambda client: getattr(client, method)(model="tiny", messages=SAY, **options)


def ollama(**options: Any) -> Ask:
    return lambda client: client.chat(model="tiny", messages=SAY, **options)


def mistral(method: str, **options: Any) -> Ask:
    return lambda client: getattr(client.chat, method)(model="mistral-tiny", messages=SAY, **options)


def hugging_face(**options: Any) -> Ask:
    return lambda client: client.chat_completion(SAY, model="tiny", **options)


def folded(chunks: list[Any]) -> dict[str, str]:
    """What the chunks of a chat add up to, wherever they were cut and however the choices were mixed."""
    sums: dict[str, str] = {}

    def add(value: Any, path: str) -> None:
        if isinstance(value, dict):
            for name, item in value.items():
                if name != "index":
                    add(item, f"{path}[{value.get('index', '')}].{name}")
        elif isinstance(value, list):
            for item in value:
                add(item, path)
        elif value not in (None, ""):
            sums[path] = sums.get(path, "") + str(value)

    add([chunk.get("data", chunk)["choices"] for chunk in chunks], "choices")
    return sums


def without_chunks(events: list[Any]) -> list[Any]:
    """What a helper makes of the chunks."""
    return [event for event in events if event.get("type") != "chunk"]


def told(events: list[Any]) -> list[Any]:
    """The pieces of a response, and the whole."""
    return [*(event["delta"] for event in events if "delta" in event), events[-1]["response"]]


def settled(events: list[Any]) -> list[Any]:
    """Events without what says nothing: empty pieces, needless indexes, and a usage before the end."""

    def empty(event: Any) -> bool:
        return "" in (event.get("partial_json"), (event.get("delta") or {}).get("partial_json"))

    said = [{k: v for k, v in event.items() if not k.startswith("usage")} for event in events if not empty(event)]
    for event in said:
        match event.get("type"):
            case "tool-plan-delta":
                event.pop("index", None)
            case "message-end":
                event.pop("id", None)
            case "message_start":
                event["message"] = {**event["message"], "usage": None}
    usages = [event["usage"] if event.get("usage") else event.get("usage_metadata") for event in events]
    return [*said, usages[-1]]


CALLED = "get_weather"
RESPONSES_TOOL = [{"type": "function", "strict": False, **WEATHER}]
CLAUDE_TOOL = [{"name": "get_weather", "description": "The weather of a city", "input_schema": SCHEMA}]
THINKING = {"type": "enabled", "budget_tokens": 1024}
THOUGHTS = {"includeThoughts": True}
GEMINI_TOOL = [{"function_declarations": [WEATHER]}]

FEATURES = (
    Feature("openai", "tools", chat(tools=TOOLS), CALLED),
    Feature("openai", "tools-stream", chat(tools=TOOLS, stream=True), CALLED, folded),
    Feature("openai", "usage-stream", chat(stream=True, stream_options={"include_usage": True}), "total_tokens"),
    Feature(
        "openai", "stream-helper", lambda c: c.chat.completions.stream(model="tiny", messages=SAY), "'type': 'chunk'"
    ),
    Feature(
        "openai",
        "stream-helper-tools",
        lambda c: c.chat.completions.stream(model="tiny", messages=SAY, tools=[TOOLS[0] | {"strict": False}]),
        "tool_calls.function.arguments.done",
        without_chunks,
    ),
    Feature(
        "openai",
        "parse",
        lambda c: c.chat.completions.parse(model="tiny", messages=SAY, response_format=Number),
        "'parsed': {'answer': 0}",
    ),
    Feature("openai", "logprobs", chat(logprobs=True, top_logprobs=1), "'logprob': -0.5"),
    Feature("openai", "logprobs-stream", chat(logprobs=True, top_logprobs=1, stream=True), "-0.5-0.5-0.5", folded),
    Feature("openai", "n", chat(n=3), "answer 2"),
    Feature("openai", "n-stream", chat(n=2, stream=True), "choices[1]", folded),
    Feature("openai", "responses", responses(), "answer 0"),
    Feature("openai", "responses-stream", responses(stream=True), "response.output_text.delta"),
    Feature("openai", "responses-stream-helper", responses("stream"), "response.output_text.delta"),
    Feature("openai", "responses-tools", responses(tools=RESPONSES_TOOL), CALLED),
    Feature("openai", "responses-tools-stream", responses(tools=RESPONSES_TOOL, stream=True), "arguments.delta"),
    Feature("openai", "responses-parse", responses("parse", text_format=Number), "'parsed': {'answer': 0}"),
    Feature("openai", "embeddings", lambda c: c.embeddings.create(model="tiny", input=["a", "b"]), "[1.0, 0.5, -0.25]"),
    Feature(
        "openai",
        "embeddings-float",
        lambda c: c.embeddings.create(model="tiny", input="a", encoding_format="float"),
        "[0.0, 0.5, -0.25]",
    ),
    Feature(
        "openai",
        "embeddings-base64",
        lambda c: c.embeddings.create(model="tiny", input="a", encoding_format="base64"),
        "'embedding': 'AAAAAAAAAD8AAIC+'",
    ),
    Feature("openai", "completions", lambda c: c.completions.create(model="tiny", prompt="Say", n=2), "answer 1"),
    Feature(
        "openai", "completions-list", lambda c: c.completions.create(model="tiny", prompt=["a", "b"], n=2), "answer 3"
    ),
    Feature(
        "openai",
        "completions-stream",
        lambda c: c.completions.create(model="tiny", prompt="Say", stream=True),
        "text_completion",
    ),
    Feature("anthropic", "tools", messages(tools=CLAUDE_TOOL), CALLED),
    Feature("anthropic", "tools-stream", messages(tools=CLAUDE_TOOL, stream=True), "partial_json", settled),
    Feature("anthropic", "thinking", messages(thinking=THINKING), "signature 0"),
    Feature("anthropic", "thinking-stream", messages(thinking=THINKING, stream=True), "signature_delta", settled),
    Feature("anthropic", "stream-helper", messages("stream", thinking=THINKING), "'thinking': 'thought 0'", settled),
    Feature("anthropic", "stream-helper-tools", messages("stream", tools=CLAUDE_TOOL), "'snapshot': {'city'", settled),
    Feature("anthropic", "parse", messages("parse", output_format=Number), '{"answer": 0}'),
    Feature("gemini", "tools", gemini(tools=GEMINI_TOOL), CALLED),
    Feature("gemini", "tools-stream", gemini("generate_content_stream", tools=GEMINI_TOOL), CALLED),
    Feature("gemini", "thoughts", gemini(thinking_config=THOUGHTS), "thought 0"),
    Feature(
        "gemini",
        "thoughts-stream",
        gemini("generate_content_stream", thinking_config=THOUGHTS),
        "thought 0",
        settled,
    ),
    Feature("gemini", "embed", gemini("embed_content", ["a", "b"]), "[1.0, 0.5, -0.25]"),
    Feature("gemini", "candidates", gemini(candidate_count=2), "answer 1"),
    Feature(
        "gemini",
        "schema",
        gemini(response_mime_type="application/json", response_schema=Number),
        "'parsed': {'answer': 0}",
    ),
    Feature("cohere", "tools", cohere(tools=TOOLS), "I plan 0"),
    Feature("cohere", "tools-stream", cohere("chat_stream", tools=TOOLS), "tool-call-delta", settled),
    Feature(
        "cohere",
        "embed",
        lambda c: c.embed(model="tiny", texts=["a", "b"], input_type="classification", embedding_types=["float"]),
        "[1.0, 0.5, -0.25]",
    ),
    Feature("ollama", "tools", ollama(tools=TOOLS), CALLED),
    Feature("ollama", "tools-stream", ollama(tools=TOOLS, stream=True), CALLED),
    Feature("ollama", "think", ollama(think=True), "thought 0"),
    Feature("ollama", "think-stream", ollama(think=True, stream=True), "'thinking': 'tho'"),
    Feature("ollama", "generate", lambda c: c.generate(model="tiny", prompt="Say"), "answer 0"),
    Feature("ollama", "generate-stream", lambda c: c.generate(model="tiny", prompt="Say", stream=True), "'ans'"),
    Feature("ollama", "embed", lambda c: c.embed(model="tiny", input=["a", "b"]), "[1.0, 0.5, -0.25]"),
    Feature("groq", "tools-stream", chat(tools=TOOLS, stream=True), CALLED, folded),
    Feature("together", "tools-stream", chat(tools=TOOLS, stream=True), CALLED, folded),
    Feature("mistral", "tools", mistral("complete", tools=TOOLS), CALLED, colours=("sync",)),
    Feature("mistral", "tools-stream", mistral("stream", tools=TOOLS), CALLED, folded, colours=("sync",)),
    Feature("mistral", "tools-async", mistral("complete_async", tools=TOOLS), CALLED, colours=("asyncio",)),
    Feature("mistral", "stream-async", mistral("stream_async", tools=TOOLS), CALLED, folded, colours=("asyncio",)),
    Feature("huggingface", "tools", hugging_face(tools=TOOLS), CALLED),
    Feature("huggingface", "tools-stream", hugging_face(tools=TOOLS, stream=True), CALLED, folded),
)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def in_colours(features: tuple[Feature, ...]) -> list[Any]:
    """Each of them in each of its colours."""
    return [
        pytest.param(feature, colour, id=f"{feature.id}-{colour}") for feature in features for colour in feature.colours
    ]


@pytest.mark.parametrize(("feature", "colour"), in_colours(FEATURES))
def test_is_replayed(feature: Feature, colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """S5, S10: a new client gets the same, field by field, and the server is not asked."""
    (live,) = asked(ask_in(colour, feature.sdk, server.url, feature.ask, cachedir=tmp_path))
    assert len(server.requests) == 1
    (replayed,) = asked(ask_in(colour, feature.sdk, server.url, feature.ask, cachedir=tmp_path, mode="offline"))
    assert len(server.requests) == 1
    assert feature.has in str(feature.of(live))
    assert feature.of(replayed) == feature.of(live)


@pytest.mark.parametrize("recorded", ["plain", "stream"])
@pytest.mark.parametrize(
    ("sdk", "plain", "stream"),
    [
        ("openai", chat(tools=TOOLS), chat(tools=TOOLS, stream=True)),
        ("openai", responses(tools=RESPONSES_TOOL), responses(tools=RESPONSES_TOOL, stream=True)),
        ("anthropic", messages(tools=CLAUDE_TOOL), messages(tools=CLAUDE_TOOL, stream=True)),
        ("gemini", gemini(tools=GEMINI_TOOL), gemini("generate_content_stream", tools=GEMINI_TOOL)),
        ("cohere", cohere(tools=TOOLS), cohere("chat_stream", tools=TOOLS)),
        ("ollama", ollama(tools=TOOLS), ollama(tools=TOOLS, stream=True)),
        ("mistral", mistral("complete", tools=TOOLS), mistral("stream", tools=TOOLS)),
        ("huggingface", hugging_face(tools=TOOLS), hugging_face(tools=TOOLS, stream=True)),
    ],
)
def test_streamed_or_not_it_is_one_sample(
    sdk: str, plain: Ask, stream: Ask, recorded: str, server: ProviderServer, tmp_path: Path
) -> None:
    """S12: a call of a tool that was recorded one way is replayed the other way, in what its SDK can read."""
    first, second = (plain, stream) if recorded == "plain" else (stream, plain)
    asked(ask_in("sync", sdk, server.url, first, cachedir=tmp_path))
    (replayed,) = asked(ask_in("sync", sdk, server.url, second, cachedir=tmp_path, mode="offline"))
    assert CALLED in str(replayed)
    assert "answer 0" in str(replayed)


@pytest.mark.parametrize("colour", COLOURS)
def test_legacy_cohere_is_replayed(colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """S5: the first version of Cohere's API, plain and streamed."""

    def make(**options: Any) -> Any:
        from cachesaver.models import cohere

        cls = cohere.Client if colour == "sync" else cohere.AsyncClient
        return cls(base_url=server.url, api_key="key", cachedir=tmp_path, **options)

    asks = [
        lambda client: client.chat(model="tiny", message="Say"),
        lambda client: client.chat_stream(model="tiny", message="Say more"),
    ]
    live = asked(on(colour, make, *asks))
    assert asked(on(colour, lambda: make(mode="offline"), *asks)) == live
    assert live[0]["text"] == "answer 0"
    assert [event.get("text") for event in live[1][1:-1]] == ["ans", "wer", " 1"]
    assert server.sold == 2


@pytest.mark.parametrize("colour", ["sync", "asyncio"])  # the SDK hops threads through asyncio there
def test_text_generation_of_hugging_face(colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """S5: plain it is replayed; its stream, which no dialect knows, passes through every time, before and after."""

    def make() -> Any:
        from cachesaver.models import huggingface

        cls = huggingface.InferenceClient if colour == "sync" else huggingface.AsyncInferenceClient
        return cls(model=f"{server.url}/hf-inference/models/tiny", token="key", cachedir=tmp_path)

    def plain(client: Any) -> Any:
        return client.text_generation("Say")

    def stream(client: Any) -> Any:
        return client.text_generation("Say", stream=True)

    assert asked(on(colour, make, plain, stream)) == ["answer 0", ["ans", "wer", " 1"]]
    assert asked(on(colour, make, plain, stream)) == ["answer 0", ["ans", "wer", " 2"]]


class TestRawResponses:
    """What `with_raw_response` and `with_streaming_response` show."""

    @pytest.mark.parametrize("colour", COLOURS)
    @pytest.mark.parametrize("sdk", ["openai", "anthropic"])
    def test_of_a_plain_call(self, sdk: str, colour: str, server: ProviderServer, tmp_path: Path) -> None:
        """S5: status, body and the server's id of the request are kept; a header says what it was."""

        def raw(client: Any) -> Any:
            of = client.messages if sdk == "anthropic" else client.chat.completions
            made = of.with_raw_response.create(model="tiny", messages=SAY, max_tokens=9)
            return awaited(made) if inspect.isawaitable(made) else shown(made, made.parse())

        async def awaited(made: Any) -> Any:
            response = await made
            parsed = response.parse()  # one SDK has it async, the other one not
            return shown(response, await parsed if inspect.isawaitable(parsed) else parsed)

        def shown(response: Any, parsed: Any) -> dict[str, Any]:
            headers = {"x-ratelimit-remaining", "set-cookie"} & {*response.headers}
            what = response.headers["x-cachesaver"]
            return {"status": response.status_code, "what": what, "of": parsed, "headers": headers}

        (live,) = asked(ask_in(colour, sdk, server.url, raw, cachedir=tmp_path))
        (replayed,) = asked(ask_in(colour, sdk, server.url, raw, cachedir=tmp_path, mode="offline"))
        assert live["what"] == "miss; position=0; bought=1"
        assert replayed["what"] == "hit; position=0"
        assert live["status"] == replayed["status"] == 200
        assert live["of"] == replayed["of"]
        assert live["of"]._request_id == replayed["of"]._request_id == "req-1"
        assert live["headers"] == replayed["headers"] == set()

    def test_of_a_streamed_call(self, server: ProviderServer, tmp_path: Path) -> None:
        """S5: a stream that is bought tells its position, too."""
        told, lines = [], []
        for mode in ("reuse", "offline"):
            with BY_NAME["openai"].client("sync", server.url, cachedir=tmp_path, mode=mode) as client:
                of = client.chat.completions.with_streaming_response
                with of.create(model="tiny", messages=SAY, stream=True) as response:
                    told.append(response.headers["x-cachesaver"])
                    lines.append(list(response.iter_lines()))
        assert told == ["miss; position=0; bought=1", "hit; position=0"]
        assert len(lines[0]) == len(lines[1]) > 5
        assert lines[0][-2:] == lines[1][-2:] == ["data: [DONE]", ""]

    @pytest.mark.anyio
    async def test_of_a_streamed_call_async(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """S5: the same of the async client."""
        texts = []
        for mode in ("reuse", "offline"):
            async with BY_NAME["openai"].client(anyio_backend, server.url, cachedir=tmp_path, mode=mode) as client:
                of = client.chat.completions.with_streaming_response
                async with of.create(model="tiny", messages=SAY) as response:
                    texts.append(await response.json())
        assert texts[0] == texts[1]
        assert server.sold == 1


REAL = [{"role": "user", "content": "Name a colour and a number."}]


def really(**options: Any) -> Ask:
    return lambda client: client.chat.completions.create(model="tiny", messages=REAL, max_tokens=12, **options)


def really_parsed(client: Any) -> Any:
    return client.chat.completions.parse(
        model="tiny", messages=REAL, max_tokens=60, temperature=0, response_format=Number
    )


REALLY = (
    Feature("openai", "parse", really_parsed, "'parsed': {'answer': "),
    Feature("openai", "n", really(n=3, temperature=1.5), "'index': 2"),
    Feature("openai", "stream", really(stream=True), "assistant", folded),
    Feature("openai", "stream-n", really(stream=True, n=2), "choices[1]", folded),
    Feature("openai", "logprobs", really(logprobs=True, top_logprobs=2), "'top_logprobs': [{"),
    Feature("openai", "responses", responses(max_output_tokens=12), "output_text"),
    Feature("openai", "responses-stream", responses(max_output_tokens=12, stream=True), "output_text", told),
    Feature(
        "openai",
        "completions",
        lambda client: client.completions.create(model="tiny", prompt="A colour:", max_tokens=8, n=2),
        "'index': 1",
    ),
    Feature(
        "anthropic",
        "messages",
        lambda client: client.messages.create(model="tiny", messages=REAL, max_tokens=12),
        "'type': 'text'",
    ),
    Feature(
        "anthropic",
        "messages-stream",
        lambda client: client.messages.create(model="tiny", messages=REAL, max_tokens=12, stream=True),
        "text_delta",
        settled,
    ),
)


@pytest.mark.parametrize("feature", REALLY, ids=lambda feature: feature.id)
def test_a_real_language_model_is_replayed(feature: Feature, language_model: str, tmp_path: Path) -> None:
    """S5, S10: what was recorded in one colour is replayed in every colour."""
    url = language_model.removesuffix("/v1")
    (live,) = asked(ask_in("trio", feature.sdk, url, feature.ask, cachedir=tmp_path))
    assert feature.has in str(feature.of(live))
    for colour in COLOURS:
        (replayed,) = asked(ask_in(colour, feature.sdk, url, feature.ask, cachedir=tmp_path, mode="offline"))
        assert feature.of(replayed) == feature.of(live)


def file_input(client: Any) -> Any:
    file = {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}
    return client.responses.create(model="tiny", input=[file])


def file_in_chat(client: Any) -> Any:
    file = {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
    return client.chat.completions.create(model="tiny", messages=[file])


def file_of_gemini(client: Any) -> Any:
    file = {"role": "user", "parts": [{"file_data": {"file_uri": "files/1", "mime_type": "text/plain"}}]}
    return client.models.generate_content(model="tiny", contents=[file])


PASSING = (
    Feature("openai", "models", lambda client: client.models.list(), "model-1"),
    Feature("openai", "files", lambda client: client.files.create(file=b"{}", purpose="batch"), "file-1"),
    Feature("openai", "previous", responses(previous_response_id="resp_1"), "answer 1"),
    Feature("openai", "previous-stream", responses(previous_response_id="resp_1", stream=True), "answer 1"),
    Feature("openai", "store", responses(store=True), "answer 1", colours=("sync",)),
    Feature("openai", "conversation", responses(conversation="conv_1"), "answer 1", colours=("sync",)),
    Feature("openai", "background", responses(background=True), "answer 1", colours=("sync",)),
    Feature("openai", "file-input", file_input, "answer 1", colours=("sync",)),
    Feature("openai", "file-in-chat", file_in_chat, "answer 1", colours=("sync",)),
    Feature(
        "anthropic",
        "count-tokens",
        lambda client: client.messages.count_tokens(model="tiny", messages=SAY),
        "'input_tokens': 10",
    ),
    Feature("gemini", "count-tokens", gemini("count_tokens"), "'total_tokens': 10"),
    Feature("gemini", "cached-content", gemini(cached_content="cachedContents/1"), "answer 1", colours=("trio",)),
    Feature("gemini", "file", file_of_gemini, "answer 1", colours=("trio",)),
    Feature("groq", "models", lambda client: client.models.list(), "model-1"),
    Feature("ollama", "models", lambda client: client.list(), "model-1"),
)


@pytest.mark.parametrize(("feature", "colour"), in_colours(PASSING))
def test_passes_through(feature: Feature, colour: str, server: ProviderServer, tmp_path: Path) -> None:
    """S12: what is no generation, or depends on what the server remembers, reaches it every time and is not kept."""
    answers = asked(ask_in(colour, feature.sdk, server.url, feature.ask, feature.ask, cachedir=tmp_path))
    assert feature.has in str(answers[1])
    first, second = server.requests
    assert (first.method, first.path, first.body) == (second.method, second.path, second.body)
    assert first.headers.get("authorization", first.headers.get("x-api-key", "key")).endswith("key")
    assert rows(tmp_path) == []


def test_a_file_arrives_whole(server: ProviderServer, tmp_path: Path) -> None:
    """A form is sent as the SDK wrote it, boundary and all."""
    asked(ask_in("sync", "openai", server.url, PASSING[1].ask, cachedir=tmp_path))
    (request,) = server.requests
    assert request.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert int(request.headers["content-length"]) > 100
