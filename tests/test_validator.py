"""Validator: bad samples are rejected and drawn anew; a replay never sees them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import pytest
from anyio import create_task_group, move_on_after

from cachesaver import (
    Batcher,
    Cache,
    Cacher,
    CacheUnavailable,
    Deduplicator,
    Request,
    Stage,
    Unacceptable,
    Validator,
    local,
    namespace,
    online,
    unfinished,
)
from cachesaver.testing import CountingModel

pytestmark = pytest.mark.anyio

STACKS = pytest.mark.parametrize("stack", [online, local, Cacher])


def even(answer: str) -> str | None:
    """The n-th sample of a prompt is good where n is even."""
    return None if int(answer.rsplit("#")[1]) % 2 == 0 else "odd"


@STACKS
async def test_the_bad_ones_are_drawn_anew(stack: Any, cache: Cache) -> None:
    """S1; the good ones of a request stay in their places."""
    model = CountingModel()
    async with Validator(stack(model, cache), even) as api:
        assert (await api.request("p", n=3)).data == ["p#0", "p#4", "p#2"]
        assert (await api.request("p")).data == ["p#6"]
    assert model.sold == 7


@STACKS
async def test_a_replay_never_sees_them(stack: Any, cache: Cache) -> None:
    """S5: the same answers, nothing is bought, and nothing needs to be rejected."""
    model = CountingModel()
    for check in (even, even, lambda answer: None):
        async with Validator(stack(model, cache), check) as api:
            answers = [(await api.request("p", n=3, request_id=label)).data for label in ("a", None, "a")]
        assert answers == [["p#0", "p#4", "p#2"], ["p#8", "p#6", "p#10"], ["p#14", "p#12", "p#16"]]
    assert model.sold == 17


@STACKS
async def test_others_share_the_good_ones(stack: Any, cache: Cache) -> None:
    """S2: what one namespace rejected no other gets."""
    model = CountingModel()
    async with Validator(stack(model, cache), even) as api:
        one = await api.request("p", n=2, namespace="a")
        other = await api.request("p", n=2, namespace="b")
    assert one.data == other.data == ["p#0", "p#2"]
    assert model.sold == 3


async def test_those_at_once_too(cache: Cache) -> None:
    """S1, S4: nobody gets a bad one or the same one twice, however many ask."""
    model = CountingModel(delay=1)
    got: list[str] = []

    async def ask(api: Stage) -> None:
        got.extend((await api.request("p", n=2)).data)

    async with Validator(online(model, cache), even, attempts=10) as api, create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(ask, api)
    assert len({*got}) == 20
    assert all(even(answer) is None for answer in got)


async def test_equal_requests_at_once_keep_their_places(cache: Cache) -> None:
    """S5: whoever asks again first (trio shuffles that) does not get what the other one will get in the replay."""
    prompts = [f"p{number}" for number in range(20)]

    async def run(model: CountingModel) -> list[list[str]]:
        async with Validator(
            Cacher(model, cache), lambda answer: "bad" if answer[-2:] in ("#0", "#1") else None
        ) as api:
            responses = await api.batch_request([Request(prompt) for prompt in prompts for _ in range(2)])
            return [response.data for response in responses]

    model = CountingModel(delay=1)
    first = await run(model)
    assert await run(model) == first
    assert model.sold == 4 * len(prompts)


async def test_after_the_last_attempt(cache: Cache) -> None:
    """The request fails; what was bought is kept, with the reason."""
    model = CountingModel()
    async with Validator(online(model, cache), lambda answer: "never good", attempts=2) as api:
        with pytest.raises(Unacceptable, match="asked for 2 times, and was no good: never good") as error:
            await api.request("p", n=2)
    assert (error.value.answers, error.value.reasons) == (["p#2", "p#3"], ["never good"] * 2)
    with closing(sqlite3.connect(cache.path)) as connection:
        assert connection.execute("SELECT position, reason FROM rejections ORDER BY 1").fetchall() == [
            (0, "never good"),
            (1, "never good"),
        ]


async def test_a_request_that_failed_has_consumed_nothing(cache: Cache) -> None:
    """S14: what it bought last and did not reject is what the next one gets."""
    async with Validator(online(CountingModel(), cache), lambda answer: "bad", attempts=1) as api:
        with pytest.raises(Unacceptable):
            await api.request("p")
        assert (await api.below.request("p")).data == ["p#0"]  # type: ignore[union-attr]


async def test_a_hit_is_checked_too(cache: Cache) -> None:
    """A check that is stricter than the one of the run before."""
    async with online(CountingModel(), cache) as api:
        assert (await api.request("p", n=2)).data == ["p#0", "p#1"]
    async with Validator(online(CountingModel(), cache), even) as api:
        assert (await api.request("p", n=2)).data == ["p#0", "p#0"]  # a new model counts from zero again


async def test_offline_there_is_nothing_to_draw(cache: Cache) -> None:
    async with online(CountingModel(), cache) as api:
        await api.request("p", n=2)
    async with Validator(online(CountingModel(), cache, mode="offline"), even) as api:
        with pytest.raises(CacheUnavailable, match="offline"):
            await api.request("p", n=2)


async def test_errors_of_the_model_are_its_own(cache: Cache) -> None:
    """F4."""
    async with Validator(online(CountingModel(failures=[OSError("no line")]), cache), even) as api:
        with pytest.raises(OSError, match="no line"):
            await api.request("p")
        assert (await api.request("p")).data == ["p#0"]


async def test_a_check_that_raises_fails_that_request(cache: Cache) -> None:
    """F3."""
    async with Validator(online(CountingModel(), cache), lambda answer: int(answer) and None) as api:
        with pytest.raises(ValueError, match="invalid literal"):
            await api.request("p")


async def test_without_a_cache_it_asks_again(cache: Cache) -> None:
    model = CountingModel()
    async with Validator(model, even) as api:
        assert (await api.request("p", n=2)).data == ["p#0", "p#2"]


async def test_between_other_stages(cache: Cache) -> None:
    async with Batcher(Validator(Deduplicator(Cacher(CountingModel(), cache)), even)) as api:
        responses = await api.batch_request([Request("p", namespace=f"{number}", n=2) for number in range(3)])
    assert [response.data for response in responses] == [["p#0", "p#2"]] * 3


async def test_a_caller_that_leaves_in_the_middle(cache: Cache) -> None:
    """F6, S14: its ordinals are offered once, whether their samples were rejected or not."""
    model = CountingModel(delay=10)
    async with Validator(online(model, cache), even) as api:
        with namespace("n"), move_on_after(15):
            await api.request("p", n=2)
        with namespace("n"):
            assert (await api.request("p", n=2)).data == ["p#0", "p#2"]
            assert (await api.request("p", n=2)).data == ["p#6", "p#4"]


async def test_the_end_of_the_block_waits_for_the_last_attempt(cache: Cache) -> None:
    """F7: what was accepted is answered."""
    answers: list[Any] = []
    model = CountingModel(delay=5)

    async def ask(api: Stage) -> None:
        answers.append((await api.request("p", n=2)).data)

    async with create_task_group() as tasks, Validator(online(model, cache), even) as api:
        tasks.start_soon(ask, api)
        with move_on_after(1):
            await api.request("q")
    assert answers == [["p#0", "p#2"]]


@pytest.mark.parametrize("attempts", [0, True, 1.5])
def test_attempts_are_a_number(attempts: Any) -> None:
    with pytest.raises(ValueError, match="attempts must be"):
        Validator(CountingModel(), even, attempts=attempts)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"choices": [{"finish_reason": "stop", "message": {"content": "yes", "refusal": None}}]}, None),
        ({"choices": [{"finish_reason": "length"}]}, "cut off (length)"),
        ({"choices": [{"finish_reason": "stop", "message": {"refusal": "I cannot"}}]}, "refused (refusal)"),
        ({"stop_reason": "end_turn"}, None),
        ({"stop_reason": "max_tokens"}, "cut off (max_tokens)"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refused (content_filter)"),
        ({"candidates": [{"finishReason": "SAFETY"}]}, "refused (SAFETY)"),
        ({"candidates": [{"finishReason": "STOP"}], "choices": None}, None),
        ("a text", None),
    ],
)
def test_unfinished(answer: Any, fault: str | None) -> None:
    assert unfinished(answer) == fault
