"""The cache file: real files, real processes, real damage."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

import cachesaver
from cachesaver import (
    Cache,
    CacheBusy,
    CacheCorrupt,
    CacheError,
    CacheFull,
    CacheMoved,
    CacheUnavailable,
    _lock,
    _opening,
)
from cachesaver._records import Answer, Bought, Drawn, KnownPrompt, Placed, Query, Record, Rejected, Usage

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="flock, fork, limits and modes are POSIX")


def key(name: str) -> bytes:
    return sha256(name.encode()).digest()


def answer(text: str) -> Answer:
    return Answer(f'"{text}"', 1.5, Usage(10, 20))


def bought(name: str, position: int, text: str) -> Bought:
    return Bought(key(name), "model", f'"{name}"', position, answer(text))


def stock(cache: Cache, name: str) -> dict[int, Answer | CacheCorrupt]:
    """All the samples of a prompt, bodies included."""
    positions = cache.load(Query({key(name): 0})).result().stocks[key(name)].positions
    found = cache.read([(key(name), position) for position in positions]).result()
    return {position: found[key(name), position] for position in positions}


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A Python process of its own that has this module's vocabulary."""
    head = """
    import os, sys
    from hashlib import sha256
    from cachesaver import *
    from cachesaver._records import *
    def key(name): return sha256(name.encode()).digest()
    def bought(name, position, text):
        return Bought(key(name), "model", f'"{name}"', position, Answer(f'"{text}"', 1.5, Usage(10, 20)))
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # or communicate() would not see what readline() has read ahead
        env={**os.environ, "PYTHONPATH": str(Path(cachesaver.__file__).parent.parent)},
    )


def run(script: str, *arguments: object) -> list[str]:
    """The lines that such a process printed; it must end well."""
    process = start(script, *arguments)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    return output.decode().splitlines()


class TestOpening:
    @needs_posix
    def test_new_files_are_readable_by_their_owner_only(self, tmp_path: Path) -> None:
        """D4: whatever the umask."""
        before = os.umask(0)
        try:
            with Cache(tmp_path / "cache") as cache:
                cache.commit([bought("p", 0, "a")], []).result()
        finally:
            os.umask(before)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in cache.path.parent.iterdir()}
        assert modes == {"cache.db": 0o600, "cache.db.lock": 0o600, "cache.db-journal": 0o600}
        assert stat.S_IMODE(cache.path.parent.stat().st_mode) == 0o700

    def test_a_path_ending_in_db_is_the_file_itself(self, tmp_path: Path) -> None:
        with Cache(tmp_path / "new" / "mine.db") as cache:
            assert cache.path == tmp_path / "new" / "mine.db"
            assert cache.path.is_file()

    def test_it_can_be_closed_twice_and_opened_again(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path)
        with cache:
            cache.commit([bought("p", 0, "a")], []).result()
        cache.close()
        with cache:
            assert stock(cache, "p") == {0: answer("a")}

    def test_unopened_it_says_how_to_open_it(self, tmp_path: Path) -> None:
        with pytest.raises(CacheUnavailable, match="with Cache"):
            Cache(tmp_path).known_prompts(1)
        assert list(tmp_path.iterdir()) == []

    def test_it_is_opened_once_and_shared(self, cache: Cache) -> None:
        with pytest.raises(CacheError, match="share it"):
            cache.__enter__()
        assert cache.known_prompts(1).result() == []

    def test_repr(self, tmp_path: Path) -> None:
        cache = Cache(tmp_path / "c.db")
        assert repr(cache) == f"<Cache {str(tmp_path / 'c.db')!r} closed>"
        with cache:
            assert repr(cache).endswith(" open>")

    def test_an_empty_path_is_refused(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            Cache("")

    def test_closing_waits_for_what_was_submitted_and_ends_its_thread(self, tmp_path: Path) -> None:
        before = threading.active_count()
        with Cache(tmp_path) as cache:
            futures = [cache.commit([bought("p", n, f"a{n}")], []) for n in range(20)]
        assert all(future.done() for future in futures)
        assert threading.active_count() == before

    @needs_posix
    def test_a_forked_child_is_refused_and_the_parent_unharmed(self, tmp_path: Path) -> None:
        """D2: a connection must not be used on both sides of a fork."""
        script = """
        with Cache(sys.argv[1]) as cache:
            if child := os.fork():
                os.waitpid(child, 0)
                cache.commit([bought("p", 0, "a")], []).result()
                print("parent", len(cache.known_prompts(9).result()))
            else:
                try:
                    cache.known_prompts(1)
                except CacheUnavailable as error:
                    print("fork" in str(error))
                cache.close()
                sys.stdout.flush()
                os._exit(0)
        """
        assert run(script, tmp_path) == ["True", "parent 1"]

    def test_symlinks_to_one_file_share_one_lock(self, cache: Cache, tmp_path: Path) -> None:
        """D2: a lock per spelling of the path would be no lock."""
        (tmp_path / "other.db").symlink_to(cache.path)
        with Cache(tmp_path / "other.db") as other:
            other.commit([bought("p", 0, "a")], []).result()
        assert stock(cache, "p") == {0: answer("a")}
        assert not (tmp_path / "other.db.lock").exists()


class TestSamples:
    def test_what_was_committed_is_loaded(self, cache: Cache) -> None:
        record = Record("run", key("p"), "id", 0, 1)
        placed = cache.commit([bought("p", 0, "a"), bought("p", 1, "b")], [record]).result()
        assert placed == [Placed(0, None), Placed(1, None)]
        asked = Query(
            {key("p"): 0, key("q"): 0},
            [("run", key("p")), ("other", key("p"))],
            [(key("p"), "id", 0), (key("p"), "id", 1)],
        )
        loaded = cache.load(asked).result()
        assert loaded.stocks[key("p")].answers == {0: answer("a"), 1: answer("b")}
        assert loaded.stocks[key("q")].positions == []
        assert loaded.draws == {("run", key("p")): [Drawn("id", 0, 1)], ("other", key("p")): []}
        assert loaded.labels == {(key("p"), "id", 0): 1}

    def test_an_answer_without_usage(self, cache: Cache) -> None:
        plain = Answer('{"é": "\\u0000\x00"}', 0.0, None)
        cache.commit([Bought(key("p"), "m", "1", 0, plain)], []).result()
        assert stock(cache, "p") == {0: plain}

    def test_all_positions_are_loaded_and_the_first_eight_answers(self, cache: Cache) -> None:
        cache.commit([bought("p", n, f"a{n}") for n in range(20)], []).result()
        loaded = cache.load(Query({key("p"): 0})).result().stocks[key("p")]
        assert loaded.positions == list(range(20))
        assert list(loaded.answers) == list(range(8))

    def test_holes_stay_holes(self, cache: Cache) -> None:
        cache.commit([bought("p", 5, "f"), bought("p", 2, "c")], []).result()
        assert stock(cache, "p") == {2: answer("c"), 5: answer("f")}
        assert cache.read([(key("p"), 3)]).result() == {}

    def test_a_taken_position_is_never_overwritten(self, cache: Cache) -> None:
        """D2: the first to commit has it, the other sample is kept behind all others."""
        cache.commit([bought("p", 0, "first"), bought("p", 7, "far")], []).result()
        placed = cache.commit([bought("p", 0, "second")], []).result()
        assert placed == [Placed(8, answer("first"))]
        assert stock(cache, "p") == {0: answer("first"), 7: answer("far"), 8: answer("second")}

    def test_the_latest_assignment_counts(self, cache: Cache) -> None:
        samples = [bought("p", 0, "a"), bought("p", 1, "b")]
        names = ("id", None)
        cache.commit(samples, [Record("run", key("p"), name, 0, 0) for name in names]).result()
        cache.commit([], [Record("run", key("p"), name, 0, 1) for name in names]).result()
        loaded = cache.load(Query({}, [("run", key("p"))])).result()
        assert loaded.draws["run", key("p")] == [Drawn(name, 0, at) for at in (0, 1) for name in names]

    def test_namespaces_that_have_drawn_nothing(self, cache: Cache) -> None:
        """Those with a record of any prompt are not told of, nor those whose samples were all rejected."""
        samples = [bought("p", 0, "a"), bought("q", 0, "b")]
        cache.commit(samples, [Record("run", key("p"), None, 0, 0), Record("strict", key("q"), None, 0, 0)]).result()
        cache.settle([], [], [Rejected(key("q"), 0, "bad")], sole=False).result()
        names = [(name, key(prompt)) for name in ("run", "strict", "new") for prompt in ("p", "q")]
        assert cache.load(Query({}, names)).result().unused == {"new"}
        assert cache.load(Query({}, [("run", key("q")), ("strict", key("q"))])).result().unused == set()

    def test_a_label_is_found_at_its_lowest_position(self, cache: Cache) -> None:
        samples = [bought("p", n, f"a{n}") for n in range(3)]
        cache.commit(samples, [Record(f"run{n}", key("p"), "id", 0, n) for n in (2, 1)]).result()
        label = (key("p"), "id", 0)
        assert cache.load(Query({}, labels=[label])).result().labels == {label: 1}

    def test_known_prompts_come_newest_first(self, cache: Cache) -> None:
        cache.commit([bought("old", 0, "a"), bought("old", 1, "b"), bought("new", 0, "c")], []).result()
        assert cache.known_prompts(9).result() == [KnownPrompt("model", '"new"', 1), KnownPrompt("model", '"old"', 2)]
        assert cache.known_prompts(1).result() == [KnownPrompt("model", '"new"', 1)]

    @pytest.mark.parametrize(
        "bad", [bought("bad", -1, "a"), bought("bad", 2**70, "a"), bought("bad", 0, "\ud800")], ids=lambda b: b.position
    )
    def test_one_bad_row_fails_alone(self, cache: Cache, bad: Bought) -> None:
        """D5: its neighbours are kept, and nothing of it is."""
        records = [Record("run", bad.key, None, 0, bad.position), Record("run", key("p"), None, 0, 0)]
        first, failed, last = cache.commit([bought("p", 0, "a"), bad, bought("p", 1, "b")], records).result()
        assert (first, last) == (Placed(0, None), Placed(1, None))
        assert isinstance(failed, CacheError)
        assert cache.known_prompts(9).result() == [KnownPrompt("model", '"p"', 2)]

    def test_an_assignment_without_its_sample_is_our_bug(self, cache: Cache) -> None:
        """D2: the rest is kept, and trying again doubles nothing."""
        sale, stray = bought("p", 0, "a"), Record("run", key("p"), None, 0, 4)
        with pytest.raises(CacheError, match="bug"):
            cache.commit([sale], [stray]).result()
        assert cache.commit([sale], []).result() == [Placed(0, None)]
        assert stock(cache, "p") == {0: answer("a")}


class TestSharing:
    def test_two_processes_buy_the_same_positions(self, tmp_path: Path) -> None:
        """D2: nothing lost, nothing overwritten, everybody sees the same at every position."""
        script = """
        with Cache(sys.argv[1]) as cache:
            for n in range(50):
                [placed] = cache.commit([bought("p", n, f"{sys.argv[2]}{n}")], []).result()
                seen = placed.stored.body if placed.stored else f'"{sys.argv[2]}{n}"'
                print(n, seen, placed.position)
        """
        writers = [start(script, tmp_path, name) for name in "abc"]
        printed = [writer.communicate(timeout=60) for writer in writers]
        assert [errors for _, errors in printed] == [b"", b"", b""]
        with Cache(tmp_path) as cache:
            kept = stock(cache, "p")
        assert sorted(kept) == list(range(150))
        bodies = {position: sample.body for position, sample in kept.items() if isinstance(sample, Answer)}
        assert sorted(bodies.values()) == sorted(f'"{name}{n}"' for name in "abc" for n in range(50))
        for name, (output, _) in zip("abc", printed, strict=True):
            for line in output.decode().splitlines():
                wanted, seen, position = line.split()
                assert seen == bodies[int(wanted)]
                assert bodies[int(position)] == f'"{name}{wanted}"'

    def test_threads_share_one_cache(self, cache: Cache) -> None:
        """D2: inside one process too."""
        places: list[int] = []

        def buy(name: int) -> None:
            for n in range(20):
                [placed] = cache.commit([bought("p", n, f"{name}-{n}")], []).result()
                assert isinstance(placed, Placed)
                places.append(placed.position)

        threads = [threading.Thread(target=buy, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(places) == list(range(80))

    @needs_posix
    @pytest.mark.parametrize("writing", [True, False])
    def test_a_transaction_waits_for_the_file_lock(self, cache: Cache, writing: bool) -> None:
        """D2: SQLite's own waiting starves and fails, so everybody queues at the lock."""
        import fcntl

        with open(f"{cache.path}.lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            future = cache.commit([], []) if writing else cache.known_prompts(1)
            time.sleep(0.1)
            assert not future.done()
        future.result(timeout=10)

    @needs_posix
    def test_a_process_that_keeps_the_lock(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """D2, D5: it is named; nobody waits for ever, nobody gets the lock in vain, and no thread is left."""
        monkeypatch.setattr(_lock, "PATIENCE", 0.2)
        script = """
        from cachesaver._lock import FileLock
        from pathlib import Path
        with FileLock(Path(sys.argv[1])).exclusive():
            print("locked", flush=True)
            sys.stdin.read()
        """
        with Cache(tmp_path) as cache:
            holder = start(script, f"{cache.path}.lock")
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"locked\n"
            for _ in range(2):
                with pytest.raises(CacheBusy, match=f"locked for 0 seconds by process {holder.pid}"):
                    cache.commit([bought("p", 0, "a")], []).result()
            holder.communicate()
            assert cache.commit([bought("p", 0, "a")], []).result() == [Placed(0, None)]
            with Cache(tmp_path) as other:  # what the two waiters were granted late is free again
                other.commit([bought("p", 1, "b")], []).result()
            for thread in threading.enumerate():
                if thread.name == "cachesaver-lock":
                    thread.join(10)
                    assert not thread.is_alive()

    def test_another_program_that_keeps_the_file_locked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """D5: a database browser in the middle of a change."""
        monkeypatch.setattr(_opening, "_BUSY_SECONDS", 0.05)
        with Cache(tmp_path) as cache:
            browser = sqlite3.connect(cache.path, isolation_level=None)
            browser.execute("BEGIN EXCLUSIVE")
            with pytest.raises(CacheBusy, match="then retry"):
                cache.commit([bought("p", 0, "a")], []).result()
            browser.close()
            assert cache.commit([bought("p", 0, "a")], []).result() == [Placed(0, None)]

    @needs_posix
    def test_kill_9_loses_nothing_that_was_acknowledged(self, tmp_path: Path) -> None:
        """D1: five writers, each killed in the middle of its work."""
        said = killed_writers(tmp_path, COMMIT_THEN_SAY)
        assert len(said) >= 5
        assert lost(tmp_path, said) == set()

    @needs_posix
    def test_control_kill_9_loses_what_was_said_too_early(self, tmp_path: Path) -> None:
        """D1: the test above fails when a sample is acknowledged before it is stored."""
        assert any(lost(tmp_path / f"{n}", killed_writers(tmp_path / f"{n}", SAY_THEN_COMMIT)) for n in range(20))


COMMIT_THEN_SAY = """
with Cache(sys.argv[1]) as cache:
    for n in range(10**6):
        [placed] = cache.commit([bought("p", n, f"{sys.argv[2]}-{n}")], []).result()
        print(placed.position, f"{sys.argv[2]}-{n}", flush=True)
"""
SAY_THEN_COMMIT = """
with Cache(sys.argv[1]) as cache:
    for n in range(10**6):
        print(10**4 * int(sys.argv[2]) + n, f"{sys.argv[2]}-{n}", flush=True)
        cache.commit([bought("p", 10**4 * int(sys.argv[2]) + n, f"{sys.argv[2]}-{n}")], []).result()
"""


def killed_writers(folder: Path, script: str) -> dict[int, Answer]:
    """What five writers of *folder* said, each of which was killed in the middle of its work."""
    said: dict[int, Answer] = {}
    for number in range(5):
        process = start(script, folder, number)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(random.random() / 20)
        process.send_signal(signal.SIGKILL)
        output, errors = process.communicate()
        assert errors == b""
        # The last line of a killed process may be torn: only what was said in full counts.
        for line in (first + output).decode().splitlines(keepends=True):
            if line.endswith("\n"):
                position, text = line.split()
                said[int(position)] = answer(text)
    return said


def lost(folder: Path, said: dict[int, Answer]) -> set[int]:
    """The positions at which something else is stored, or nothing."""
    with Cache(folder) as cache:
        kept = stock(cache, "p")
    return {position for position in said if kept.get(position) != said[position]}


class TestDamage:
    def rewrite(self, path: Path, old: bytes, new: bytes) -> None:
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, new))

    @pytest.mark.parametrize("damage", [b"paiD answer", b"paid\xffanswer"], ids=["other text", "no UTF-8"])
    def test_a_damaged_sample_is_neither_given_nor_missing(self, tmp_path: Path, damage: bytes) -> None:
        """D5: its neighbours are as they were."""
        with Cache(tmp_path) as cache:
            cache.commit([bought("p", 0, "good"), bought("p", 1, "paid answer")], []).result()
        self.rewrite(cache.path, b"paid answer", damage)
        with cache:
            loaded = cache.load(Query({key("p"): 0})).result().stocks[key("p")]
            assert loaded.positions == [0, 1]
            assert loaded.answers[0] == answer("good")
            assert isinstance(loaded.answers[1], CacheCorrupt)
            assert "sample 1" in str(loaded.answers[1])
            [found] = cache.read([(key("p"), 1)]).result().values()
            assert isinstance(found, CacheCorrupt)

    def test_a_damaged_prompt_text(self, tmp_path: Path) -> None:
        """D5: an error of ours, not a UnicodeDecodeError."""
        with Cache(tmp_path) as cache:
            cache.commit([bought("question", 0, "a")], []).result()
        self.rewrite(cache.path, b'"question"', b'"quest\xffon"')
        with cache, pytest.raises(CacheCorrupt):
            cache.known_prompts(1).result()

    def test_no_flipped_byte_gives_a_wrong_answer(self, tmp_path: Path) -> None:
        """D5: every sample is right, or absent, or an error of ours."""
        with Cache(tmp_path / "whole.db") as cache:
            cache.commit(
                [bought("p", n, f"answer {n}") for n in range(10)],
                [Record("run", key("p"), f"id{n}", 0, n) for n in range(10)],
            ).result()
        whole, dice = cache.path.read_bytes(), random.Random(20251124)
        everything = Query(
            {key("p"): 0},
            [("run", key("p"))],
            [(key("p"), f"id{n}", 0) for n in range(9)],
        )
        errors = 0
        for number in range(250):
            damaged = bytearray(whole)
            for _ in range(dice.randint(1, 16)):
                damaged[dice.randrange(len(damaged))] ^= 1 << dice.randrange(8)
            path = tmp_path / f"{number}.db"
            path.write_bytes(damaged)
            try:
                with Cache(path) as cache:
                    answers = stock(cache, "p")
                    cache.load(everything).result()
                    cache.known_prompts(9).result()
            except CacheError:
                errors += 1
                continue
            for position, found in answers.items():
                assert isinstance(found, CacheCorrupt) or found == answer(f"answer {position}"), number
        assert errors > 0

    @needs_posix
    @pytest.mark.parametrize("change", ["deleted", "replaced"])
    def test_a_file_that_lost_its_name_takes_no_more_samples(self, tmp_path: Path, change: str) -> None:
        """D1: what was acknowledged is in the file that is at the path."""
        lose_the_name_and_commit(tmp_path, change)


def lose_the_name_and_commit(folder: Path, change: str) -> None:
    """What is committed to a file without its name is refused; when the name is back, it is stored."""
    with Cache(folder / "a.db") as cache, Cache(folder / "b.db") as other:
        cache.commit([bought("p", 0, "a")], []).result()
        cache.path.rename(folder / "elsewhere.db")
        if change == "replaced":
            other.path.rename(cache.path)
        with pytest.raises(CacheMoved, match=r"moved, replaced or deleted|anew"):
            cache.commit([bought("p", 1, "b")], []).result()
        (folder / "elsewhere.db").replace(cache.path)
        assert cache.commit([bought("p", 1, "b")], []).result() == [Placed(1, None)]
        assert stock(cache, "p") == {0: answer("a"), 1: answer("b")}


class TestStrangers:
    """D5: what is not ours stays byte for byte as it was."""

    def refused(self, path: Path, kind: type[CacheError], match: str) -> None:
        before = self.state(path.parent)
        with pytest.raises(kind, match=match) as caught, Cache(path):
            pass
        assert str(path.name) in str(caught.value)
        assert self.state(path.parent) == before

    def state(self, folder: Path) -> dict[str, tuple[bytes, int]]:
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"]
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}

    def made(self, tmp_path: Path) -> Path:
        with Cache(tmp_path / "c.db") as cache:
            cache.commit([bought("p", 0, "a")], []).result()
        return cache.path

    def altered(self, tmp_path: Path, statement: str) -> Path:
        path = self.made(tmp_path)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(statement)
            connection.commit()
        return path

    def test_a_text_file(self, tmp_path: Path) -> None:
        (tmp_path / "notes.db").write_text("my notes\n" * 1000)
        self.refused(tmp_path / "notes.db", CacheCorrupt, "not a database")
        assert [path.name for path in tmp_path.iterdir()] == ["notes.db"]

    def test_a_database_of_something_else(self, tmp_path: Path) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "photos.db")) as connection:
            connection.execute("CREATE TABLE photos (id)")
        self.refused(tmp_path / "photos.db", CacheCorrupt, "something else")
        assert [path.name for path in tmp_path.iterdir()] == ["photos.db"]

    def test_a_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "c.db").mkdir()
        self.refused(tmp_path / "c.db", CacheCorrupt, "not a file")

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("mine")
        with pytest.raises(CacheUnavailable, match="Check the path"), Cache(tmp_path / "cache"):
            pass
        assert (tmp_path / "cache").read_text() == "mine"

    def test_a_newer_version(self, tmp_path: Path) -> None:
        self.refused(self.altered(tmp_path, "PRAGMA user_version = 3"), CacheUnavailable, "[Uu]pgrade")

    @pytest.mark.parametrize(
        "statement",
        [
            "CREATE TABLE more (id)",
            "CREATE TRIGGER sly AFTER INSERT ON samples BEGIN SELECT 1; END",
            "DROP TRIGGER samples_never_delete",
            "DROP INDEX assignments_by_label",
        ],
    )
    def test_another_schema(self, tmp_path: Path, statement: str) -> None:
        """D3: no trigger and no view of a stranger's ever runs."""
        self.refused(self.altered(tmp_path, statement), CacheCorrupt, "other tables")

    def test_a_journal_that_would_delete_files(self, tmp_path: Path) -> None:
        """D3: a hostile folder must not make SQLite delete what it names."""
        path = self.made(tmp_path)
        path.with_name("c.db-journal").write_bytes(b"\0" * 100 + bytes.fromhex("d9d505f920a163d7"))
        self.refused(path, CacheCorrupt, "could destroy")

    def test_a_cache_that_something_emptied(self, tmp_path: Path) -> None:
        path = self.made(tmp_path)
        path.write_bytes(b"")
        self.refused(path, CacheCorrupt, "emptied")

    def test_an_empty_file_is_a_place_for_a_cache(self, tmp_path: Path) -> None:
        (tmp_path / "c.db").touch()
        with Cache(tmp_path / "c.db") as cache:
            assert cache.known_prompts(1).result() == []
        assert sorted(path.name for path in tmp_path.iterdir()) == ["c.db", "c.db.lock"]

    @needs_posix
    def test_a_lock_file_that_points_elsewhere(self, tmp_path: Path) -> None:
        (tmp_path / "c.db.lock").symlink_to(tmp_path / "victim")
        with pytest.raises(CacheUnavailable), Cache(tmp_path / "c.db"):
            pass
        assert not (tmp_path / "victim").exists()

    def test_a_vacuumed_cache_is_still_ours(self, tmp_path: Path) -> None:
        with Cache(self.altered(tmp_path, "VACUUM")) as cache:
            assert stock(cache, "p") == {0: answer("a")}

    def test_a_cache_that_somebody_set_to_wal(self, tmp_path: Path) -> None:
        """D1: it goes back to the journal that a copied file needs nothing beside."""
        with Cache(self.altered(tmp_path, "PRAGMA journal_mode = WAL")) as cache:
            cache.commit([bought("p", 1, "b")], []).result()
            copy = shutil.copy(cache.path, tmp_path / "copy.db")
        with Cache(copy) as cache:
            assert stock(cache, "p") == {0: answer("a"), 1: answer("b")}


@needs_posix
class TestNoSpace:
    def test_a_full_disk(self, tmp_path: Path) -> None:
        """D5: what was kept is read as before, and writing goes on when there is space."""
        script = """
        import resource
        with Cache(sys.argv[1]) as cache:
            cache.commit([bought("p", 0, "a")], []).result()
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            sales = [bought("q", n, "x" * 5000) for n in range(50)]
            try:
                cache.commit(sales, []).result()
            except CacheFull as error:
                print("full", "space" in str(error))
            print(len(cache.known_prompts(9).result()))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(cache.commit(sales, []).result() == [Placed(n, None) for n in range(50)])
        """
        assert run(script, tmp_path) == ["full True", "1", "True"]

    def test_opening_on_a_full_disk(self, tmp_path: Path) -> None:
        """D5: what is stored is read; not even the lock file need grow."""
        script = """
        import resource, sqlite_utils
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        with Cache(sys.argv[1]) as cache:
            place = (key("p"), 0)
            answer = cache.read([place]).result()[place].body
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(answer)
        """
        with Cache(tmp_path) as cache:
            cache.commit([bought("p", 0, "a")], []).result()
        Path(f"{cache.path}.lock").write_bytes(b"")
        assert run(script, tmp_path) == ['"a"']

    def test_no_page_is_left(self, cache: Cache) -> None:
        """D5: SQLITE_FULL itself."""
        assert cache._owner is not None
        limit = cache._owner.submit(lambda store: store._connection.execute("PRAGMA max_page_count = 1"))
        limit.result()
        with pytest.raises(CacheFull, match="Free some space"):
            cache.commit([bought("p", n, "x" * 9000) for n in range(9)], []).result()
        assert cache.known_prompts(1).result() == []

    @pytest.mark.parametrize("folder_mode", [0o555, 0o755])
    @pytest.mark.parametrize("with_lock_file", [True, False])
    def test_a_read_only_cache_serves_hits(self, folder_mode: int, with_lock_file: bool) -> None:
        """D5: and says what to do when something is to be written."""
        script = """
        import sqlite_utils, urllib.parse  # now, for another user may not be allowed to read them
        os.geteuid() or os.setuid(65534)  # nothing is read-only to root
        with Cache(sys.argv[1]) as cache:
            place = (key("p"), 0)
            print(cache.read([place]).result()[place].body)
            try:
                cache.commit([bought("p", 1, "b")], []).result()
            except CacheUnavailable as error:
                print("writable" in str(error))
        """
        folder = Path(tempfile.mkdtemp())  # tmp_path cannot be entered by others
        try:
            with Cache(folder) as cache:
                cache.commit([bought("p", 0, "a")], []).result()
            if not with_lock_file:
                Path(f"{cache.path}.lock").unlink()
            for path in folder.iterdir():
                path.chmod(0o444)
                if os.geteuid() == 0:
                    os.chown(path, 65534, -1)
            folder.chmod(folder_mode)
            assert run(script, folder) == ['"a"', "True"]
        finally:
            folder.chmod(0o700)
            shutil.rmtree(folder)

    def test_a_folder_that_takes_no_file(self) -> None:
        """D5: nowhere to make the cache."""
        script = """
        os.geteuid() or os.setuid(65534)
        try:
            Cache(sys.argv[1]).__enter__()
        except CacheUnavailable as error:
            print("permissions" in str(error))
        """
        folder = Path(tempfile.mkdtemp())
        folder.chmod(0o555)
        assert run(script, folder) == ["True"]
        assert list(folder.iterdir()) == []
        folder.rmdir()


class TestForPeople:
    def test_the_file_explains_itself(self, cache: Cache) -> None:
        """D6: the prompt, the samples in order, who used them, when, what they cost."""
        records = [Record("puzzle-17", key("p"), "step-1", 0, 0), Record("puzzle-18", key("p"), None, 0, 0)]
        cache.commit([bought("p", 1, "b"), bought("p", 0, "a")], records).result()
        with contextlib.closing(sqlite3.connect(cache.path)) as connection:
            rows = connection.execute(
                "SELECT scope, prompt, position, answer, namespace, request_id, input_tokens FROM overview"
            ).fetchall()
            times = connection.execute("SELECT datetime(bought_at), datetime(delivered_at) FROM overview").fetchone()
        assert rows == [
            ("model", '"p"', 0, '"a"', "puzzle-17", "step-1", 10),
            ("model", '"p"', 0, '"a"', "puzzle-18", None, 10),
            ("model", '"p"', 1, '"b"', None, None, 10),
        ]
        assert None not in times

    @pytest.mark.parametrize("table", ["prompts", "samples", "namespaces", "assignments", "spills"])
    @pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET id = id + 1"])
    def test_it_only_grows(self, cache: Cache, table: str, statement: str) -> None:
        """D2: a position once seen never changes, not even by hand."""
        cache.commit([bought("p", 0, "a")], [Record("run", key("p"), None, 0, 0)]).result()
        with contextlib.closing(sqlite3.connect(cache.path)) as connection:
            connection.execute("INSERT INTO spills (digest, taken_in_at) VALUES ('d', 'now')")
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                connection.execute(statement.format(table))
