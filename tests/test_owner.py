"""Reads are done in the thread that asks while nobody need be waited for, and by the owner of the file otherwise."""

from __future__ import annotations

import signal
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from threading import Event, get_ident
from typing import Any

import pytest

from cachesaver import Cache, CacheBusy, CacheError, CacheUnavailable, _opening, _owner
from cachesaver._owner import Owner
from cachesaver._records import Query

from .durability._sales import bought

SOON = 10.0  #: seconds in which what is to come has come
ASKED = bought("p", 0, "a")
QUERY = Query({ASKED.key: 0})
needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")


@pytest.fixture(autouse=True)
def place_of_reads() -> None:
    """What this module is about; see the one of all others."""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    owner = Owner(tmp_path / "cache.db")
    owner.submit(lambda store: store.commit([ASKED], [])).result(SOON)
    yield owner
    owner.close()


def where(_: object) -> int:
    return get_ident()


def loaded(owner: Owner) -> Future[Any]:
    return owner.look(lambda store: store.load(QUERY).stocks[ASKED.key].positions)


def test_a_read_is_done_by_who_asks(owner: Owner) -> None:
    """At once: the future is done when it is returned."""
    reading = owner.look(where)
    assert reading.done()
    assert reading.result() == get_ident()
    assert owner.submit(where).result(SOON) != get_ident()
    assert loaded(owner).result(0) == [0]


def test_a_read_sees_what_was_submitted_before_it(owner: Owner) -> None:
    """D2: it does not overtake."""
    go = Event()
    owner.submit(lambda _: go.wait(SOON))
    committed = owner.submit(lambda store: store.commit([bought("p", 1, "b")], []))
    reading, place = loaded(owner), owner.look(where)
    assert not reading.done()
    go.set()
    assert reading.result(SOON) == [0, 1]
    assert committed.done()
    assert place.result(SOON) != get_ident()
    assert owner.look(where).result(SOON) == get_ident()


def test_what_was_cancelled_is_not_waited_for(owner: Owner) -> None:
    go = Event()
    first = owner.submit(lambda _: go.wait(SOON))
    assert owner.submit(where).cancel()
    go.set()
    first.result(SOON)
    owner.submit(where).result(SOON)
    assert owner.look(where).result(SOON) == get_ident()


@needs_posix
def test_a_process_that_writes_holds_nobody_up(owner: Owner, tmp_path: Path) -> None:
    """D2: the owner waits for its lock, and the event loop goes on."""
    import fcntl

    with open(tmp_path / "cache.db.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reading = loaded(owner)
        assert not reading.done()
    assert reading.result(SOON) == [0]


def test_a_program_that_keeps_the_file_locked_holds_nobody_up(owner: Owner, tmp_path: Path) -> None:
    """D5: a database browser in the middle of a change."""
    browser = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
    browser.execute("BEGIN EXCLUSIVE")
    reading = loaded(owner)
    assert not reading.done()
    browser.execute("COMMIT")
    browser.close()
    assert reading.result(SOON) == [0]


def test_the_owner_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D5: with all its patience, even for a read that nobody has waited for."""
    monkeypatch.setattr(_opening, "_BUSY_SECONDS", 0.05)
    with Cache(tmp_path) as cache:
        browser = sqlite3.connect(cache.path, isolation_level=None)
        browser.execute("BEGIN EXCLUSIVE")
        with pytest.raises(CacheBusy, match="then retry"):
            cache.load(QUERY).result(SOON)
        browser.execute("DROP TABLE assignments")
        browser.execute("COMMIT")
        browser.close()
        with pytest.raises(CacheError, match="no such table"):
            cache.load(Query({}, {("default", ASKED.key)})).result(SOON)
    with pytest.raises(CacheUnavailable, match="not open"):
        cache.load(QUERY)


def test_a_slow_disk(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up the loop more and more seldom, until hardly ever."""
    monkeypatch.setattr(_owner, "QUICK", -1.0)
    assert [left_to_the_thread(owner) for _ in range(11)] == [0, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_a_disk_that_was_slow_once(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forgiven soon."""
    assert left_to_the_thread(owner) == 0
    for _ in range(3):
        with monkeypatch.context() as slow:
            slow.setattr(_owner, "QUICK", -1.0)
            assert owner.look(where).result(SOON) == get_ident()
        assert [left_to_the_thread(owner) for _ in range(4)] == [2, 0, 0, 0]


def left_to_the_thread(owner: Owner) -> int:
    """How many reads are, until one is done here again."""
    left = 0
    while owner.look(where).result(SOON) != get_ident():
        left += 1
    return left


def test_ctrl_c_leaves_no_lock_behind(owner: Owner) -> None:
    """D5: it is raised when the read is done, whole."""

    def struck(work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def strike(store: Any) -> Any:
            with store.reading():
                signal.raise_signal(signal.SIGINT)
                return work(store)

        return strike

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            owner.look(struck(where))
    finally:
        signal.signal(signal.SIGINT, before)
    assert owner.submit(lambda store: store.commit([bought("p", 1, "b")], [])).result(SOON)
    assert loaded(owner).result(0) == [0, 1]


def test_closed_meanwhile(owner: Owner) -> None:
    owner.close()
    with pytest.raises(CacheUnavailable, match="just closed"):
        owner.look(where)
