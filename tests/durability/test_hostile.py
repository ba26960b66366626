"""Sixty hostile folders: opening them runs no code, changes no other file, and costs little time and memory."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import cachesaver
from cachesaver import Cache
from cachesaver._records import Answer, Bought, Record
from cachesaver._rows import write_row
from cachesaver._schema import APPLICATION_ID, SCHEMA, VERSION

SECONDS, MEGABYTES = 2.0, 256  #: the processor's time that reading it may cost; verify and salvage have 20 s
KEY = sha256(b"p").digest()

Maker = Callable[[Path], None]
MAKERS: dict[str, Maker] = {}


def hostile(name: str) -> Callable[[Maker], Maker]:
    def add(maker: Maker) -> Maker:
        MAKERS[name] = maker
        return maker

    return add


# What a stranger may make


def cache_of(path: Path, *answers: str) -> Path:
    """A cache of ours, with these JSON texts as the answers to "p" under the scope "m"."""
    key = sha256(b'["m","p"]').digest()
    with Cache(path) as cache:
        sales = [Bought(key, "m", '"p"', position, Answer(text, 0.0, None)) for position, text in enumerate(answers)]
        cache.commit(sales, [Record("default", key, None, 0, 0)] if sales else []).result()
    return path


def altered(path: Path, script: str) -> None:
    """A cache of ours, on which *script* was run afterwards."""
    cache_of(path, '"good"')
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def disguised(path: Path, script: str) -> None:
    """A database with our marks, and tables of a stranger's."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; {script}")


for _size in (0, 1, 15, 16, 99, 100, 511, 512, 1024, 4096, 5000, 20_000, 40_000):

    @hostile(f"cut to {_size} bytes")
    def _cut(path: Path, size: int = _size) -> None:
        content = cache_of(path, '"good"').read_bytes()
        path.write_bytes(content[:size])
        if not size:
            path.with_name("c.db-journal").write_bytes(b"x" * 600)


for _seed in range(8):

    @hostile(f"noise {_seed}")
    def _noise(path: Path, seed: int = _seed) -> None:
        dice = random.Random(seed)
        content = bytearray(cache_of(path, '"good"').read_bytes())
        start = dice.choice([0, 16, 100, 4096])
        content[start : start + 2000] = dice.randbytes(2000)
        path.write_bytes(content)


for _table in ("prompts", "samples", "namespaces", "assignments", "rejections", "ledger"):

    @hostile(f"a view in place of {_table}")
    def _view(path: Path, table: str = _table) -> None:
        disguised(path, SCHEMA)
        with closing(sqlite3.connect(path)) as connection:
            for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                connection.execute(f"DROP TRIGGER {name}")
            connection.executescript(
                f"DROP VIEW overview; DROP TABLE {table}; CREATE VIEW {table} AS WITH RECURSIVE endless(id) AS"
                " (SELECT 1 UNION ALL SELECT id + 1 FROM endless) SELECT id, id AS key, id AS scope FROM endless;"
            )

    for _verb in ("INSERT", "UPDATE", "DELETE"):

        @hostile(f"a trigger on {_verb} of {_table}")
        def _trigger(path: Path, table: str = _table, verb: str = _verb) -> None:
            altered(path, f"CREATE TRIGGER sly AFTER {verb} ON {table} BEGIN SELECT writefile('x', 'y'); END;")


SCHEMAS = {
    "an endless view": "CREATE VIEW v AS WITH RECURSIVE e(x) AS (SELECT 1 UNION ALL SELECT 2 FROM e) SELECT 1 FROM e;",
    "a full text table": "CREATE VIRTUAL TABLE more USING fts5(a);",
    "a generated column": "CREATE TABLE more (a, b AS (hex(zeroblob(100000000))));",
    "an index on an expression": "CREATE INDEX more ON samples (length(answer));",
    "a check that loads": "CREATE TABLE more (a CHECK (load_extension('evil.so')));",
    "a default that reads": "CREATE TABLE more (a DEFAULT (readfile('/etc/passwd')));",
    "two hundred thousand views": (
        "PRAGMA writable_schema = ON; WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)"
        " INSERT INTO sqlite_schema SELECT 'view', 'v' || i, 'v' || i, 0,"
        " 'CREATE VIEW v' || i || ' AS SELECT 1' FROM n;"
    ),
    "a table with a name of a megabyte": f'CREATE TABLE "{"x" * 1_000_000}" (a);',
}
for _name, _script in SCHEMAS.items():

    @hostile(_name)
    def _schema(path: Path, script: str = _script) -> None:
        altered(path, script)


@hostile("a schema that is edited by hand")
def _edited(path: Path) -> None:
    altered(
        path,
        "PRAGMA writable_schema = ON;"
        " UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'samples';"
        " PRAGMA writable_schema = OFF;",
    )


@hostile("an utf-16 database")
def _utf16(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16'")
        connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; {SCHEMA}")


@hostile("an answer of 150 megabytes")
def _large(path: Path) -> None:
    cache_of(path)
    with closing(sqlite3.connect(path)) as connection:
        key = sha256(b'["m","p"]').digest()
        connection.execute("INSERT INTO prompts VALUES (1, ?, 'm', '\"p\"', 'now')", (key,))
        connection.execute(
            "INSERT INTO samples VALUES (1, 1, 0, CAST(zeroblob(150000000) AS TEXT), 'now', 0.0, NULL, NULL, NULL, ?)",
            (bytes(16),),
        )
        connection.commit()


ANSWERS = {
    "an answer two hundred thousand deep": "[" * 200_000 + "]" * 200_000,
    "an answer that is not a number": "NaN",
    "an answer that is endless": "1e999",
    "an answer with a lone surrogate": '"\\ud800"',
    "an answer of many digits": "9" * 10_000,
    "an answer that is no JSON": "__import__('os').system('touch pwned')",
    "an answer that is a pickle": json.dumps("\x80\x04cos\nsystem\n(S'touch pwned'\ntR."),
    "an answer with a key twice": '{"a": 1, "a": 2}',
}
for _name, _text in ANSWERS.items():

    @hostile(_name)
    def _answer(path: Path, text: str = _text) -> None:
        cache_of(path, text)


@hostile("prompts that nobody can read")
def _prompts(path: Path) -> None:
    cache_of(path, '"good"')
    with closing(sqlite3.connect(path)) as connection:
        deep = "[" * 900 + "]" * 900
        for number, text in enumerate(["[" * 100_000, deep, "NaN", "", "{", '{"a":' * 400 + "1" + "}" * 400]):
            connection.execute(
                "INSERT INTO prompts (key, scope, prompt, first_seen) VALUES (?, 'm', ?, '')",
                (bytes([number] * 32), text),
            )
        connection.commit()


@hostile("positions that do not exist")
def _positions(path: Path) -> None:
    cache_of(path, '"good"')
    with closing(sqlite3.connect(path)) as connection:
        row = write_row(KEY, 2**62, Answer('"far"', 0.0, None), "now")
        connection.execute(
            "INSERT INTO samples"
            " (prompt_id, position, answer, bought_at, seconds, input_tokens, output_tokens, checksum)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
        connection.commit()


@hostile("a journal that deletes files")
def _super_journal(path: Path) -> None:
    cache_of(path, '"good"')
    name = str(path.parent.parent / "sentinel" / "file").encode()
    content = bytes.fromhex("d9d505f920a163d7") + b"\0" * 504 + name + len(name).to_bytes(4, "big")
    path.with_name("c.db-journal").write_bytes(
        content + sum(name).to_bytes(4, "big") + bytes.fromhex("d9d505f920a163d7")
    )


for _suffix in ("", "-journal", "-wal", "-shm", ".lock", ".1.spill"):

    @hostile(f"a symlink in place of c.db{_suffix}")
    def _symlink(path: Path, suffix: str = _suffix) -> None:
        if suffix:
            cache_of(path, '"good"')
        link = path.with_name(path.name + suffix)
        link.unlink(missing_ok=True)
        link.symlink_to(path.parent.parent / "sentinel" / "file")


@hostile("a symlink to itself")
def _loop(path: Path) -> None:
    path.symlink_to(path)


@hostile("a pipe")
def _pipe(path: Path) -> None:
    os.mkfifo(path)


@hostile("a pipe in place of the lock")
def _pipe_lock(path: Path) -> None:
    cache_of(path, '"good"')
    path.with_name("c.db.lock").unlink()
    os.mkfifo(path.with_name("c.db.lock"))


@hostile("a pipe in place of the journal")
def _pipe_journal(path: Path) -> None:
    cache_of(path, '"good"')
    path.with_name("c.db-journal").unlink(missing_ok=True)
    os.mkfifo(path.with_name("c.db-journal"))


@hostile("a pipe in place of a spill")
def _pipe_spill(path: Path) -> None:
    cache_of(path, '"good"')
    os.mkfifo(path.with_name("c.db.1.spill"))


@hostile("a device")
def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@hostile("a wal of noise")
def _wal(path: Path) -> None:
    altered(path, "PRAGMA journal_mode = WAL;")
    path.with_name("c.db-wal").write_bytes(random.Random(1).randbytes(100_000))


@hostile("python files beside it")
def _modules(path: Path) -> None:
    cache_of(path, '"good"')
    for name in ("json", "sqlite_utils", "conftest", "sitecustomize"):
        path.with_name(f"{name}.py").write_text("open('pwned', 'w')")


class Reader:
    """A process that looks at one folder after another; *without* patches a protection out of it."""

    def __init__(self, without: str = "") -> None:
        environment = {**os.environ, "PYTHONPATH": str(Path(cachesaver.__file__).parent.parent)}
        script = f"from tests.durability import _reader; {without}\n_reader.main()"
        command = f"exec {shlex.quote(sys.executable)} -c {shlex.quote(script)} 3>&1 >/dev/null 2>&1"
        self._process = subprocess.Popen(
            command, shell=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
        )
        self._line()

    def look(self, folder: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self._process.communicate(timeout=30)

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    if sys.platform == "win32":
        pytest.skip("links, pipes and limits are POSIX")
    reader = Reader()
    yield reader
    reader.close()


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(folder.iterdir())}


def harm(maker: Maker, folder: Path, reader: Reader) -> list[str]:
    """What is wrong with how the library met the folder that *maker* makes."""
    (folder / "sentinel").mkdir()
    (folder / "sentinel" / "file").write_text("mine")
    (folder / "cache").mkdir(mode=0o700)
    maker(folder / "cache" / "c.db")
    before = state(folder / "sentinel")
    found = reader.look(folder / "cache")
    wrong = [f"{event} was seen" for event in found.get("seen", ())]
    wrong += [f"came out: {line}" for line in found["outcome"] if not re.match(r"answer|Cache[A-Z]\w+$", line)]
    if state(folder / "sentinel") != before:
        wrong.append("another file was changed")
    if found.get("seconds", 0) > SECONDS or found.get("megabytes", 0) > MEGABYTES:
        wrong.append(f"it took {found['seconds']:.1f} s and {found['megabytes']:.0f} MB")
    if set(os.listdir(folder)) > {"sentinel", "cache", "new.db", "new.db-journal", "new.db.lock"}:
        wrong.append(f"there is {os.listdir(folder)}")
    return wrong


@pytest.mark.parametrize("name", MAKERS)
def test_it_does_no_harm(name: str, tmp_path: Path, reader: Reader) -> None:
    """D3, D5: whatever lies there, an answer is right or an error is ours; so for verify and salvage."""
    assert harm(MAKERS[name], tmp_path, reader) == []


WITHOUT = {
    "a journal that deletes files": "from cachesaver import _opening; _opening.refuse_super_journal = lambda _: None",
    "a view in place of prompts": (
        "from cachesaver import _opening; _opening.check_schema = lambda *_: True; _reader.PATIENCE = 3"
    ),
    "an answer of 150 megabytes": "from cachesaver import _opening; _opening.limit = lambda connection: None",
    "positions that do not exist": (
        "import resource; from cachesaver import _reads; _reads.MOST_HOLES = 2**63; _reader.PATIENCE = 3;"
        " resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))"
    ),
    "two hundred thousand views": (
        "from cachesaver import _opening; _opening._SCHEMA_STEPS = 2**30; _reader.PATIENCE = 4"
    ),
    "noise 0": "from cachesaver import _opening; _opening.check_schema = lambda *_: exec('1') is None",
    "a symlink in place of c.db.lock": "import os; from cachesaver import _lock; os.O_NOFOLLOW = 0",
}


@pytest.mark.parametrize("name", WITHOUT)
def test_control_without_its_protection_it_does_harm(name: str, tmp_path: Path) -> None:
    """D3, D5: code that runs, a file that is lost, time and memory without end are all noticed."""
    reader = Reader(WITHOUT[name])
    try:
        assert harm(MAKERS[name], tmp_path, reader) != []
    finally:
        reader.close()


def test_there_are_sixty_of_them() -> None:
    assert len(MAKERS) >= 60


def test_the_source_knows_no_way_to_run_data() -> None:
    """D3: no pickle, no eval, no extensions."""
    way = re.compile(
        r"\b(pickle|marshal|shelve|yaml|dill|eval|exec|load_extension|enable_load_extension)\b *[(.]|"
        r"import (pickle|marshal|shelve|yaml|dill)"
    )
    for path in Path(cachesaver.__file__).parent.rglob("*.py"):
        assert way.findall(path.read_text(encoding="utf-8")) == [], path
