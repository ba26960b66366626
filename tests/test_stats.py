"""What a stack says it did, against what the model counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cachesaver import Cache, Cacher, Request, Stats, local, online
from cachesaver.testing import CountingModel

from ._asking import gather

pytestmark = pytest.mark.anyio


class Metered(CountingModel):
    """Answers that carry a usage: three tokens in, two out."""

    def make(self, prompt: Any) -> Any:
        return {"text": super().make(prompt), "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


@pytest.mark.parametrize("stack", [online, local, Cacher])
async def test_hits_purchases_and_failures(stack: Any, cache: Cache) -> None:
    """S2: bought is what the model sold."""
    model = CountingModel(delay=2, failures=[None, OSError("no line")])
    async with stack(model, cache) as api:
        await api.request("p", n=2, namespace="a")
        with pytest.raises(OSError, match="no line"):
            await api.request("q")
        await api.request("p", n=3, namespace="b")
    stats = api.stats
    assert (stats.requests, stats.asked, stats.hits, stats.bought, stats.merged, stats.failed) == (3, 6, 2, 3, 0, 1)
    assert (stats.calls, stats.errors) == (3, 1)
    assert stats.bought == model.sold
    assert stats.seconds_spent == pytest.approx(6, abs=0.1)
    assert stats.seconds_saved == pytest.approx(2, abs=0.1)  # two samples of a call for two


async def test_samples_shared_in_flight_are_merged(cache: Cache) -> None:
    """S4: ten namespaces at once, one purchase."""
    async with online(CountingModel(delay=1), cache) as api:
        responses = await gather(api, [Request("p", namespace=f"{number}") for number in range(10)])
    assert (api.stats.asked, api.stats.bought, api.stats.merged, api.stats.hits) == (10, 1, 9, 0)
    assert sorted(response.duplicated == [True] for response in responses) == [False] + [True] * 9


async def test_tokens_of_answers_that_carry_a_usage(cache: Cache) -> None:
    """The prompt is paid once a call, and would have been once for what was reused."""
    async with online(Metered(), cache) as api:
        first = await api.request("p", n=2, namespace="a")
        await api.request("p", n=2, namespace="b")
    assert api.stats.tokens_spent == 3 + 2 * 2
    assert api.stats.tokens_saved == 3 + 2 * 2
    assert [(sample.usage.input_tokens, sample.usage.output_tokens) for sample in first.samples if sample.usage] == [
        (3, 2),
        (3, 2),
    ]


async def test_a_request_is_counted_before_it_is_answered(cache: Cache) -> None:
    """Its caller may be another thread, which looks at once."""
    seen: list[tuple[int, int]] = []
    async with Cacher(CountingModel(), cache) as api:
        for name in ("a", "b"):
            asked = Request("p", namespace=name)
            ticket = api.ticket(asked, lambda _: seen.append((api.stats.bought, api.stats.hits)))
            await api.submit([ticket])
            await ticket.settlement()
    assert seen == [(1, 0), (1, 1)]


async def test_a_new_run_counts_from_zero(cache: Cache) -> None:
    stack = online(CountingModel(), cache)
    async with stack:
        await stack.request("p")
    assert stack.stats.requests == 1  # still to be read when the run is over
    async with stack:
        assert stack.stats == Stats()


def test_a_record_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Stats().hits = 1  # type: ignore[misc]
