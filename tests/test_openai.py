"""AsyncCachedOpenAIAPI through the real SDK: against a server that counts, and against a real language model."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from anyio import create_task_group
from openai import AsyncAzureOpenAI, AsyncOpenAI, InternalServerError
from openai.types.chat import ChatCompletion

from cachesaver import AsyncRoundRobinLimiter, Cache, CacheMiss, Closed, RoundRobinLimiter, UnlimitedLimiter, namespace
from cachesaver.models.openai import AsyncCachedOpenAIAPI
from cachesaver.models.openai import AsyncOpenAI as CachedAsyncOpenAI

from ._chat_server import ChatServer, chat_server

pytestmark = pytest.mark.anyio

PROMPT = {"model": "tiny", "messages": [{"role": "user", "content": "Say something."}]}


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param  # in real time: a server does not know of a clock that jumps


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as server:
        yield server


@asynccontextmanager
async def connected(server: ChatServer, cache: Cache, **options: Any) -> AsyncIterator[AsyncCachedOpenAIAPI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key="client-key", max_retries=0) as aclient:
        async with AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, **options) as api:
            yield api


def texts(completion: ChatCompletion) -> list[str | None]:
    return [choice.message.content for choice in completion.choices]


class TestEarlyBehaviour:
    """What the first example of the system we descend from asserts."""

    async def test_step_by_step(self, server: ChatServer, cache: Cache) -> None:
        """S1, S2, S3: a repeat buys, another namespace does not, and a top-up buys only what is missing."""
        async with connected(server, cache) as api:
            first = await api.create_chat_completion(PROMPT)
            again = await api.create_chat_completion(PROMPT)
            assert isinstance(first, ChatCompletion)
            assert texts(first) == ["answer 0"]
            assert texts(again) == ["answer 1"]
            assert len(api.usages) == 2

            two = await api.create_chat_completion({**PROMPT, "n": 2}, namespace="A")
            assert texts(two) == ["answer 0", "answer 1"]
            assert len(api.usages) == 2

            three = await api.create_chat_completion({**PROMPT, "n": 3}, namespace="B")
            assert texts(three) == ["answer 0", "answer 1", "answer 2"]
            assert [choice.index for choice in three.choices] == [0, 1, 2]
            assert [usage.total_tokens for usage in api.usages if usage] == [17, 17, 17]
        assert server.sold == 3
        assert all("n" not in body for body in server.bodies)

    async def test_two_requests_at_once_are_one_for_the_server(self, server: ChatServer, cache: Cache) -> None:
        """S4: n=1 and n=2 of one prompt in one namespace, with the batch size set while it runs."""
        answers: dict[int, list[str | None]] = {}

        async def ask(n: int) -> None:
            answers[n] = texts(await api.create_chat_completion({**PROMPT, "n": n}))

        async with connected(server, cache) as api:
            api.batcher.batch_size = 2
            async with create_task_group() as tasks:
                tasks.start_soon(ask, 1)
                tasks.start_soon(ask, 2)
            assert len(api.usages) == 1
        assert [body["n"] for body in server.bodies] == [3]
        assert sorted(answers[1] + answers[2]) == ["answer 0", "answer 1", "answer 2"]

    async def test_positional_labels(self, server: ChatServer, cache: Cache) -> None:
        """S9: the second argument is the id, the third the namespace."""
        async with connected(server, cache) as api:
            one = await api.create_chat_completion(PROMPT, "agent-1", "puzzle")
            two = await api.create_chat_completion(PROMPT, "agent-2", "puzzle")
            assert texts(one) != texts(two)
            assert texts(await api.create_chat_completion(PROMPT, "agent-2", "other")) == texts(two)

    async def test_run_again_it_is_free(self, server: ChatServer, cache: Cache) -> None:
        """S5: a new run on the same cache gets the same answers and asks the server nothing."""
        runs = []
        for _ in range(2):
            async with connected(server, cache) as api:
                runs.append([texts(await api.create_chat_completion({**PROMPT, "n": 2})) for _ in range(3)])
        assert runs[0] == runs[1]
        assert server.sold == 6
        assert api.stats.bought == 0
        assert api.usages == []

    async def test_used_outside_the_block_it_says_so(self, server: ChatServer, cache: Cache) -> None:
        """F7: nothing is sent, and the error tells where to ask."""
        async with AsyncOpenAI(base_url=server.base_url, api_key="key") as aclient:
            api = AsyncCachedOpenAIAPI(aclient=aclient, cache=cache)
            with pytest.raises(Closed, match="async with"):
                await api.create_chat_completion(PROMPT)
            async with api:
                await api.create_chat_completion(PROMPT)
            with pytest.raises(Closed, match="async with"):
                await api.create_chat_completion(PROMPT)
        assert server.sold == 1


class TestKeys:
    async def test_a_key_travels_with_its_own_request(self, server: ChatServer, cache: Cache) -> None:
        """L1, L3: keys in turn, each in the header of its request; the client stays as it is."""
        limiter = AsyncRoundRobinLimiter()
        for number in range(4):
            limiter.add_resource(f"key-{number}")
        async with AsyncOpenAI(base_url=server.base_url, api_key="client-key") as aclient:
            async with AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as api:
                async with create_task_group() as tasks:
                    for number in range(12):
                        tasks.start_soon(api.create_chat_completion, PROMPT, None, f"{number}")
                        tasks.start_soon(api.create_chat_completion, {**PROMPT, "seed": number})
            assert aclient.api_key == "client-key"
        assert set(server.keys) == {"key-0", "key-1", "key-2", "key-3"}
        assert len(server.keys) == 13

    async def test_a_limiter_of_nothing_leaves_the_clients_key(self, server: ChatServer, cache: Cache) -> None:
        async with connected(server, cache, limiter=UnlimitedLimiter()) as api:
            await api.create_chat_completion(PROMPT)
        async with connected(server, cache, limiter=UnlimitedLimiter("lent")) as api:
            await api.create_chat_completion({**PROMPT, "seed": 1})
        assert server.keys == ["client-key", "lent"]

    async def test_a_resource_that_is_no_key(self, server: ChatServer, cache: Cache) -> None:
        limiter = RoundRobinLimiter()
        limiter.add_resource({"key": "secret"})
        async with connected(server, cache, limiter=limiter) as api:
            with pytest.raises(TypeError, match="must be API keys, strings, not dict"):
                await api.create_chat_completion(PROMPT)
        assert server.requests == []

    async def test_azure_has_a_header_of_its_own(self, server: ChatServer, cache: Cache) -> None:
        limiter = UnlimitedLimiter("lent")
        async with AsyncAzureOpenAI(base_url=server.base_url, api_key="key", api_version="2025-01-01") as aclient:
            async with AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as api:
                await api.create_chat_completion(PROMPT)
        ((headers, _),) = server.requests
        assert headers["api-key"] == "lent"

    async def test_no_key_is_written(self, server: ChatServer, cache: Cache) -> None:
        """D4: neither the client's key, nor a lent one, nor one in the URL."""
        url = server.base_url.replace("//", "//user:url-secret@")
        async with AsyncOpenAI(base_url=url, api_key="client-secret") as aclient:
            limiter = UnlimitedLimiter("lent-secret")
            async with AsyncCachedOpenAIAPI(aclient=aclient, cache=cache, limiter=limiter) as api:
                await api.create_chat_completion(PROMPT)
        assert b"secret" not in cache.path.read_bytes()


class TestIdentity:
    async def test_the_server_is_part_of_the_key(self, server: ChatServer, cache: Cache) -> None:
        """S12: host and path count, so another server's answers are not given out for this one's."""
        with chat_server() as other:
            for each in (server, other, server):
                async with connected(each, cache) as api:
                    await api.create_chat_completion(PROMPT)
            assert (server.sold, other.sold) == (1, 1)

    async def test_stream_and_n_are_no_part_of_the_prompt(self, server: ChatServer, cache: Cache) -> None:
        """S12: they share a key; every other field counts."""
        async with connected(server, cache) as api:
            for number, body in enumerate(({}, {"stream": False}, {"n": 1}, {"n": None}, {"stream": None})):
                await api.create_chat_completion({**PROMPT, **body}, namespace=f"{number}")
            assert server.sold == 1
            await api.create_chat_completion({**PROMPT, "temperature": 0.5})
        assert server.sold == 2

    async def test_a_scope_of_ones_own(self, server: ChatServer, cache: Cache) -> None:
        """S12: a local server whose port changes keeps its samples under a name."""
        with chat_server() as other:
            for each in (server, other):
                async with connected(each, cache, scope="my-server") as api:
                    await api.create_chat_completion(PROMPT)
            assert (server.sold, other.sold) == (1, 0)

    async def test_what_the_sdk_does_not_know_travels_in_extra_body(self, server: ChatServer, cache: Cache) -> None:
        async with connected(server, cache) as api:
            await api.create_chat_completion({**PROMPT, "extra_body": {"top_k": 5}})
        assert server.bodies[0]["top_k"] == 5


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "error", "message"),
        [
            ("Say something.", TypeError, "must be a dict of `model` and `messages`, not str"),
            ({"messages": []}, ValueError, "a prompt needs model"),
            ({}, ValueError, "a prompt needs messages and model"),
            ({**PROMPT, "stream": True}, ValueError, "does not stream"),
            ({**PROMPT, "n": 0}, ValueError, "n must be at least 1"),
            ({**PROMPT, "n": "2"}, TypeError, "n must be an integer"),
            ({**PROMPT, "temperature": float("nan")}, ValueError, "a prompt must be JSON"),
            ({**PROMPT, "extra_headers": {"authorization": "k"}}, ValueError, "default_headers"),
            ({**PROMPT, "timeout": 3}, ValueError, "timeout is no part of a prompt"),
        ],
    )
    async def test_is_refused_before_anything_is_sent(
        self, server: ChatServer, cache: Cache, body: Any, error: type[Exception], message: str
    ) -> None:
        """S12: in the caller, at once."""
        async with connected(server, cache) as api:
            with pytest.raises(error, match=message):
                await api.create_chat_completion(body)
        assert server.requests == []

    async def test_request_takes_n_as_an_argument(self, server: ChatServer, cache: Cache) -> None:
        async with connected(server, cache) as api:
            response = await api.request(PROMPT, n=2)
            assert [value["choices"][0]["message"]["content"] for value in response.data] == ["answer 0", "answer 1"]
            assert response.positions == [0, 1]
            with pytest.raises(ValueError, match="give it once"):
                await api.request({**PROMPT, "n": 3}, n=2)

    async def test_a_server_error_is_the_sdks_own(self, server: ChatServer, cache: Cache) -> None:
        """F4, S14: and it is not cached."""
        server.failures.append(500)
        async with connected(server, cache) as api:
            with pytest.raises(InternalServerError, match="as scripted"):
                await api.create_chat_completion(PROMPT)
            assert texts(await api.create_chat_completion(PROMPT)) == ["answer 0"]

    async def test_offline_asks_nothing(self, server: ChatServer, cache: Cache) -> None:
        """S10: what is known is given, what is not is a CacheMiss."""
        async with connected(server, cache) as api:
            await api.create_chat_completion(PROMPT)
        async with connected(server, cache, mode="offline") as api:
            assert texts(await api.create_chat_completion(PROMPT)) == ["answer 0"]
            with pytest.raises(CacheMiss, match="chat/completions"):
                await api.create_chat_completion(PROMPT)
        assert server.sold == 1


class TestUsage:
    async def test_a_bad_sample_is_drawn_anew(self, server: ChatServer, cache: Cache) -> None:
        """S14: rejected under the key that it is stored by."""
        async with connected(server, cache) as api:
            await api.reject(await api.request({**PROMPT, "extra_body": {"top_k": 3}}), "a refusal")
            assert (await api.request({**PROMPT, "extra_body": {"top_k": 3}})).positions == [1]

    async def test_a_sample_carries_its_share(self, server: ChatServer, cache: Cache) -> None:
        """The prompt is paid once a call, and so it is counted once."""
        async with connected(server, cache) as api:
            whole = await api.create_chat_completion({**PROMPT, "n": 3})
            part = await api.create_chat_completion({**PROMPT, "n": 2}, namespace="A")
            one = await api.create_chat_completion(PROMPT, namespace="B")
            used = [completion.usage for completion in (whole, part, one)]
            assert [(u.prompt_tokens, u.completion_tokens, u.total_tokens) for u in used if u] == [
                (10, 21, 31),
                (10, 14, 24),
                (10, 7, 17),
            ]
            assert api.stats.tokens_spent == 31
            assert api.stats.tokens_saved == (10 + 7 + 7) + (10 + 7)

    async def test_a_sample_is_a_completion_a_person_can_read(self, server: ChatServer, cache: Cache) -> None:
        """D6: one choice, one row."""
        async with connected(server, cache) as api:
            await api.create_chat_completion({**PROMPT, "n": 2})
        with sqlite3.connect(cache.path) as database:
            rows = database.execute("SELECT answer FROM samples ORDER BY position").fetchall()
        database.close()
        contents = [[choice["message"]["content"] for choice in json.loads(row)["choices"]] for (row,) in rows]
        assert contents == [["answer 0"], ["answer 1"]]


class TestRealModel:
    async def test_a_language_model_is_asked_once(self, language_model: str, cache: Cache) -> None:
        """S1, S2, S5: independent samples within a namespace, shared ones across, the same ones in the next run."""
        prompt = {**PROMPT, "max_tokens": 8, "temperature": 1.5}
        runs, calls = [], []
        for _ in range(2):
            async with AsyncOpenAI(base_url=language_model, api_key="none") as aclient:
                async with AsyncCachedOpenAIAPI(aclient=aclient, cache=cache) as api:
                    with namespace("first"):
                        own = texts(await api.create_chat_completion({**prompt, "n": 2}))
                        own += texts(await api.create_chat_completion(prompt))
                    with namespace("second"):
                        shared = texts(await api.create_chat_completion({**prompt, "n": 3}))
                    runs.append((own, shared))
                    calls.append(len(api.usages))
        assert runs[0] == runs[1]
        assert runs[0][0] == runs[0][1]
        assert len(set(runs[0][0])) > 1
        assert calls == [2, 0]


def test_without_the_sdk_the_error_names_the_extra() -> None:
    program = "import sys; sys.modules['openai'] = None\nimport cachesaver.models.openai"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "pip install 'cachesaver[openai]'" in done.stderr


async def test_it_shares_its_samples_with_the_sdks_own_class(server: ChatServer, cache: Cache) -> None:
    """S2, S12: the same question of the same server is the same prompt, through whichever door."""
    asked = {**PROMPT, "user": "me", "extra_body": {"top_k": 3}}
    async with connected(server, cache) as api:
        bought = await api.create_chat_completion(asked)
    async with CachedAsyncOpenAI(base_url=server.base_url, api_key="key", cachedir=cache) as client:
        again = await client.chat.completions.create(**asked)
        another = await client.chat.completions.create(**asked)
    async with connected(server, cache) as api:
        both = await api.request({**asked, "user": "you"}, n=2)
    assert again.choices == bought.choices
    assert [value["choices"][0]["message"]["content"] for value in both] == texts(bought) + texts(another)
    assert both[1].keys() == both[0].keys()
    assert [body.get("user") for body in server.bodies] == ["me", "me"]
    assert server.sold == 2
