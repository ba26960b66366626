"""What the lock and the savepoint are there for."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest

from cachesaver import Cache, CacheBusy, CacheError, _opening, _writes
from cachesaver._lock import FileLock
from cachesaver._records import Bought, KnownPrompt, Placed

from ._sales import bought


def busy(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many commits fail when four caches share a file and SQLite does not wait."""
    monkeypatch.setattr(_opening, "_BUSY_SECONDS", 0.0)
    failed: list[CacheBusy] = []

    def write(cache: Cache, name: int) -> None:
        for number in range(25):
            try:
                cache.commit([bought("p", number, f"{name}-{number}")], []).result()
            except CacheBusy as error:
                failed.append(error)

    caches = [Cache(path) for _ in range(4)]
    for cache in caches:
        cache.__enter__()
    threads = [threading.Thread(target=write, args=pair) for pair in zip(caches, range(4), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for cache in caches:
        cache.close()
    return len(failed)


def test_nobody_finds_the_file_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: all wait at the lock beside the file, so SQLite's own waiting is not needed."""
    assert busy(tmp_path, monkeypatch) == 0


def test_control_without_the_lock_the_file_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D2: the test above fails when the lock is removed."""

    @contextmanager
    def no_lock(lock: FileLock) -> Generator[None]:
        yield

    monkeypatch.setattr(FileLock, "exclusive", no_lock)
    monkeypatch.setattr(FileLock, "shared", no_lock)
    assert busy(tmp_path, monkeypatch) > 0


def with_one_bad_row(path: Path) -> tuple[list[Placed | CacheError], list[KnownPrompt]]:
    """What becomes of a group whose second answer cannot be stored, and the prompts there are afterwards."""
    with Cache(path) as cache:
        placed = cache.commit([bought("p", 0, "a"), bought("bad", 0, "\ud800"), bought("p", 1, "b")], []).result()
        return placed, cache.known_prompts(9).result()


def test_a_bad_row_leaves_nothing_behind(tmp_path: Path) -> None:
    """D5: not even its prompt; its neighbours are kept."""
    (first, bad, last), prompts = with_one_bad_row(tmp_path)
    assert (first, last) == (Placed(0, None), Placed(1, None))
    assert isinstance(bad, CacheError)
    assert prompts == [KnownPrompt("model", '"p"', 2)]


def test_control_without_the_savepoint_a_prompt_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: the test above fails when the savepoint is removed."""

    def keep(connection: Connection, one: Bought, now: str) -> Placed | CacheError:
        try:
            return _writes._placed(connection, one, now)
        except _writes._ROW_ERRORS as error:
            return CacheError(str(error))

    monkeypatch.setattr(_writes, "keep", keep)
    _, prompts = with_one_bad_row(tmp_path)
    assert prompts != [KnownPrompt("model", '"p"', 2)]
