"""What a program that runs again will ask next is read ahead, and says nothing but what the file would say."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cachesaver import CacheCorrupt, _ahead
from cachesaver._opening import open_store
from cachesaver._records import Answer, Bought, Loaded, Query, Record, Rejected
from cachesaver._store import Store

from .durability._sales import bought, key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="only a lock file tells whether somebody has written")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_store(path)
    yield store
    store.close()


@pytest.fixture
def other(path: Path, store: Store) -> Iterator[Store]:
    """That of another process, which may write at any time."""
    other = open_store(path)
    yield other
    other.close()


def fill(store: Store, names: list[str], samples: int = 1) -> None:
    sales = [bought(name, position, f"{name} {position}") for name in names for position in range(samples)]
    store.commit(sales, [Record("run", sale.key, "id", 0, sale.position) for sale in sales])


def asking(name: str, namespace: str = "run") -> Query:
    return Query({key(name): 0}, {(namespace, key(name))})


def load(store: Store, name: str, namespace: str = "run") -> Loaded:
    """As the library does."""
    return store.at_hand(asking(name, namespace)) or store.load(asking(name, namespace))


def was_ahead(store: Store, name: str) -> bool:
    """Whether it is answered without a look into the file."""
    return store.at_hand(asking(name)) is not None


NAMES = [f"p{number}" for number in range(1, 41)]


def test_prompts_behind_one_that_was_due_are_read(store: Store, other: Store) -> None:
    """As if they had been asked for, and more of them each time."""
    fill(store, NAMES, 2)
    for name in NAMES:
        assert load(store, name) == other.load(asking(name))
    fresh = [was_ahead(store, name) for name in NAMES]
    assert fresh.count(True) > 8


def test_how_many_are_read(store: Store) -> None:
    fill(store, NAMES)
    ahead: list[int] = []
    for name in NAMES:
        if not was_ahead(store, name):
            load(store, name)
            ahead.append(sum(was_ahead(store, other) for other in NAMES))
    assert ahead == [8, 16, 13]


def test_in_another_order_none_are(store: Store) -> None:
    fill(store, NAMES)
    for name in NAMES[10:][::-1]:
        load(store, name)
        assert not any(was_ahead(store, other) for other in NAMES)


def test_one_that_comes_late_or_early_changes_little(store: Store) -> None:
    """Tasks that ask side by side do not come in the order in which their answers were stored."""
    fill(store, NAMES)
    for name in ("p1", "p11", "p10"):
        load(store, name)
    assert was_ahead(store, "p12")


@pytest.mark.parametrize("many", ["samples", "draws"])
def test_of_prompts_with_many_samples_or_draws_fewer_are_read(store: Store, other: Store, many: str) -> None:
    """Each whole, or not at all."""
    fill(store, ["p1", "p2", "p3"])
    store.commit([bought("p3", n, f"{n}") for n in range(1, 100 if many == "samples" else 1)], [])
    store.commit([], [Record("run", key("p3"), None, n, 0) for n in range(0 if many == "samples" else 100)])
    assert load(store, "p1") == other.load(asking("p1"))
    assert (was_ahead(store, "p2"), was_ahead(store, "p3")) == (True, False)
    assert load(store, "p3") == other.load(asking("p3"))


def test_long_answers_are_not(store: Store) -> None:
    """The event loop would be held up."""
    long = Answer('"' + "x" * _ahead.BYTES + '"', 0.0, None)
    fill(store, ["p1", "p2"])
    store.commit([Bought(key("p3"), "model", '"p3"', 0, long)], [])
    load(store, "p1")
    assert (was_ahead(store, "p2"), was_ahead(store, "p3")) == (True, False)


def test_what_another_process_does_is_seen_at_once(store: Store, other: Store) -> None:
    """S10, D2: what was read ahead is forgotten when anybody else writes."""
    fill(store, NAMES)
    load(store, "p1")
    assert was_ahead(store, "p2")
    other.commit([bought("p2", 1, "new")], [])
    assert load(store, "p2").stocks[key("p2")].positions == [0, 1]
    load(store, "p3")
    other.settle([], [], [Rejected(key("p4"), 0, "bad")], sole=False)
    assert load(store, "p4").stocks[key("p4")].rejected == {0}


def test_what_this_process_writes_is_seen_at_once(store: Store, other: Store) -> None:
    """And leaves what is read ahead of other prompts, unless another process wrote before it."""
    fill(store, NAMES)
    load(store, "p1")
    store.commit([bought("p2", 1, "new")], [Record("run", key("p3"), None, 0, 0)])
    assert [was_ahead(store, name) for name in ("p2", "p3", "p4")] == [False, False, True]
    assert load(store, "p2").stocks[key("p2")].positions == [0, 1]
    store.settle([], [], [Rejected(key("p4"), 0, "bad")], sole=False)
    assert load(store, "p4").stocks[key("p4")].rejected == {0}
    load(store, "p5")
    other.commit([bought("p7", 1, "new")], [])
    store.commit([bought("p6", 1, "new")], [])
    assert not was_ahead(store, "p7")
    assert load(store, "p7").stocks[key("p7")].positions == [0, 1]


@pytest.mark.parametrize("damage", ["a sample", "an assignment", "a page"])
def test_damage_behind_is_for_those_who_ask_for_it(path: Path, damage: str) -> None:
    """D5: whoever asks for what is whole gets it."""
    store = open_store(path)
    for name in NAMES:
        store.commit([bought(name, 0, f"{name} {'x' * 3000}")], [Record("run", key(name), f"id of {name}.", 0, 0)])
    store.close()
    whole = path.read_bytes()
    old = b'"p9 xxx' if damage != "an assignment" else b"id of p9."
    assert old in whole
    start = whole.index(old)
    new = bytes([old[0] ^ 1]) + old[1:]
    if damage == "a page":
        start -= start % 4096
        new = b"\xff" * 4096
    path.write_bytes(whole[:start] + new + whole[start + len(new) :])
    store = open_store(path)
    for name in NAMES[:8]:
        found = load(store, name)
        assert isinstance(found.stocks[key(name)].answers[0], Answer)
        assert len(found.draws["run", key(name)]) == 1
    try:
        found = load(store, "p9")
    except CacheCorrupt:
        pass
    else:
        assert damage == "a sample"
        assert isinstance(found.stocks[key("p9")].answers[0], CacheCorrupt)
    store.close()


steps = st.one_of(
    st.tuples(st.just("load"), st.integers(0, 1), st.integers(0, 11), st.sampled_from(["run", "new"])),
    st.tuples(st.just("buy"), st.integers(0, 1), st.integers(0, 11), st.just("")),
    st.tuples(st.just("draw"), st.integers(0, 1), st.integers(0, 11), st.sampled_from(["run", "new"])),
    st.tuples(st.just("reject"), st.integers(0, 1), st.integers(0, 11), st.just("")),
    st.tuples(st.just("replay"), st.integers(0, 1), st.integers(0, 11), st.sampled_from(["run", "new"])),
)


@given(st.lists(steps, max_size=30))
@settings(max_examples=60, deadline=None)
def test_it_says_what_the_file_says(tmp_path_factory: pytest.TempPathFactory, program: list[Any]) -> None:
    """Two processes load, buy, draw, reject and replay in any order; a third, which reads nothing ahead, agrees."""
    path = tmp_path_factory.mktemp("ahead") / "cache.db"
    stores, judge = [open_store(path), open_store(path)], open_store(path)
    names, next_position = NAMES[:12], dict.fromkeys(NAMES[:12], 2)
    fill(stores[0], names, 2)
    dice = random.Random(len(program))
    for what, who, number, namespace in program:
        name, store = names[number], stores[who]
        match what:
            case "load":
                asked = [name]
            case "replay":
                asked = names[number:]
            case "buy":
                store.commit([bought(name, next_position[name], f"{dice.random()}")], [])
                next_position[name] += 1
                asked = []
            case "draw":
                store.commit([], [Record(namespace, key(name), "id", dice.randrange(9), 0)])
                asked = []
            case _:
                store.settle([], [], [Rejected(key(name), 0, "bad")], sole=False)
                asked = []
        for one in asked:
            expected, found = judge.load(asking(one, namespace)), load(store, one, namespace)
            assert (found.stocks, found.draws) == (expected.stocks, expected.draws)
    for store in (*stores, judge):
        store.close()
