"""`cachesaver verify` and `cachesaver salvage`, as real processes on really damaged files."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cachesaver import Cache
from cachesaver._prompt import Prompt
from cachesaver._records import Answer, Bought, Query, Record, Usage


def cachesaver(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cachesaver._cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def sale(number: int, position: int) -> Bought:
    asked = Prompt({"question": number})
    answer = Answer(json.dumps(f"answer {number}.{position}"), 1.5, Usage(1, 2))
    return Bought(asked.key("model"), "model", asked.asked, position, answer)


SALES = [sale(number, position) for number in range(60) for position in range(5)]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    with Cache(tmp_path / "cache.db") as cache:
        records = [Record("run", one.key, f"id-{one.position}", 0, one.position) for one in SALES]
        cache.commit(SALES, records).result()
    return cache


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def answers(cache: Cache) -> dict[tuple[bytes, int], Any]:
    with cache:
        stocks = cache.load(Query({one.key: 0 for one in SALES})).result().stocks
        return {(key, position): answer for key, stock in stocks.items() for position, answer in stock.answers.items()}


class TestVerify:
    def test_a_whole_cache(self, cache: Cache) -> None:
        """D5: every row is counted, and nothing is touched."""
        before = state(cache.path.parent)
        done = cachesaver("verify", cache.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert (
            done.stdout
            == "60 prompts whole, 300 samples whole, 1 namespaces whole, 300 assignments whole, 0 spills whole,"
            " 0 rejections whole, 0 runs whole, 0 ledger whole\n"
        )
        assert state(cache.path.parent) == before

    def test_a_folder_is_the_cache_in_it(self, tmp_path: Path) -> None:
        with Cache(tmp_path / "folder") as cache:
            cache.commit([SALES[0]], []).result()
        done = cachesaver("verify", tmp_path / "folder", "--json")
        assert json.loads(done.stdout)["whole"]["samples"] == 1

    def test_an_answer_with_another_letter(self, cache: Cache) -> None:
        """D5: found by its checksum, and said on standard error with the exit code."""
        content = cache.path.read_bytes()
        cache.path.write_bytes(content.replace(b"answer 7.3", b"answer 7.4"))
        done = cachesaver("verify", cache.path)
        assert done.returncode == 1
        assert "samples, row 39: its checksum is wrong" in done.stderr

    def test_a_prompt_with_another_letter(self, cache: Cache) -> None:
        """S12, D5: the key is that of the prompt, or both are in doubt."""
        content = cache.path.read_bytes()
        cache.path.write_bytes(content.replace(b'{"question":17}', b'{"question":71}'))
        done = cachesaver("verify", cache.path)
        assert done.returncode == 1
        assert "prompts, row 18: its key is not that of its prompt" in done.stderr
        assert done.stderr.count("its prompt is missing or damaged") == 5

    def test_a_damaged_index(self, cache: Cache) -> None:
        """D5: a lookup would miss what the table holds; SQLite's own check sees it."""
        with closing(sqlite3.connect(cache.path)) as connection:
            (page,) = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'sqlite_autoindex_prompts_1'"
            ).fetchone()
            (size,) = connection.execute("PRAGMA page_size").fetchone()
        content = bytearray(cache.path.read_bytes())
        content[(page - 1) * size + size // 2 : page * size] = bytes(size // 2)
        cache.path.write_bytes(content)
        assert cachesaver("verify", cache.path).returncode == 1

    @pytest.mark.parametrize("name", ["missing.db", "missing"])
    def test_no_cache(self, tmp_path: Path, name: str) -> None:
        done = cachesaver("verify", tmp_path / name)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: there is no cache at")
        assert list(tmp_path.iterdir()) == []

    def test_a_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "notes.db").write_text("my notes\n" * 1000)
        done = cachesaver("verify", tmp_path / "notes.db")
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


class TestSalvage:
    def test_of_a_whole_cache_is_the_same(self, cache: Cache, tmp_path: Path) -> None:
        """D5, S5: samples, and who got them."""
        assert cachesaver("salvage", cache.path, tmp_path / "new.db").returncode == 0
        dumps = []
        for path in (cache.path, tmp_path / "new.db"):
            with closing(sqlite3.connect(path)) as connection:
                dumps.append(sorted(connection.iterdump()))
        assert dumps[0] == dumps[1]
        assert answers(Cache(tmp_path / "new.db")) == answers(cache)

    @pytest.mark.parametrize("seed", range(10))
    def test_what_is_whole_is_saved(self, cache: Cache, tmp_path: Path, seed: int) -> None:
        """D5: zeroed and scrambled pages, and a new file without a doubt."""
        dice = random.Random(seed)
        content = bytearray(cache.path.read_bytes())
        with Cache(tmp_path / "empty.db") as empty:
            roots = empty.path.stat().st_size // 4096  # without the roots and the schema it is no cache
        for _ in range(dice.randint(1, 3)):
            page = dice.randrange(roots, len(content) // 4096)
            content[page * 4096 : (page + 1) * 4096] = dice.choice([bytes(4096), dice.randbytes(4096)])
        before = answers(cache)
        cache.path.write_bytes(content)
        done = cachesaver("salvage", cache.path, tmp_path / "new.db", "--json")
        assert "Traceback" not in done.stderr, seed
        saved = json.loads(done.stdout)["saved"]["samples"]
        found = answers(Cache(tmp_path / "new.db"))
        assert len(found) == saved
        assert found.items() <= before.items()
        assert cachesaver("verify", tmp_path / "new.db").returncode == 0
        assert cache.path.read_bytes() == content

    def test_a_prompt_that_is_not_whole_takes_its_samples_along(self, cache: Cache, tmp_path: Path) -> None:
        """D5: no sample without its prompt, also where only the date is damaged."""
        with closing(sqlite3.connect(cache.path)) as connection:
            ((seen,),) = connection.execute("SELECT first_seen FROM prompts WHERE id = 18").fetchall()
        content = cache.path.read_bytes()
        start = content.index(b'{"question":17}' + seen.encode()) + 15
        cache.path.write_bytes(content[:start] + b"\xff" + content[start + 1 :])
        assert cachesaver("salvage", cache.path, tmp_path / "new.db").returncode == 1
        with closing(sqlite3.connect(tmp_path / "new.db")) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("SELECT count(*) FROM samples").fetchone() == (295,)

    def test_an_interrupted_commit_is_rolled_back_in_the_new_file(self, cache: Cache, tmp_path: Path) -> None:
        """D1: the journal beside the file counts; the file itself stays as it is."""
        program = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO namespaces (name) VALUES (?)", [(f"{n}" * 100,) for n in range(10_000)])
os._exit(0)
"""
        subprocess.run([sys.executable, "-c", program, cache.path], check=True)
        before = state(cache.path.parent)
        done = cachesaver("salvage", cache.path, tmp_path / "new" / "new.db", "--json")
        assert json.loads(done.stdout)["saved"] == {
            "prompts": 60,
            "samples": 300,
            "namespaces": 1,
            "assignments": 300,
            "spills": 0,
            "rejections": 0,
            "runs": 0,
            "ledger": 0,
        }
        assert {name: before[name] for name in before} == {
            path.name: path.read_bytes() for path in cache.path.parent.iterdir() if path.is_file()
        }

    def test_an_existing_file_is_not_touched(self, cache: Cache, tmp_path: Path) -> None:
        (tmp_path / "new.db").write_text("mine")
        done = cachesaver("salvage", cache.path, tmp_path / "new.db")
        assert done.returncode == 1
        assert "exists already" in done.stderr
        assert (tmp_path / "new.db").read_text() == "mine"
