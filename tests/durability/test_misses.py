"""Two who do not know of one another buy for the same position at the same moment."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections import defaultdict
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import anyio
import pytest

import cachesaver
from cachesaver import Batcher, Cache, Response, _writes, online
from cachesaver._records import Bought, Placed
from cachesaver.testing import CountingModel

from ._sales import figure, integrity

RACER = Path(__file__).with_name("_racer.py")
NAMES = ("a", "b")

# Whether the namespace is shared, and the ids of the two requests. Only two
# different ids of a shared namespace get different samples.
WHO = pytest.mark.parametrize(
    ("sharing", "ids"), [("alone", "ii"), ("alone", "ij"), ("shared", "ii"), ("shared", "ij")]
)
Samples = list[tuple[Any, Any]]  # position and body


class Meeting:
    """Two who wait for one another."""

    def __init__(self) -> None:
        self._missing = 2
        self._event = anyio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._event.set()
        await self._event.wait()


class Buyer(CountingModel):
    """Sells when the other one has been asked for the same prompt too; no two answers are alike."""

    def __init__(self, name: str, meetings: dict[str, Meeting]) -> None:
        super().__init__(cache_scope="racer")
        self._name, self._meetings = name, meetings

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        """Sell *n* answers."""
        await self._meetings[prompt].wait()
        return await super().request(prompt, n)

    def make(self, prompt: Any) -> Any:
        """The next answer to *prompt*."""
        return f"{super().make(prompt)} of {self._name}"


async def together(stacks: list[Batcher], prompt: str, ids: str, n: int) -> list[Samples]:
    """What two requests get that are made at once."""
    got: dict[int, Samples] = {}

    async def ask(number: int) -> None:
        response = await stacks[number].request(prompt, n=n, namespace="n", request_id=ids[number])
        got[number] = pairs(response)

    async with anyio.create_task_group() as tasks:
        for number in range(2):
            tasks.start_soon(ask, number)
    return [got[0], got[1]]


def pairs(response: Response) -> Samples:
    return [(sample.position, sample.value) for sample in response.samples]


async def raced(folder: Path, sharing: str, ids: str, n: int, races: int) -> dict[str, list[Samples]]:
    """What two stacks with caches of their own, over one file, get of each prompt."""
    meetings: dict[str, Meeting] = defaultdict(Meeting)
    models = [Buyer(name, meetings) for name in NAMES]
    async with AsyncExitStack() as exits:
        caches = [exits.enter_context(Cache(folder)) for _ in models]
        stacks = [
            await exits.enter_async_context(online(model, cache, shared=sharing == "shared"))
            for model, cache in zip(models, caches, strict=True)
        ]
        got = {f"p{number}": await together(stacks, f"p{number}", ids, n) for number in range(races)}
    assert [model.sold for model in models] == [n * races] * 2
    return got


def stored(folder: Path) -> dict[str, Samples]:
    """What a cache file holds of each prompt."""
    with closing(sqlite3.connect(folder / "cache.db")) as connection:
        rows = connection.execute(
            "SELECT prompt, position, answer FROM samples JOIN prompts ON prompts.id = prompt_id ORDER BY position"
        ).fetchall()
    found: dict[str, Samples] = defaultdict(list)
    for prompt, position, answer in rows:
        found[json.loads(prompt)].append((position, json.loads(answer)))
    return found


def unlike(got: list[Samples], there: Samples, *, apart: bool, n: int) -> list[str]:
    """What is wrong with what two got of a prompt, of which *there* is stored."""
    one, two = got
    wrong = []
    if len({body for _, body in there}) != 2 * n or [position for position, _ in there] != list(range(2 * n)):
        wrong.append(f"kept {there}")
    if not {*one, *two} <= {*there}:
        wrong.append(f"got {got}, kept {there}")
    if (sorted([*one, *two]) != there) if apart else (one != two or one != there[:n]):
        wrong.append(f"shared badly: {got}")
    return wrong


def wrongs(folder: Path, got: dict[str, list[Samples]], *, apart: bool, n: int) -> list[str]:
    """What is wrong with all the races over a cache."""
    there = stored(folder)
    assert set(there) == set(got)
    return [wrong for prompt in got for wrong in unlike(got[prompt], there[prompt], apart=apart, n=n)]


@pytest.mark.anyio
@WHO
@pytest.mark.parametrize("n", [1, 2])
async def test_two_stacks_miss_together(tmp_path: Path, sharing: str, ids: str, n: int) -> None:
    """D2, S1; promise 15: the first commit wins and both see it, what the other bought is kept behind it."""
    got = await raced(tmp_path, sharing, ids, n, figure(100, 1000))
    apart = (sharing, ids) == ("shared", "ij")
    assert wrongs(tmp_path, got, apart=apart, n=n) == []
    assert integrity(tmp_path / "cache.db") == []
    with Cache(tmp_path) as cache:  # S5: and so it is in a later run
        async with online(CountingModel(cache_scope="racer"), cache, mode="offline", shared=sharing == "shared") as api:
            for which in dict.fromkeys(ids) if apart else ids[:1]:
                for prompt, samples in got.items():
                    again = await api.request(prompt, n=n, namespace="n", request_id=which)
                    assert pairs(again) == samples[ids.index(which)]


@pytest.mark.anyio
async def test_control_who_was_second_must_see_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: handing out what was bought in its stead is noticed."""
    placed = _writes._placed

    def hide(connection: sqlite3.Connection, one: Bought, now: str) -> Placed:
        return Placed(placed(connection, one, now).position, None)

    monkeypatch.setattr(_writes, "_placed", hide)
    got = await raced(tmp_path, "alone", "ii", 1, 3)
    assert wrongs(tmp_path, got, apart=False, n=1) != []


def start(folder: Path, name: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(cachesaver.__file__).parent.parent)}
    command = [sys.executable, str(RACER), str(folder), name, *arguments]
    # Unbuffered: every byte that lets a racer go must go at once.
    return subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def line(racer: subprocess.Popen[bytes]) -> list[Any]:
    assert racer.stdout is not None
    said: list[Any] = json.loads(racer.stdout.readline())
    return said


def race(racers: list[subprocess.Popen[bytes]], prompt: str) -> list[Samples]:
    """Let two processes buy at once; what they get."""
    assert [line(racer) for racer in racers] == [["buys", prompt]] * 2
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(b"!")
    said = [line(racer) for racer in racers]
    assert [what for what, *_ in said] == ["got"] * 2
    return [[(position, body)] for _, position, body in said]


@WHO
def test_two_processes_miss_together(tmp_path: Path, sharing: str, ids: str) -> None:
    """The same, of two processes; one on asyncio, one on trio."""
    races = figure(25, 250)
    settings = zip(NAMES, ("asyncio", "trio"), ids, strict=True)
    racers = [start(tmp_path, name, backend, sharing, which, str(races)) for name, backend, which in settings]
    try:
        got = {prompt: race(racers, prompt) for prompt in (f"p{number}" for number in range(races))}
        for racer in racers:
            racer.communicate()
            assert racer.returncode == 0
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert wrongs(tmp_path, got, apart=(sharing, ids) == ("shared", "ij"), n=1) == []
