"""The same call in three colours: sync, on asyncio and on trio; and what comes of it as plain data."""

from __future__ import annotations

import dataclasses
import inspect
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

from cachesaver import Cache

from .sdk._cells import COLOURS as COLOURS
from .sdk._cells import SDK, SDKS

BY_NAME: dict[str, SDK] = {sdk.name: sdk for sdk in SDKS}

Ask = Callable[[Any], Any]  #: of a client: an answer, a stream or a manager of one, or something to await for it


def ask_in(colour: str, name: str, url: str, *asks: Ask, **options: Any) -> list[Any]:
    """What a new client of the drop-in *name* gets for each of *asks*, errors included; it is closed afterwards."""

    def make() -> Any:
        return BY_NAME[name].client(colour, url, **options)

    return on(colour, make, *asks)


def on(colour: str, make: Callable[[], Any], *asks: Ask) -> list[Any]:
    """The same with a client that *make* makes, inside of the event loop where there is one."""
    if colour == "sync":
        client = make()
        try:
            return [_caught(lambda ask=ask: taken(ask(client))) for ask in asks]
        finally:
            _close(client, "close", "__exit__")

    async def run() -> list[Any]:
        client = make()
        try:
            return [await _caught_async(lambda ask=ask: ask(client)) for ask in asks]
        finally:
            await _close(client, "aclose", "close", "__aexit__")
            await anyio.wait_all_tasks_blocked()  # trio closes in tasks of its own what the SDKs leave half read

    return anyio.run(run, backend=colour)


def say(name: str, colour: str = "sync", model: str = "tiny") -> Ask:
    """The call by which the drop-in *name* asks *model* for one plain answer."""
    messages: Any = [{"role": "user", "content": "Say"}]

    def ask(client: Any) -> Any:
        match name:
            case "anthropic":
                return client.messages.create(model=model, messages=messages, max_tokens=9)
            case "gemini":
                return client.models.generate_content(model=model, contents="Say")
            case "mistral":
                complete = client.chat.complete if colour == "sync" else client.chat.complete_async
                return complete(model=model, messages=messages)
            case "cohere" | "ollama":
                return client.chat(model=model, messages=messages)
            case "huggingface":
                return client.chat_completion(messages, model=model)
            case _:
                return client.chat.completions.create(model=model, messages=messages)

    return ask


def asked(answers: list[Any]) -> list[Any]:
    """The same *answers*; the first error among them is raised."""
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def taken(answer: Any) -> Any:
    """All of *answer*: a stream is read to its end."""
    if hasattr(answer, "__enter__") and not hasattr(answer, "__next__"):
        with answer as stream:
            return [*map(plain, stream), *map(plain, _final(stream))]
    if isinstance(answer, Iterator):
        return [plain(piece) for piece in answer]
    return plain(answer)


async def taken_async(answer: Any) -> Any:
    """The same, async."""
    if inspect.isawaitable(answer):
        answer = await answer
    if hasattr(answer, "__aenter__") and not hasattr(answer, "__anext__"):
        async with answer as stream:
            return [*[plain(piece) async for piece in stream], *[plain(await one) for one in _final(stream)]]
    if isinstance(answer, AsyncIterator):
        return [plain(piece) async for piece in answer]
    return plain(answer)


def plain(value: Any) -> Any:
    """*value* as plain data, for comparing field by field."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", warnings=False, exclude={"sdk_http_response"})
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)  # pyright: ignore[reportArgumentType]
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def rows(folder: Path, query: str = "SELECT scope, prompt FROM prompts") -> list[Any]:
    """What the cache in *folder* holds."""
    with Cache(folder) as cache:
        with closing(sqlite3.connect(cache.path)) as database:
            return database.execute(query).fetchall()


def _final(stream: Any) -> list[Any]:
    """What a helper of an SDK has put together."""
    names = ("get_final_completion", "get_final_message", "get_final_response")
    return [getattr(stream, name)() for name in names if hasattr(stream, name)]


def _close(client: Any, *names: str) -> Any:
    """Close it in the first of these ways that its SDK knows."""
    name = next(name for name in names if hasattr(client, name))
    return getattr(client, name)(*([None] * 3 if name.endswith("exit__") else []))


def _caught(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:
        return error


async def _caught_async(ask: Callable[[], Any]) -> Any:
    try:
        return await taken_async(ask())
    except Exception as error:
        return error
