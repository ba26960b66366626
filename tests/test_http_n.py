"""`n` over HTTP: each choice is a sample, and only what is missing is bought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from cachesaver import namespace
from cachesaver.models.gemini import Gemini
from cachesaver.models.groq import Groq
from cachesaver.models.openai import AsyncOpenAI, OpenAI

from ._provider_server import Fault, ProviderServer, provider_server

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Say"}]}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with provider_server() as server:
        yield server


@pytest.fixture
def client(server: ProviderServer, tmp_path: Path) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="key", cachedir=tmp_path) as client:
        yield client


def ask(client: OpenAI, name: str, n: int | None = None, **options: Any) -> Any:
    """A completion in the namespace *name*."""
    with namespace(name):
        return client.chat.completions.create(**BODY, **({} if n is None else {"n": n}), **options)


def texts(completion: Any) -> list[str]:
    return [choice.message.content for choice in completion.choices]


def bought(server: ProviderServer) -> list[int | None]:
    """What `n` the server was asked for each time."""
    return [request.body.get("n") for request in server.requests]


class TestTopUp:
    def test_only_what_is_missing_is_bought(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: with 1 known and 4 asked, the server is asked for 3; the indexes are in order."""
        ask(client, "first")
        four = ask(client, "second", n=4)
        assert bought(server) == [None, 3]
        assert texts(four) == ["answer 0", "answer 1", "answer 2", "answer 3"]
        assert [choice.index for choice in four.choices] == [0, 1, 2, 3]

    def test_the_rest_of_the_request_is_as_it_was(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: nothing else is rewritten."""
        ask(client, "first", temperature=0.5)
        ask(client, "second", n=3, temperature=0.5)
        assert server.requests[1].body == {**BODY, "temperature": 0.5, "n": 2}
        assert int(server.requests[1].headers["content-length"]) > 0

    def test_one_missing_is_asked_for_plainly(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: 2 known, 3 asked, 1 bought."""
        ask(client, "first", n=2)
        assert texts(ask(client, "second", n=3)) == ["answer 0", "answer 1", "answer 2"]
        assert bought(server) == [2, 1]

    def test_two_in_one_namespace_are_different(self, server: ProviderServer, client: OpenAI) -> None:
        """S1: the second request in a namespace goes on where the first has ended."""
        assert texts(ask(client, "first", n=2)) == ["answer 0", "answer 1"]
        assert texts(ask(client, "first", n=2)) == ["answer 2", "answer 3"]
        assert texts(ask(client, "second", n=3)) == ["answer 0", "answer 1", "answer 2"]
        assert bought(server) == [2, 2]

    def test_streamed(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: a stream, too, is made of what is known and what is bought."""
        ask(client, "first")
        pieces: dict[int, str] = {}
        for chunk in ask(client, "second", n=3, stream=True):
            for choice in chunk.choices:
                pieces[choice.index] = pieces.get(choice.index, "") + (choice.delta.content or "")
        assert pieces == {0: "answer 0", 1: "answer 1", 2: "answer 2"}
        assert bought(server) == [None, 2]

    async def test_at_once_in_one_namespace(self, anyio_backend: str, server: ProviderServer, tmp_path: Path) -> None:
        """S1, S4: tasks that ask at the same time get different samples; nothing is bought twice."""
        got: list[str] = []

        async def one(n: int) -> None:
            got.extend(texts(await client.chat.completions.create(**BODY, n=n)))

        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="key", cachedir=tmp_path) as client:
            async with anyio.create_task_group() as tasks:
                for n in (1, 2, 3):
                    tasks.start_soon(one, n)
        assert sorted(got) == [f"answer {number}" for number in range(6)]
        assert server.sold == 6


class TestUsage:
    def test_is_what_was_billed_now(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: the prompt once and the tokens of what was bought; a pure hit tells the usage of all of it."""
        used = [
            ask(client, "first").usage,
            ask(client, "second", n=4).usage,
            ask(client, "third", n=4).usage,
            ask(client, "fourth", n=2).usage,
        ]
        told = [(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) for usage in used]
        assert told == [(10, 7, 17), (10, 21, 31), (10, 28, 38), (10, 14, 24)]

    def test_of_a_stream(self, client: OpenAI) -> None:
        """The same in the last event, where it was asked for."""
        ask(client, "first")
        used = []
        for name in ("second", "third"):
            *_, last = ask(client, name, n=3, stream=True, stream_options={"include_usage": True})
            assert last.choices == []
            used.append((last.usage.prompt_tokens, last.usage.completion_tokens))
        assert used == [(10, 21), (10, 21)]

    def test_is_not_told_where_it_was_not_asked(self, client: OpenAI) -> None:
        """What we ask for beside, to store it, the caller does not see."""
        for name in ("first", "second"):
            assert all(chunk.choices and chunk.usage is None for chunk in ask(client, name, stream=True))


class TestTogether:
    """Answers that are chosen together, or repeatable, are one sample."""

    def test_with_a_seed(self, server: ProviderServer, client: OpenAI) -> None:
        """S5: n answers of one seed are not n times one, so all of them are asked for; and then they are known."""
        ask(client, "first", seed=7)
        four = ask(client, "second", n=4, seed=7)
        assert texts(four) == ["answer 1", "answer 2", "answer 3", "answer 4"]
        again = ask(client, "third", n=4, seed=7)
        assert again == four
        assert bought(server) == [None, 4]
        assert texts(ask(client, "third", seed=7)) == ["answer 0"]

    def test_with_a_seed_streamed(self, server: ProviderServer, client: OpenAI) -> None:
        """S5: recorded as one, replayed as one, streamed or not."""
        seen: list[dict[int, str]] = []
        for name in ("first", "second"):
            pieces: dict[int, str] = {}
            for chunk in ask(client, name, n=2, seed=7, stream=True):
                for choice in chunk.choices:
                    pieces[choice.index] = pieces.get(choice.index, "") + (choice.delta.content or "")
            seen.append(pieces)
        assert seen[0] == seen[1] == {0: "answer 0", 1: "answer 1"}
        assert texts(ask(client, "third", n=2, seed=7)) == ["answer 0", "answer 1"]
        assert bought(server) == [2]

    def test_the_best_of_several(self, server: ProviderServer, client: OpenAI) -> None:
        """S5: 2 chosen among 4 are not 1 and 1 more."""

        def best(name: str, n: int) -> list[str]:
            with namespace(name):
                made = client.completions.create(model="tiny", prompt="Say", n=n, best_of=4)
            return [choice.text for choice in made.choices]

        assert best("first", 1) == ["answer 0"]
        assert best("first", 2) == best("second", 2) == ["answer 1", "answer 2"]
        assert bought(server) == [1, 2]
        assert all(request.body["best_of"] == 4 for request in server.requests)

    def test_several_prompts(self, server: ProviderServer, client: OpenAI) -> None:
        """S5: a list of prompts is one question, and its answer one sample."""

        def answers(name: str) -> list[str]:
            with namespace(name):
                made = client.completions.create(model="tiny", prompt=["a", "b"], n=2)
            return [choice.text for choice in made.choices]

        assert answers("first") == answers("second") == [f"answer {number}" for number in range(4)]
        assert bought(server) == [2]


class TestProviders:
    def test_that_ignores_n(self, server: ProviderServer, client: OpenAI) -> None:
        """S4: what does not come in the first call is bought in others, side by side."""
        server.ignores_n = True
        three = ask(client, "first", n=3)
        assert sorted(texts(three)) == ["answer 0", "answer 1", "answer 2"]
        assert [choice.index for choice in three.choices] == [0, 1, 2]
        assert texts(ask(client, "second", n=3)) == texts(three)
        assert server.sold == 3

    def test_that_gives_more_than_asked(self, server: ProviderServer, client: OpenAI) -> None:
        """S3: nobody gets more than he asked for."""
        twice = {"index": 0, "message": {"role": "assistant", "content": "twice"}, "finish_reason": "stop"}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [twice, twice]}
        server.faults.append(Fault(status=200, body=body))
        assert texts(ask(client, "first")) == ["twice"]

    def test_groqs_sdk(self, server: ProviderServer, tmp_path: Path) -> None:
        """S3: by another SDK."""
        with Groq(base_url=server.url, api_key="key", cachedir=tmp_path) as client:
            with namespace("first"):
                client.chat.completions.create(**BODY)
            four = client.chat.completions.create(**BODY, n=4)
        assert texts(four) == [f"answer {number}" for number in range(4)]
        assert bought(server) == [None, 3]


class TestCandidates:
    """Gemini says `candidateCount`, inside of its configuration."""

    @pytest.fixture
    def gemini(self, server: ProviderServer, tmp_path: Path) -> Iterator[Gemini]:
        with Gemini(api_key="key", http_options={"base_url": server.url}, cachedir=tmp_path) as client:
            yield client

    def ask(self, client: Gemini, name: str, **config: Any) -> Any:
        with namespace(name):
            return client.models.generate_content(model="tiny", contents="Say", config={"temperature": 1, **config})

    def test_only_what_is_missing_is_bought(self, server: ProviderServer, gemini: Gemini) -> None:
        """S3: 1 known, 3 asked, 2 bought; the usage is of these."""
        self.ask(gemini, "first")
        three = self.ask(gemini, "second", candidate_count=3)
        assert [one.content.parts[0].text for one in three.candidates] == ["answer 0", "answer 1", "answer 2"]
        assert [one.index for one in three.candidates] == [0, 1, 2]
        asked = [request.body["generationConfig"].get("candidateCount") for request in server.requests]
        assert asked == [None, 2]
        assert server.requests[1].body["generationConfig"]["temperature"] == 1
        assert three.usage_metadata.candidates_token_count == 14
        again = self.ask(gemini, "third", candidate_count=3)
        assert again.usage_metadata.candidates_token_count == 21
        assert len(server.requests) == 2

    def test_with_a_seed(self, server: ProviderServer, gemini: Gemini) -> None:
        """S5: not split."""
        self.ask(gemini, "first", seed=7)
        for name in ("second", "third"):
            two = self.ask(gemini, name, candidate_count=2, seed=7)
            assert [one.content.parts[0].text for one in two.candidates] == ["answer 1", "answer 2"]
        assert len(server.requests) == 2
