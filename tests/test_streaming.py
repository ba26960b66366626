"""`map` and `process`: order, windows, back-pressure, errors, leaving early."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Any

import pytest
from anyio import (
    ClosedResourceError,
    Event,
    create_memory_object_stream,
    create_task_group,
    current_time,
    move_on_after,
    sleep,
    wait_all_tasks_blocked,
)

from cachesaver import Cache, Cacher, Dispatcher, Request, Stage, local, namespace, online, request_id
from cachesaver.testing import CountingModel, jumping

pytestmark = pytest.mark.anyio


class Slow(CountingModel):
    """Takes as many seconds as the number in front of the prompt says: "3 a" takes three."""

    def __init__(self, **options: Any) -> None:
        super().__init__(delay=lambda prompt: float(prompt.split()[0]), **options)


async def collect(api: Stage, source: Any, **options: Any) -> list[Any]:
    async with api.map(source, **options) as responses:
        return [response[0] async for response in responses]


async def later(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        await sleep(1)
        yield item


class TestOrder:
    async def test_responses_come_in_the_order_of_the_source(self) -> None:
        async with Dispatcher(Slow()) as api:
            assert await collect(api, ["3 a", "1 b", "2 c"]) == ["3 a#0", "1 b#0", "2 c#0"]

    async def test_or_as_they_are_answered(self) -> None:
        async with Dispatcher(Slow()) as api:
            assert await collect(api, ["3 a", "1 b", "2 c"], ordered=False) == ["1 b#0", "2 c#0", "3 a#0"]

    async def test_a_response_says_what_it_answers(self) -> None:
        async with Dispatcher(CountingModel()) as api:
            async with api.map([Request("a", 2, "x", "mine"), "b"]) as responses:
                requests = [response.request async for response in responses]
        assert requests == [Request("a", 2, "x", "mine"), Request("b", 1, "default", "1")]

    # A clock that waits longer: on a busy machine 200 lookups take the cache's thread a while.
    @pytest.mark.parametrize("anyio_backend", [jumping("asyncio", 0.5), jumping("trio", 0.5)], ids=["asyncio", "trio"])
    @pytest.mark.parametrize("ordered", [True, False])
    async def test_everything_at_once(self, cache: Cache, ordered: bool) -> None:
        """F2: a whole window travels together, so it takes the time of one call."""
        async with online(CountingModel(delay=1), cache) as api:
            start = current_time()
            answers = await collect(api, [f"p{number}" for number in range(200)], ordered=ordered)
            assert current_time() - start == pytest.approx(1, abs=0.1)
        assert sorted(answers) == sorted(f"p{number}#0" for number in range(200))


class TestSources:
    async def test_async_iterables(self) -> None:
        async with Dispatcher(CountingModel()) as api:
            assert await collect(api, later(["a", "b"])) == ["a#0", "b#0"]

    async def test_receive_streams(self) -> None:
        send, receive = create_memory_object_stream[str](10)
        with send:
            for prompt in "abc":
                send.send_nowait(prompt)
        async with receive, Dispatcher(CountingModel()) as api:
            assert await collect(api, receive) == ["a#0", "b#0", "c#0"]

    async def test_nothing(self) -> None:
        async with Dispatcher(CountingModel()) as api:
            assert await collect(api, []) == []
            assert await collect(api, later([])) == []

    async def test_a_source_that_ends_with_its_window(self) -> None:
        async with Dispatcher(CountingModel()) as api:
            assert len(await collect(api, ["a"] * 8, window=4)) == 8

    @pytest.mark.parametrize("window", [0, -1, 1.5, None, True])
    async def test_a_window_is_a_number_of_requests(self, window: Any) -> None:
        async with Dispatcher(CountingModel()) as api:
            with pytest.raises(ValueError, match="window must be an integer"):
                api.map([], window=window)


class TestWindow:
    """F8: a slow model slows its source."""

    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize("kind", ["iterable", "async iterable"])
    async def test_no_more_is_taken_than_fits(self, ordered: bool, kind: str) -> None:
        """F8: a million prompts keep at most a window in memory."""
        taken = 0

        def numbers() -> Iterator[str]:
            nonlocal taken
            for taken in range(1, 1_000_000):
                yield f"p{taken}"

        async def awaited() -> AsyncIterator[str]:
            for number in numbers():
                yield number

        model = CountingModel(delay=1)
        async with Dispatcher(model) as api:
            async with api.map(numbers() if kind == "iterable" else awaited(), window=5, ordered=ordered) as responses:
                for handed_out in range(1, 20):
                    await anext(responses)
                    await wait_all_tasks_blocked()
                    assert taken <= 5 + handed_out + 1  # one item may be held back
                    assert model.running <= 5

    async def test_a_slow_reader_slows_the_source(self) -> None:
        """F8: what is answered and not yet read counts as well."""
        model = CountingModel()
        async with Dispatcher(model) as api:
            async with api.map((f"p{number}" for number in count()), window=5) as responses:
                await anext(responses)
                await sleep(10)
                assert model.sold <= 6

    async def test_a_straggler_does_not_stop_the_others(self) -> None:
        """Not ordered, a window of two goes on with one."""
        async with Dispatcher(Slow()) as api:
            start = current_time()
            prompts = ["100 slow", *(f"1 p{number}" for number in range(50))]
            answers = await collect(api, prompts, window=2, ordered=False)
            assert answers[-1] == "100 slow#0"
            assert current_time() - start == pytest.approx(100, abs=1)


class TestIds:
    async def test_a_request_is_known_by_its_number(self, cache: Cache) -> None:
        """S6: which is the same in every run."""
        model = CountingModel()
        async with online(model, cache) as api:
            first = await collect(api, ["same"] * 6, ordered=True)
        async with online(model, cache) as api:
            async with api.map(["same"] * 6, window=2, ordered=False) as responses:
                second = {response.request.request_id: response[0] async for response in responses}
        assert [second[str(number)] for number in range(6)] == first
        assert sorted(first) == [f"same#{number}" for number in range(6)]
        assert model.sold == 6

    @pytest.mark.parametrize("stack", [online, local])
    @pytest.mark.parametrize(("kept", "bought"), [([*range(5), *range(6, 20)], 0), ([*range(3), 99, *range(3, 20)], 1)])
    async def test_a_source_that_gains_or_loses_an_item(
        self, stack: Any, kept: list[int], bought: int, cache: Cache
    ) -> None:
        """S2, S6: those behind it are known by their prompts, and nothing of theirs is bought again."""
        model = CountingModel()
        for rows, sold in (([*range(20)], 20), (kept, 20 + bought)):
            async with stack(model, cache) as api:
                answers = await collect(api, [f"row {number}" for number in rows], window=8)
            assert answers == [f"row {number}#0" for number in rows]
            assert model.sold == sold

    async def test_equal_prompts_under_two_names(self, cache: Cache) -> None:
        """S6: two maps at once, each in the block of an id of its own, find their samples again."""
        model = CountingModel(delay=1)

        async def run(first: str, second: str) -> dict[str, list[Any]]:
            found: dict[str, list[Any]] = {}

            async def agent(name: str) -> None:
                with request_id(name):
                    found[name] = await collect(api, ["same"] * 3)

            async with online(model, cache) as api, create_task_group() as tasks:
                tasks.start_soon(agent, first)
                await wait_all_tasks_blocked()
                tasks.start_soon(agent, second)
            return found

        assert await run("a", "b") == await run("b", "a")
        assert model.sold == 6

    async def test_labels_of_the_context(self) -> None:
        async with Dispatcher(CountingModel()) as api:
            with namespace("puzzle"), request_id("agent"):
                async with api.map(["a", Request("b"), Request("c", request_id="own")]) as responses:
                    requests = [response.request async for response in responses]
        assert [(each.namespace, each.request_id) for each in requests] == [
            ("puzzle", "agent/0"),
            ("puzzle", "agent"),
            ("puzzle", "own"),
        ]


class TestErrors:
    async def test_a_request_fails_alone_and_at_its_turn(self) -> None:
        """F3, F4: its own exception, and the next one is there."""
        async with Dispatcher(CountingModel(failures=[None, OSError("no line")])) as api:
            got: list[Any] = []
            async with api.map(later(["a", "b", "c"])) as responses:
                while True:
                    try:
                        got.append((await anext(responses))[0])
                    except OSError as error:
                        got.append(str(error))
                    except StopAsyncIteration:
                        break
        assert got == ["a#0", "no line", "c#0"]

    async def test_an_error_of_the_source_comes_after_what_it_gave(self) -> None:
        def source() -> Iterator[str]:
            yield "a"
            yield "b"
            raise LookupError("no more")

        model = CountingModel()
        async with Dispatcher(model) as api:
            got = []
            with pytest.raises(LookupError, match="no more"):
                async with api.map(source()) as responses:
                    async for response in responses:
                        got.append(response[0])  # noqa: PERF401 (what came before the error counts)
        assert got == ["a#0", "b#0"]

    @pytest.mark.parametrize("bad", [object(), float("inf"), {1: 2}])
    async def test_an_item_that_is_no_prompt(self, bad: Any) -> None:
        """S12: it ends the map, after what came before it."""
        model = CountingModel()
        async with Dispatcher(model) as api:
            with pytest.raises((TypeError, ValueError), match="a prompt must be JSON"):
                await collect(api, ["a", bad, "b"])
        assert [prompt for prompt, _ in model.calls] == ["a"]

    async def test_the_users_own_error_is_plain(self) -> None:
        """F4: not in a group."""
        async with Dispatcher(CountingModel()) as api:
            with pytest.raises(KeyError):
                async with api.map(["a"]) as responses:
                    async for _ in responses:
                        raise KeyError("mine")

    async def test_a_map_of_a_stack_that_is_not_running(self) -> None:
        """F7: says so."""
        from cachesaver import Closed

        with pytest.raises(Closed):
            await collect(Dispatcher(CountingModel()), ["a"])


class TestLeaving:
    async def test_what_nobody_takes_is_offered_again(self, cache: Cache) -> None:
        """S14: a map left early has consumed only what was read."""
        model = CountingModel(delay=1)
        async with Cacher(model, cache) as api:
            async with api.map(["p"] * 4, window=4) as responses:
                assert (await anext(responses)).positions == [0]
            async with api.map(["p"] * 4, window=4) as responses:
                again = [response.positions async for response in responses]
        assert again == [[1], [2], [3], [4]]  # the first was read
        assert model.sold == 5

    async def test_a_cancelled_reader_leaves_nothing_behind(self, cache: Cache) -> None:
        """F6: what was sent is bought and kept."""
        model = CountingModel(delay=10)
        async with Cacher(model, cache) as api:
            with move_on_after(1):
                await collect(api, ["a", "b", "c"])
        assert model.sold == 3
        async with Cacher(model, cache) as api:
            assert await collect(api, ["a", "b", "c"]) == ["a#0", "b#0", "c#0"]
        assert model.sold == 3

    async def test_an_async_source_is_ended_too(self) -> None:
        """No task and no generator outlives the block."""
        ended = Event()

        async def endless() -> AsyncIterator[str]:
            try:
                for number in count():
                    yield f"p{number}"
                    await sleep(1)
            finally:
                ended.set()

        async with Dispatcher(CountingModel()) as api:
            async with api.map(endless()) as responses:
                await anext(responses)
            assert ended.is_set()


class TestProcess:
    async def test_pumps_between_the_users_own_streams(self, cache: Cache) -> None:
        asks, asked = create_memory_object_stream[Any](2)
        answers, answered = create_memory_object_stream[Any](2)

        async def produce() -> None:
            async with asks:
                for number in range(20):
                    await asks.send(Request(f"p{number}", 2) if number % 2 else f"p{number}")

        async with online(CountingModel(delay=1), cache) as api:
            async with create_task_group() as tasks:
                tasks.start_soon(api.process, asked, answers)
                tasks.start_soon(produce)
                async with answered:
                    got = [(response.request.prompt, response.data) async for response in answered]
        assert got == [
            (f"p{number}", [f"p{number}#0", f"p{number}#1"] if number % 2 else [f"p{number}#0"]) for number in range(20)
        ]

    async def test_a_full_output_slows_the_input(self) -> None:
        """F8: back-pressure from end to end."""
        asks, asked = create_memory_object_stream[str](1000)
        answers, answered = create_memory_object_stream[Any](0)
        model = CountingModel()
        with asks, answered:
            for number in range(1000):
                asks.send_nowait(f"p{number}")
            async with Dispatcher(model) as api, create_task_group() as tasks:

                async def pump() -> None:
                    await api.process(asked, answers, window=4)

                tasks.start_soon(pump)
                for _ in range(10):
                    await answered.receive()
                await wait_all_tasks_blocked()
                assert model.sold <= 10 + 4 + 1
                tasks.cancel_scope.cancel()

    async def test_both_streams_are_closed_at_an_error(self) -> None:
        """F4: the pump ends with the request's own error, and its neighbours notice."""
        asks, asked = create_memory_object_stream[str](2)
        answers, answered = create_memory_object_stream[Any](2)
        with asks, answered:
            asks.send_nowait("a")
            async with Dispatcher(CountingModel(failures=[OSError("no line")])) as api:
                with pytest.raises(OSError, match="no line"):
                    await api.process(asked, answers)
            with pytest.raises(ClosedResourceError):
                asked.receive_nowait()
            with pytest.raises(ClosedResourceError):
                answers.send_nowait(None)
