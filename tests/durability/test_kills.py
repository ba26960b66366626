"""Writers of one file are killed, and others come after them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

import cachesaver
from cachesaver import Cache
from cachesaver._records import Answer, Query

from ._sales import figure, integrity
from ._writer import SALES, sale

WRITER = Path(__file__).with_name("_writer.py")
Line = Any  # what a writer says: "begun", or [number, positions, answers that stood there before]


def start(path: Path, name: str, when: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(cachesaver.__file__).parent.parent)}
    command = [sys.executable, str(WRITER), str(path), name, when]
    # Unbuffered, or communicate() would not see what readline() has read ahead.
    return subprocess.Popen(command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def killed(path: Path, names: list[str], dice: random.Random, when: str = "now") -> dict[str, list[Line]]:
    """What writers said before each was killed at a moment of its own."""
    writers = {name: start(path, name, when) for name in names}
    for writer in writers.values():
        assert writer.stdout is not None
        writer.stdout.readline()  # it has begun, and may be killed while it opens the file
    time.sleep(dice.choice((0.0, 0.15, 0.3)))
    said = {}
    for name in dice.sample(names, len(names)):
        time.sleep(dice.random() / 30)
        writers[name].kill()
    for name, writer in writers.items():
        output, errors = writer.communicate()
        assert errors == b""  # it was killed, and had not failed before
        said[name] = [json.loads(line) for line in output.splitlines()]
    return said


def kept(path: Path) -> dict[tuple[int, int], list[Any]]:
    """The writer, number and prompt of each (prompt, position) in the file; every answer must be whole."""
    keys = [sale("", 0, which).key for which in range(SALES)]
    with Cache(path) as cache:
        stocks = cache.load(Query(dict.fromkeys(keys, 0))).result().stocks
        places = [(key, position) for key in keys for position in stocks[key].positions]
        answers = cache.read(places).result()
    found = {}
    for (key, position), answer in answers.items():
        assert isinstance(answer, Answer), answer
        name, number, which = json.loads(answer.body).split()[:3]
        assert answer == sale(name, int(number), int(which)).answer
        assert key == keys[int(which)]
        found[int(which), position] = [name, int(number), int(which)]
    return found


def missing(path: Path, said: dict[str, list[Line]]) -> list[str]:
    """What the file lacks, or has otherwise than it was said."""
    there, wrong = kept(path), []
    for name, lines in said.items():
        for number, positions, seen in lines:
            for which, (position, stood) in enumerate(zip(positions, seen, strict=True)):
                if there.get((which, position)) != [name, number, which]:
                    wrong.append(f"{name} {number} {which} is not at {position}")
                if stood and [stood[0].strip('"'), int(stood[1]), int(stood[2])] != there.get((which, number)):
                    wrong.append(f"{stood} was seen at {number} of {which}")
    return wrong + integrity(path)


def doubled(path: Path) -> list[Any]:
    """The answers that the file has twice."""
    return [answer for answer, times in Counter(map(tuple, kept(path).values())).items() if times > 1]


def halved(path: Path, said: dict[str, list[Line]]) -> list[str]:
    """The writers of which the file holds other than all whole groups they named, and at most one more."""
    groups: dict[str, Counter[int]] = defaultdict(Counter)
    for name, number, _ in kept(path).values():
        groups[name][number] += 1
    return [
        name
        for name, lines in said.items()
        if sorted(groups[name].items()) not in [[(n, SALES) for n in range(len(lines) + more)] for more in (0, 1)]
    ]


@pytest.mark.parametrize(("writers", "rounds"), [(1, 10), (4, 4), (8, 3)])
def test_no_acknowledged_sample_is_lost(tmp_path: Path, dice: random.Random, writers: int, rounds: int) -> None:
    """D1, D2: nothing lost, halved, doubled or moved, however many processes die on one file."""
    said: dict[str, list[Line]] = {}
    for number in range(figure(rounds, 20 * rounds)):
        path = tmp_path / str(number // 3) / "cache.db"  # each file sees some rounds, and a race to make it
        if number % 3 == 0:
            said = {}
        said |= killed(path, [f"{number}-{writer}" for writer in range(writers)], dice)
        assert missing(path, said) == []
        assert doubled(path) == []
        assert halved(path, said) == []


def test_a_file_can_be_opened_while_others_write(tmp_path: Path) -> None:
    """D2: a file in the middle of a commit is not taken for a damaged one."""
    path = tmp_path / "cache.db"
    writers = [start(path, f"writer{number}", "now") for number in range(2)]
    try:
        for _ in range(figure(300, 5000)):
            with Cache(path):
                pass
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_control_what_is_said_too_early_is_lost(tmp_path: Path, dice: random.Random) -> None:
    """D1: acknowledging before the commit is noticed."""
    path = tmp_path / "cache.db"
    assert any(missing(path, killed(path, [f"{number}-0"], dice, "too early")) for number in range(30))
