"""Anything with `request(prompt)` is a model; bad models and bad input are refused before anything is sent."""

from __future__ import annotations

import functools

import pytest

from cachesaver import (
    Batcher,
    Cache,
    Cacher,
    Closed,
    Dispatcher,
    ModelError,
    Request,
    RoundRobinLimiter,
    Stage,
    local,
    online,
)
from cachesaver.testing import CountingModel

pytestmark = pytest.mark.anyio


class Sync:
    def request(self, prompt):
        return prompt.upper()


class SyncN:
    def request(self, prompt, n):
        return [f"{prompt}{i}" for i in range(n)]


class Async:
    async def request(self, prompt):
        return prompt.upper()


class Keywords:
    async def request(self, prompt, *, namespace, request_id, resource):
        return [namespace, request_id, resource.data]


class Batches:
    def batch_request(self, prompts):
        return [prompt.upper() for prompt in prompts]


class AsyncBatches:
    async def batch_request(self, prompts):
        return [prompt.upper() for prompt in prompts]


def function(prompt):
    return prompt.upper()


async def coroutine_function(prompt):
    return prompt.upper()


class Callable:
    async def __call__(self, prompt):
        return prompt.upper()


MODELS = [
    Sync(),
    Async(),
    Batches(),
    AsyncBatches(),
    function,
    coroutine_function,
    Callable(),
    functools.partial(coroutine_function),
    str.upper,
    lambda prompt: coroutine_function(prompt),
]


@pytest.mark.parametrize("model", MODELS)
async def test_any_object_with_request_is_a_model(model, cache: Cache) -> None:
    """S4: one call for each sample where the model takes no n."""
    async with online(model, cache) as api:
        assert (await api.request("p", n=2)).data == ["P", "P"]


async def test_partials_of_one_function_share_nothing_unless_they_are_equal(cache: Cache) -> None:
    """S12: what a partial has filled in is a part of the model's name."""

    async def tagged(prompt, tag, client=None):
        return tag

    answers = []
    for model in (
        functools.partial(tagged, tag="a"),
        functools.partial(tagged, tag="b", client=object()),
        functools.partial(tagged, tag="b", client=object()),
    ):
        async with online(model, cache) as api:
            answers.append(await api.request("p"))
    assert [(answer[0], answer.cached) for answer in answers] == [("a", [False]), ("b", [False]), ("b", [True])]


async def test_a_model_that_takes_n_returns_that_many(cache: Cache) -> None:
    """S3."""
    async with online(SyncN(), cache) as api:
        assert (await api.request("p", n=3)).data == ["p0", "p1", "p2"]


async def test_labels_and_resource_are_passed_where_the_signature_has_them(cache: Cache) -> None:
    """L3: the key in use travels with its own request."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("KEY")
    async with online(Keywords(), cache, limiter=limiter) as api:
        response = await api.request("p", namespace="ns", request_id="id")
    assert response.data == [["ns", "id", "KEY"]]


async def test_fewer_answers_than_asked_are_topped_up(cache: Cache) -> None:
    """S3: a model may return fewer; the rest is asked again."""
    asked = []

    async def miserly(prompt, n):
        asked.append(n)
        return [f"{prompt}{len(asked)}"]

    async with online(miserly, cache) as api:
        assert (await api.request("p", n=3)).data == ["p1", "p2", "p3"]
    assert asked == [3, 2, 1]


@pytest.mark.parametrize(
    ("answer", "message"),
    [(["a", "b"], "returned 2"), ("text", "must return a list"), ([], "returned none"), ([object()], "JSON")],
)
async def test_a_model_that_breaks_its_contract_is_told_so(answer, message, cache: Cache) -> None:
    """F4: a ModelError that carries what was returned."""

    async def model(prompt, n):
        return answer

    async with online(model, cache) as api:
        with pytest.raises(ModelError, match=message) as error:
            await api.request("p")
    assert error.value.answers == answer


@pytest.mark.parametrize("model", [object(), None, 7, "gpt", Async, {}])
def test_what_is_no_model_is_refused(model, cache: Cache) -> None:
    for stage in (Batcher, Dispatcher, functools.partial(Cacher, cache=cache)):
        with pytest.raises(TypeError):
            stage(model)


@pytest.mark.parametrize("n", [0, -1, 1.0, "2", None, True])
async def test_n_must_be_a_positive_integer(n, cache: Cache) -> None:
    """S12: refused in the caller, before anything is sent."""
    model = CountingModel()
    async with online(model, cache) as api:
        with pytest.raises((ValueError, TypeError), match="n must be"):
            await api.request("p", n=n)
    assert model.calls == []


CYCLE: list = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    "prompt",
    [object(), {1: "a"}, {"a": {1, 2}}, b"bytes", float("nan"), [float("inf")], "\ud800", CYCLE, {"a": [object()]}, 1j],
)
async def test_a_prompt_must_be_json(prompt, cache: Cache) -> None:
    """S12: TypeError or ValueError in the caller, before anything is sent."""
    model = CountingModel()
    async with online(model, cache) as api:
        with pytest.raises((TypeError, ValueError), match="prompt"):
            await api.request(prompt)
        with pytest.raises((TypeError, ValueError), match="prompt"):
            await api.batch_request([Request("fine"), Request(prompt)])
    assert model.calls == []


@pytest.mark.parametrize("label", ["", 7, b"x", "\ud800"])
async def test_labels_must_be_strings_with_something_in_them(label, cache: Cache) -> None:
    async with online(CountingModel(), cache) as api:
        with pytest.raises((TypeError, ValueError), match="namespace"):
            await api.request("p", namespace=label)
        with pytest.raises((TypeError, ValueError), match="request_id"):
            await api.request("p", request_id=label)


@pytest.mark.parametrize("make", [online, local])
async def test_a_request_outside_the_block_raises_at_once(make, cache: Cache) -> None:
    """F7: before it, and after it."""
    stack = make(CountingModel(), cache)
    with pytest.raises(Closed, match="async with"):
        await stack.request("p")
    async with stack as api:
        await api.request("p")
    with pytest.raises(Closed, match="async with"):
        await stack.request("p")


async def test_a_stack_may_be_entered_again(cache: Cache) -> None:
    """S5: a new run starts every namespace at the beginning."""
    model = CountingModel()
    stack = online(model, cache)
    for _ in range(2):
        async with stack as api:
            assert (await api.request("p")).data == ["p#0"]
    assert model.sold == 1


async def test_two_models_never_share_answers(cache: Cache) -> None:
    """S12: the scope is part of the key."""
    for scope in ("one", "two"):
        model = CountingModel(cache_scope=scope)
        async with online(model, cache) as api:
            await api.request("p")
        assert model.sold == 1


async def test_the_key_is_the_exact_content(cache: Cache) -> None:
    """S12: order and repetition in lists count, every field counts; key order and 1 against 1.0 do not."""
    user, bot = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    same = [{"m": [user, bot], "t": 1}, {"t": 1.0, "m": [dict(reversed(user.items())), bot]}]
    others = [
        {"m": [bot, user], "t": 1},
        {"m": [user, bot, bot], "t": 1},
        {"m": [user, bot], "t": True},
        {"m": [user, bot], "t": 1, "extra": None},
        {"m": [user, bot], "t": "1"},
    ]
    model = CountingModel()
    async with online(model, cache) as api:
        for i, prompt in enumerate([*same, *others]):
            await api.request(prompt, namespace=f"ns-{i}")
    assert model.sold == 1 + len(others)


async def test_in_schemas_the_order_of_keys_counts(cache: Cache) -> None:
    """S12: models read the properties of a schema in order."""

    def tool(*names):
        properties = {name: {"type": "string"} for name in names}
        return {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": properties}}}]}

    model = CountingModel()
    async with online(model, cache) as api:
        await api.request(tool("a", "b"), namespace="1")
        await api.request(tool("b", "a"), namespace="2")
        await api.request({"parameters": {"x": 1, "y": 2}}, namespace="1")
        await api.request({"parameters": {"y": 2, "x": 1}}, namespace="2")
    assert model.sold == 3


async def test_a_prompt_changed_after_the_call_is_asked_as_it_was(cache: Cache) -> None:
    """S12, S13: what is sent and keyed is the prompt at the time of the call."""
    seen = []

    async def model(prompt):
        seen.append(list(prompt))
        prompt.append("the model's own")
        return "x"

    messages = ["a"]
    async with Batcher(model, batch_size=2, timeout=1) as api:
        import anyio

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(api.request, messages)
            await anyio.sleep(0.5)
            messages.append("later")
    assert seen == [["a"]]
    assert messages == ["a", "later"]


async def test_a_stage_of_ones_own(cache: Cache) -> None:
    """F3: thirty lines are enough for a stage that asks until an answer is valid."""

    class UntilValid(Stage):
        def __init__(self, below, valid):
            super().__init__(below)
            self.valid = valid

        async def run(self, inbox):
            import anyio

            async with anyio.create_task_group() as tasks:
                async for tickets in inbox:
                    for ticket in tickets:
                        tasks.start_soon(self.ask, ticket)

        async def ask(self, ticket):
            while True:
                attempt = ticket.child()
                await self.below.submit([attempt])
                try:
                    draws = await attempt.result()
                except Exception as error:
                    return ticket.fail(error)
                if all(self.valid(draw.value) for draw in draws):
                    return ticket.answer(draws)

    model = CountingModel()
    async with UntilValid(online(model, cache), lambda answer: answer.endswith("2")) as api:
        assert (await api.request("p")).data == ["p#2"]
    assert model.sold == 3
