"""Six processes draw from the same namespaces, are killed, and come back: their history is judged as a whole."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import cachesaver
from cachesaver import Cache, online
from cachesaver.testing import CountingModel

from ._asker import SCOPE
from ._history import RULES, Call, Got, History, complaints, read
from ._sales import figure, integrity

ASKER = Path(__file__).with_name("_asker.py")
PROCESSES = 6
PATIENCE = 60  # seconds for a process to end by itself


class Crew:
    """Six processes over one cache; where one is killed another takes its place."""

    def __init__(self, folder: Path, sharing: str, dice: random.Random) -> None:
        self.killed: set[str] = set()
        self._folder, self._sharing, self._dice = folder, sharing, dice
        self._numbers = itertools.count()
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        for name in ("history", "sales", "errors"):
            (folder / name).mkdir(parents=True)

    def __enter__(self) -> Crew:
        for place in range(PROCESSES):
            self._start(place)
        return self

    def __exit__(self, *error: object) -> None:
        for _, process in self._running.values():
            process.kill()
            process.wait()

    def _start(self, place: int, former: str = "") -> None:
        name = f"{place}-{next(self._numbers)}"
        backend, preset = ("asyncio", "trio")[place % 2], ("online", "local")[place // 2 % 2]
        command = [sys.executable, str(ASKER), str(self._folder), name, backend, preset, self._sharing, former]
        environment = {**os.environ, "PYTHONPATH": str(Path(cachesaver.__file__).parent.parent)}
        (self._folder / "history" / name).touch()
        with (self._folder / "errors" / name).open("wb") as errors:
            self._running[place] = name, subprocess.Popen(command, stderr=errors, env=environment)

    def kill_one(self) -> None:
        """Kill one at a moment of chance, and let another begin with what it had asked."""
        time.sleep(self._dice.random() * 1.2)
        place = self._dice.randrange(PROCESSES)
        name, process = self._running[place]
        process.kill()
        assert process.wait() == -signal.SIGKILL, self.errors()  # else it had ended before
        self.killed.add(name)
        self._start(place, name)

    def all_have_answers(self) -> None:
        """Wait until every process that runs has been answered."""
        deadline = time.monotonic() + PATIENCE
        for name, process in self._running.values():
            while b'"ok"' not in (self._folder / "history" / name).read_bytes():
                assert process.poll() is None, self.errors()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def end(self) -> None:
        """Let everybody finish what was begun."""
        (self._folder / "stop").touch()
        for _, process in self._running.values():
            assert process.wait(PATIENCE) == 0, self.errors()

    def errors(self) -> list[str]:
        return [text for path in (self._folder / "errors").iterdir() if (text := path.read_text())]


def lived(folder: Path, dice: random.Random, kills: int, sharing: str = "shared") -> History:
    """The history of six processes, of which some are killed."""
    with Crew(folder, sharing, dice) as crew:
        for _ in range(kills):
            crew.kill_one()
        crew.all_have_answers()
        crew.end()
    if sharing == "shared":  # else it is warned, rightly, that nobody knows its ids
        assert crew.errors() == []
    history = read(folder, crew.killed)
    sys.stdout.write(history.figures() + "\n")
    return history


async def asked_again(folder: Path, history: History) -> dict[tuple[str, str, str, int], tuple[int | None, Any]]:
    """What a later run gets for every id that was answered, without a model."""
    wanted: dict[tuple[str, str, str], int] = {}
    for got in history.got:
        wanted[got.draw[:3]] = max(got.ordinal + 1, wanted.get(got.draw[:3], 0))
    found = {}

    async def ask(namespace: str, prompt: str, request_id: str, n: int) -> None:
        response = await stack.request(prompt, n=n, namespace=namespace, request_id=request_id)
        for ordinal, sample in enumerate(response.samples):
            found[namespace, prompt, request_id, ordinal] = sample.position, sample.value

    with Cache(folder) as cache:
        async with online(CountingModel(cache_scope=SCOPE), cache, mode="offline", shared=True) as stack:
            async with anyio.create_task_group() as tasks:
                for which, n in wanted.items():
                    tasks.start_soon(ask, *which, n)
    return found


def test_six_processes_share_namespaces(tmp_path: Path, dice: random.Random) -> None:
    """S1, S2, S5-S8, D1, D2; promises 2, 11, 12: nothing twice, nothing moved, nothing lost, whoever is killed."""
    for number in range(figure(1, 10)):
        folder = tmp_path / str(number)
        history = lived(folder, dice, kills=30)
        assert complaints(history) == []
        assert integrity(folder / "cache.db") == []
        assert len(history.sales) == len(history.stored) + history.uncommitted.total()
        replay = anyio.run(asked_again, folder, history)
        assert {got.draw: (got.position, got.body) for got in history.got}.items() <= replay.items()


@pytest.mark.parametrize("sharing", ["alone", "unchecked"])
def test_control_without_sharing_positions_are_given_twice(tmp_path: Path, dice: random.Random, sharing: str) -> None:
    """Promise 12: where namespaces are not shared, or conflicts not looked for, the judge sees it."""
    history = lived(tmp_path, dice, kills=2, sharing=sharing)
    assert {"position_twice", "body_twice"} <= broken(history)


def broken(history: History) -> set[str]:
    """The rules of which the judge complains."""
    return {complaint.split(":")[0] for complaint in complaints(history)}


def good() -> History:
    """Two processes, one killed; two namespaces with one sample each, one sale and one call in flight."""
    one = Call("a", "n", "p", "i", 1, "ok", "", [Got("a", "n", "p", "i", 0, 0, "a#1", False)])
    two = Call("b", "m", "p", "i", 1, "ok", "", [Got("b", "m", "p", "i", 0, 0, "a#1", True)])
    cut, refused = Call("a", "n", "p", "j", 1), Call("b", "m", "p", "j", 2, "failed", "Refused('b')")
    return History([one, two, cut, refused], [("p", "a#1", "a"), ("p", "a#2", "a")], {("p", 0): "a#1"}, {"a"})


def also(**changes: Any) -> Callable[[History], None]:
    """A third process that got what the first one has, but for *changes*."""

    def forge(history: History) -> None:
        [got] = history.calls[0].got
        other = got._replace(process="c", **changes)
        history.calls.append(Call("c", other.namespace, other.prompt, other.request_id, 1, "ok", "", [other]))

    return forge


FORGED: dict[str, Callable[[History], Any]] = {
    "position_twice": also(request_id="k"),
    "body_twice": also(position=1, request_id="k"),
    "draw_moved": also(position=1, body="a#2"),
    "content_changed": also(namespace="o", body="a#2"),
    "content_lost": lambda history: history.stored.clear(),
    "stored_twice": lambda history: history.stored.update({("p", 1): "a#1"}),
    "never_sold": lambda history: history.stored.update({("p", 1): "b#1"}),
    "sale_lost": lambda history: history.sales.append(("p", "a#3", "a")),
    "badly_ended": lambda history: history.killed.clear(),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_control_a_forged_history_is_noticed(rule: Callable[[History], Any]) -> None:
    """Each of the judge's rules, broken."""
    history = good()
    assert complaints(history) == []
    FORGED[rule.__name__](history)
    assert rule.__name__ in broken(history)


@pytest.mark.parametrize(
    "change",
    [
        {"request_id": "k", "ordinal": 0},
        {"ordinal": 1},
        {"prompt": "q", "request_id": "k"},
        {"namespace": "m", "request_id": "k"},
    ],
    ids=str,
)
def test_control_one_answer_cannot_go_to_two(change: dict[str, Any]) -> None:
    """S1: by another id, ordinal or prompt; in another process or the same."""
    history = good()
    also(**change)(history)
    assert "body_twice" in broken(history)


def test_control_errors_of_the_library_are_noticed() -> None:
    """D2: none fails with "database is locked"; no call gets fewer samples than it asked for."""
    for state, error, n in (("failed", "CacheBusy('...')", 1), ("ok", "", 1), ("unknown", "", 1)):
        history = good()
        history.calls.append(Call("b", "m", "p", "k", n, state, error))
        assert broken(history) == {"badly_ended"}
