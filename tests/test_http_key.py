"""What of an HTTP request names its answers in the cache, and what does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesaver._http._endpoint import Question, question

from ._colours import BY_NAME, ask_in, asked, on, rows, say
from ._provider_server import Fault, ProviderServer, provider_server

HOST, PATH = "api.openai.com", "/v1/chat/completions"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}}
TURNED = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "string"}}}
BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Say"}], "temperature": 1}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


def ask(body: Any = None, host: str = HOST, path: str = PATH, versions: tuple[str | None, ...] = ()) -> Question:
    asked = question(host, path, versions, json.dumps(BODY if body is None else body).encode())
    assert asked is not None
    return asked


def key(*args: Any, **options: Any) -> bytes:
    """The key of a question; the scope of the stage must not matter."""
    return ask(*args, **options).prompt.key("http")


def reordered(value: Any, choose: Any) -> Any:
    """*value* with the keys of its objects in another order."""
    if isinstance(value, dict):
        return {name: reordered(value[name], choose) for name in choose(sorted(value))}
    if isinstance(value, list):
        return [reordered(item, choose) for item in value]
    return value


def tools(parameters: Any) -> Any:
    return {**BODY, "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


def formatted(schema: Any) -> Any:
    return {**BODY, "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


class TestSameKey:
    @pytest.mark.parametrize(
        "change",
        [
            {"temperature": 1.0},
            {"stop": None},
            {"messages": [{"content": "Say", "role": "user", "name": None}]},
            {"stream": True},
            {"stream": True, "stream_options": {"include_usage": True}},
            {"stream": False},
            {"n": 1},
            {"n": 4},
            {"n": None},
            {"user": "me"},
            {"metadata": {"run": "7"}},
            {"store": True},
            {"service_tier": "flex"},
            {"safety_identifier": "x"},
            {"prompt_cache_key": "x"},
        ],
        ids=json.dumps,
    )
    def test_what_does_not_change_an_answer(self, change: dict[str, Any]) -> None:
        """S12: numbers by their value, nulls as if absent; whoever asks, how many and how delivered do not count."""
        assert key({**BODY, **change}) == key()

    @given(st.data())
    @settings(max_examples=40)
    def test_the_order_of_keys(self, data: st.DataObject) -> None:
        """S12: of objects, wherever they are."""
        names = st.text('aeé"😀 ')  # none that stands for what a server keeps, such as file_id
        values = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(names, inner))
        body = {**BODY, "extra": data.draw(st.dictionaries(names, values))}
        turned = reordered(body, lambda names: data.draw(st.permutations(names)))
        assert key(turned) == key(body)

    @pytest.mark.parametrize("host", ["api.together.xyz", "api.together.ai", "api-inference.together.ai"])
    def test_a_service_of_several_names(self, host: str) -> None:
        """S12: is one model."""
        assert key(host=host) == key(host="api.together.xyz") != key()

    def test_a_prefix_for_openais_api(self) -> None:
        """S12: Groq's SDK and OpenAI's one write to the same path in different ways."""
        assert key(path="/openai/v1/chat/completions") == key()

    def test_gemini_streamed_or_not(self) -> None:
        """S12: there the path and the query say whether to stream, and the query may hold the key."""
        body = {"contents": [{"parts": [{"text": "Say"}]}]}
        plain = key(body, path="/v1beta/models/tiny:generateContent")
        assert key(body, path="/v1beta/models/tiny:streamGenerateContent?alt=sse") == plain
        assert key(body, path="/v1beta/models/tiny:streamGenerateContent?alt=sse&key=secret") == plain
        assert key(body, path="/v1beta/models/other:generateContent") != plain


class TestAnotherKey:
    @pytest.mark.parametrize(
        "change",
        [
            {"seed": 1},
            {"seed": 0},
            {"temperature": 0.1 + 0.2},
            {"temperature": "1"},
            {"model": "other"},
            {"never_heard_of": 1},
            {"extra": {"user": "nested"}},
            {"messages": [*BODY["messages"], *BODY["messages"]]},
            {"messages": [{"role": "user", "content": "Say "}]},
            {"stop": ["a", "b"]},
            {"max_tokens": 1},
            {"max_completion_tokens": 1},
            {"logprobs": True},
        ],
        ids=json.dumps,
    )
    def test_what_may_change_an_answer(self, change: dict[str, Any]) -> None:
        """S12: every other field counts, known to us or not."""
        assert key({**BODY, **change}) != key()

    def test_the_order_in_a_list(self) -> None:
        """S12: counts, and so does repetition."""
        stops = [key({**BODY, "stop": stop}) for stop in (["a", "b"], ["b", "a"], ["a", "b", "b"])]
        assert len(set(stops)) == 3

    @pytest.mark.parametrize("holder", [tools, formatted])
    def test_the_order_in_a_schema(self, holder: Any) -> None:
        """S12: a model reads the properties in order."""
        assert key(holder(SCHEMA)) != key(holder(TURNED))

    def test_where_it_goes(self) -> None:
        """S12: the host, its port, the path and the version of the API name the model."""
        azure = "/openai/deployments/tiny/chat/completions?api-version="
        keys = [
            key(),
            key(host="api.groq.com"),
            key(host="127.0.0.1:8000"),
            key(host="127.0.0.1:8001"),
            key(path="/v2/chat/completions"),
            key(path=f"{azure}2024-06-01"),
            key(path=f"{azure}2025-01-01"),
            key(versions=(None, "a-beta", None)),
            key(versions=("2023-06-01", None, None)),
        ]
        assert len(set(keys)) == len(keys)

    def test_null_inside_is_content(self) -> None:
        """S12: only fields of the request and of a message are as if absent."""
        assert key({**BODY, "extra": {"a": None}}) != key({**BODY, "extra": {}})


class TestNoQuestion:
    @pytest.mark.parametrize(
        ("path", "content"),
        [
            ("/v1/models", b"{}"),
            ("/v1/files", b"--boundary"),
            ("/v1/threads/1/messages", b"{}"),
            ("/v1/messages/count_tokens", b"{}"),
            ("/v1/messages/batches", b"{}"),
            (PATH, b"no json"),
            (PATH, b"[]"),
            (PATH, b'{"temperature": NaN}'),
            (PATH, b"[" * 100_000),
            (PATH, b'{"a":' * 100_000),
            ("/v1/responses", b'{"input": "x", "previous_response_id": "resp_1"}'),
            ("/v1/responses", b'{"input": "x", "store": true}'),
            ("/v1/responses", b'{"input": "x", "conversation": {"id": "conv_1"}}'),
            ("/v1/responses", b'{"input": "x", "prompt": {"id": "stored"}}'),
            (PATH, b'{"messages": [{"content": [{"file": {"file_id": "file-1"}}]}]}'),
            ("/hf-inference/models/tiny", b'{"inputs": "x", "stream": true}'),
        ],
    )
    def test_is_for_the_server(self, path: str, content: bytes) -> None:
        """S12: what is no generation, cannot be read, or depends on what the server remembers."""
        assert question(HOST, path, (), content) is None

    def test_a_field_of_that_name_in_a_schema_is_no_file(self) -> None:
        assert ask(tools({"type": "object", "properties": {"file_id": {"type": "string"}}}))


SPEAKERS = ("openai", "groq", "together", "mistral", "huggingface", "openrouter", "vllm")


class TestOneCacheForAllSDKs:
    def ask(self, name: str, url: str, **options: Any) -> Any:
        """One question, as the SDK *name* puts it."""

        def chat(client: Any) -> Any:
            if name == "mistral":
                return client.chat.complete(model="tiny", messages=BODY["messages"], temperature=1)
            if name == "huggingface":
                return client.chat_completion(BODY["messages"], model="tiny", temperature=1)
            return client.chat.completions.create(**BODY)

        (answer,) = asked(ask_in("sync", name, url, chat, **options))
        return answer

    @pytest.mark.parametrize("first", SPEAKERS)
    def test_the_same_question_is_one_prompt(self, first: str, server: ProviderServer, tmp_path: Path) -> None:
        """S2, S12: whoever asked first, the others get its answer."""
        names = [first, *(name for name in SPEAKERS if name != first)]
        answers = [self.ask(name, server.url, cachedir=tmp_path, namespace=name) for name in names]
        assert {answer["choices"][0]["message"]["content"] for answer in answers} == {"answer 0"}
        assert len(server.requests) == 1
        ((scope, prompt),) = rows(tmp_path)
        assert scope == f"{server.url.removeprefix('http://')}/v1/chat/completions"
        assert json.loads(prompt) == BODY

    def test_another_server_is_another_model(self, server: ProviderServer, tmp_path: Path) -> None:
        """S12: the host counts."""
        with provider_server() as other:
            for url in (server.url, other.url):
                self.ask("openai", url, cachedir=tmp_path)
        assert [server.sold, other.sold] == [1, 1]
        assert len(rows(tmp_path)) == 2


class TestCredentials:
    @pytest.mark.parametrize("name", sorted(BY_NAME))
    def test_are_never_written(self, name: str, server: ProviderServer, tmp_path: Path) -> None:
        """D4: not to any file of the cache, and not to an error, whatever the header or the query they travel in."""
        secret = "sk-very-secret-0123456789"
        sdk = BY_NAME[name]
        credential = {"ollama": {"headers": {"authorization": secret}}, "huggingface": {"token": secret}}
        options = {**sdk.options(server.url), **credential.get(name, {"api_key": secret}), "cachedir": tmp_path}
        cls = type(sdk.client("sync", server.url))
        server.faults += [Fault(), Fault(status=400)]
        answer, refused = on("sync", lambda: cls(**options), say(name), say(name, model="other"))
        (missing,) = on("sync", lambda: cls(**options, mode="offline"), say(name, model="other"))
        assert "answer 0" in str(answer)
        assert secret in str([request.headers for request in server.requests])
        assert isinstance(refused, Exception)
        assert "the cache holds 0 samples" in str(missing)
        assert secret not in f"{refused!r} {refused} {missing!r} {missing}"
        written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert b"answer 0" in written
        assert secret.encode() not in written
