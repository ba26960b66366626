"""Namespace and request id by context."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from anyio import create_task_group, sleep, to_thread

from cachesaver import Cache, Dispatcher, Request, namespace, online, request_id
from cachesaver.testing import CountingModel

pytestmark = pytest.mark.anyio


async def labels(prompt: str, namespace: str, request_id: str | None) -> list[Any]:
    """A model that answers who asks."""
    return [namespace, request_id]


async def test_they_are_the_defaults_of_every_request_inside() -> None:
    """S6: and nested blocks join with a slash."""
    async with Dispatcher(labels) as api:
        assert (await api.request("p")).data == [["default", None]]
        with namespace("run"), request_id("agent"):
            assert (await api.request("p")).data == [["run", "agent"]]
            with namespace("puzzle"), request_id("step"):
                assert (await api.request("p")).data == [["run/puzzle", "agent/step"]]
            assert (await api.request("p")).data == [["run", "agent"]]
        assert (await api.request("p")).data == [["default", None]]


async def test_an_explicit_argument_replaces() -> None:
    async with Dispatcher(labels) as api:
        with namespace("run"), request_id("agent"):
            assert (await api.request("p", namespace="own", request_id="mine")).data == [["own", "mine"]]
            assert (await api.request("p", namespace="own")).data == [["own", "agent"]]


async def test_a_request_takes_those_of_where_it_is_made() -> None:
    async with Dispatcher(labels) as api:
        with namespace("run"), request_id("agent"):
            inside = [Request("p"), Request("p", namespace="own")]
        assert [response.data for response in await api.batch_request(inside)] == [
            [["run", "agent"]],
            [["own", "agent"]],
        ]


async def test_tasks_inherit_them_and_do_not_disturb_one_another() -> None:
    """S6: each sample of a data set in a namespace of its own, all at once."""
    heard: dict[int, Any] = {}

    async def process_sample(number: int) -> None:
        with namespace(f"sample-{number}"):
            await sleep(number % 3)
            heard[number] = (await api.request("p"))[0][0]

    async with Dispatcher(labels) as api:
        with namespace("config"):
            async with create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(process_sample, number)
    assert heard == {number: f"config/sample-{number}" for number in range(10)}


def test_gathered_coroutines_inherit_them_too() -> None:
    """S6: on asyncio with gather."""

    async def main() -> list[Any]:
        async def process_sample(number: int) -> Any:
            with namespace(f"sample-{number}"):
                await asyncio.sleep(0)
                return (await api.request("p"))[0][0]

        async with Dispatcher(labels) as api:
            with namespace("config"):
                return await asyncio.gather(*map(process_sample, range(3)))

    assert asyncio.run(main()) == ["config/sample-0", "config/sample-1", "config/sample-2"]


async def test_threads_inherit_them() -> None:
    with namespace("run"):
        made = await to_thread.run_sync(Request, "p")
    assert made.namespace == "run"


async def test_an_error_inside_ends_them() -> None:
    with pytest.raises(ZeroDivisionError), namespace("run"), request_id("agent"):
        raise ZeroDivisionError
    assert Request("p") == Request("p", 1, "default", None)


@pytest.mark.parametrize("label", [namespace, request_id])
@pytest.mark.parametrize(
    ("bad", "error"), [("", ValueError), (None, TypeError), (7, TypeError), ("\ud800", ValueError)]
)
def test_a_label_is_a_string_with_something_in_it(label: Any, bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error), label(bad):
        pass


async def test_the_namespace_is_the_unit_of_independence(cache: Cache) -> None:
    """S1, S2."""
    async with online(CountingModel(), cache) as api:
        with namespace("one"):
            one = [(await api.request("p"))[0] for _ in range(2)]
        with namespace("two"):
            two = [(await api.request("p"))[0] for _ in range(2)]
    assert one == two == ["p#0", "p#1"]
