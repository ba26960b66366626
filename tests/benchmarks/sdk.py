"""Time a hit under the official SDKs against the bare SDK on a transport that answers at once, side by side.

    python -m tests.benchmarks.sdk [--calls N] [--short]

Requests of 1.7 kB, answers of 1 kB, one after another. *Bare*: nothing underneath but
a transport that answers at once. *Entered stack*: a `CachingTransport` over an entered
`Cacher`. *Own thread*: a `CachingTransport` that keeps a stack itself. *Samples of one
prompt* replays a run that asked one prompt again and again; *different prompts* one
that asked each once, in the same order, where those that follow are read ahead; *shuffled*
in another order, where each is looked up on the disk alone. All ways take turns of 20 calls,
so that what else the machine does falls on all of them; each figure is the median of the
rounds, and so is what a way adds to the bare SDK of the same round.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import anthropic
import anyio
import click
import httpx2
import openai
from rich.console import Console
from rich.table import Table

from cachesaver import Cache, Cacher
from cachesaver.http import CachingTransport, HTTPModel

TEXT = "y" * 800
ANSWERS = {
    "openai": {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17},
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 7},
    },
}
WAYS = ("bare", "entered stack", "own thread")
CASES = ("samples of one prompt", "different prompts", "different prompts, shuffled")
TURN = 20  #: calls
Asked = dict[str, list[str]]  # by the way in which it is asked
Timings = dict[tuple[str, str, str], list[float]]  # µs a call in each round of each (colour, way, case)


class AtOnce(httpx2.BaseTransport, httpx2.AsyncBaseTransport):
    """Answers at once."""

    def __init__(self, sdk: str) -> None:
        self._content = json.dumps(ANSWERS[sdk]).encode()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "application/json"}
        return httpx2.Response(200, headers=headers, content=self._content, request=request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return self.handle_request(request)


def client(sdk: str, colour: str, transport: Any) -> Any:
    """A client of *sdk* over *transport*."""
    http = httpx2.Client(transport=transport) if colour == "sync" else httpx2.AsyncClient(transport=transport)
    kinds = {
        "openai": (openai.OpenAI, openai.AsyncOpenAI),
        "anthropic": (anthropic.Anthropic, anthropic.AsyncAnthropic),
    }
    kind: Any = kinds[sdk][colour != "sync"]
    return kind(api_key="key", base_url="http://model/v1" if sdk == "openai" else "http://model", http_client=http)


def call(sdk: str, api: Any, prompt: str) -> Any:
    """One call of the SDK."""
    messages = [{"role": "user", "content": prompt.ljust(1600, "x")}]
    if sdk == "openai":
        return api.chat.completions.create(model="m", messages=messages)
    return api.messages.create(model="m", max_tokens=10, messages=messages)


def prompts(case: str, way: str, calls: int) -> list[str]:
    """What was asked, one after another; in each way something else, as what was read once is not read again soon."""
    return [way if case == CASES[0] else f"{way} {number}" for number in range(calls + 1)]


@contextmanager
def over(way: str, sdk: str, cache: Path) -> Generator[Any]:
    """The transport of one way that needs no event loop."""
    if way == "bare":
        yield AtOnce(sdk)
    else:
        with CachingTransport(cache, mode="offline") as transport:
            yield transport


@asynccontextmanager
async def over_async(way: str, sdk: str, cache: Path) -> AsyncGenerator[Any]:
    """The transport of any way."""
    if way == "entered stack":
        with Cache(cache) as opened:
            async with HTTPModel() as model, Cacher(model, opened, mode="offline") as api:
                yield CachingTransport(api)
    else:
        with over(way, sdk, cache) as transport:
            yield transport


def time_sync(sdk: str, folder: Path, asked: Asked) -> dict[str, float]:
    """Microseconds a call of each way, but for the first."""
    spent: dict[str, float] = {"bare": 0.0, "own thread": 0.0}
    with ExitStack() as stack:
        apis = {way: client(sdk, "sync", stack.enter_context(over(way, sdk, folder / way))) for way in spent}
        for way, api in apis.items():
            call(sdk, api, asked[way][0])
        for way, part in turns(asked):
            if way in apis:
                start = perf_counter()
                for prompt in part:
                    call(sdk, apis[way], prompt)
                spent[way] += perf_counter() - start
    return {way: seconds / (len(asked[way]) - 1) * 1e6 for way, seconds in spent.items()}


async def time_async(sdk: str, folder: Path, asked: Asked) -> dict[str, float]:
    """Microseconds a call of each way, but for the first."""
    spent: dict[str, float] = dict.fromkeys(WAYS, 0.0)
    async with AsyncExitStack() as stack:
        apis: dict[str, Any] = {}
        for way in WAYS:
            transport = await stack.enter_async_context(over_async(way, sdk, folder / way))
            apis[way] = client(sdk, "async", transport)
            await call(sdk, apis[way], asked[way][0])
        for way, part in turns(asked):
            start = perf_counter()
            for prompt in part:
                await call(sdk, apis[way], prompt)
            spent[way] += perf_counter() - start
    return {way: seconds / (len(asked[way]) - 1) * 1e6 for way, seconds in spent.items()}


def turns(asked: Asked) -> Iterator[tuple[str, list[str]]]:
    """Which way is next, and what it asks."""
    for start in range(1, len(asked["bare"]), TURN):
        for way, all_of_it in asked.items():
            yield way, all_of_it[start : start + TURN]


def fill(sdk: str, cache: Cache, asked: list[str]) -> None:
    """The run that is replayed."""
    with CachingTransport(cache, client=httpx2.Client(transport=AtOnce(sdk))) as transport:
        api = client(sdk, "sync", transport)
        for prompt in asked:
            assert not inspect.isawaitable(call(sdk, api, prompt))


def measure(sdk: str, calls: int, repeats: int) -> Timings:
    """All ways and colours in turn."""
    timings: Timings = defaultdict(list)
    for case in CASES:
        asked = {way: prompts(case, way, calls) for way in WAYS}
        with TemporaryDirectory() as name:
            folder = Path(name)
            for way in WAYS[1:]:  # a file of its own for each: what one reads ahead is not for the other
                with Cache(folder / way) as cache:
                    fill(sdk, cache, asked[way])
                if case == CASES[2]:
                    random.Random(1).shuffle(asked[way])
            for _ in range(repeats):
                rounds = {"sync": time_sync(sdk, folder, asked)}
                for colour in ("asyncio", "trio"):
                    timed: Callable[..., Any] = time_async
                    rounds[colour] = anyio.run(timed, sdk, folder, asked, backend=colour)
                for colour, ways in rounds.items():
                    for way, micros in ways.items():
                        timings[colour, way, case].append(micros)
    return timings


def table(sdk: str, timings: Timings) -> Table:
    """What was measured, with what it adds to the bare SDK in the same round."""
    shown = Table("", *("sync", "asyncio", "trio"), title=f"{sdk} {version(sdk)}: µs a call")
    for case in CASES:
        for way in WAYS:
            cells: list[str] = []
            for colour in ("sync", "asyncio", "trio"):
                rounds, bare = timings.get((colour, way, case)), timings[colour, "bare", case]
                if rounds is None:
                    cells.append("-")
                    continue
                added = median(micros / alone for micros, alone in zip(rounds, bare, strict=True)) - 1
                cells.append(f"{median(rounds):.0f}" + (f" ({added:+.0%})" if way != "bare" else ""))
            shown.add_row(f"{way}, {case}" if way != "bare" else f"bare ({case})", *cells)
    return shown


@click.command()
@click.option("--calls", default=400, show_default=True, help="Calls of each way in a round.")
@click.option("--repeats", default=9, show_default=True, help="Rounds.")
@click.option("--short", is_flag=True, help="20 calls, once: to see that it runs.")
def main(calls: int, repeats: int, short: bool) -> None:
    """Print what a hit costs under the OpenAI and the Anthropic SDK."""
    console = Console(width=110)
    for sdk in ("openai", "anthropic"):
        console.print(table(sdk, measure(sdk, *((20, 1) if short else (calls, repeats)))))
    console.print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")


if __name__ == "__main__":
    main()
