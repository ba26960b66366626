"""The n-th write or sync fails, for n = 1, 2, 3, … until a run goes through."""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from cachesaver import CacheError
from cachesaver._records import Answer, Bought
from cachesaver._store import Store

from ._disk import Disk, apsw, set_pragmas
from ._sales import Group, Shop, bought, figure, problems

FULL = {"grow"}  # a full disk still takes what overwrites
WRITES = {"grow", "write"}


@dataclass
class Failing:
    """The *at*-th of these calls fails; if it is *lasting*, all later ones too."""

    calls: Collection[str]
    code: int
    at: int
    lasting: bool
    seen: int = 0

    def __call__(self, call: str) -> int | None:
        self.seen += call in self.calls
        struck = self.struck if self.lasting else self.seen == self.at
        return self.code if struck and call in self.calls else None

    @property
    def struck(self) -> bool:
        return self.seen >= self.at


def well(call: str) -> None:
    """No fault."""


def read(store: Store, groups: Sequence[Group]) -> bool:
    """Whether all these samples are found; a wrong answer is an error."""
    sales = [one for group in groups for one in group.sales]
    try:
        found = store.read((one.key, one.position) for one in sales)
    except CacheError:
        return False
    assert found == {(one.key, one.position): one.answer for one in sales}
    return True


def survive(folder: Path, groups: Sequence[Group], fault: Failing) -> bool:
    """Store *groups* on a disk with a fault, and mend the disk when it shows; whether it did."""
    folder.mkdir()
    path, disk = folder / "cache.db", Disk()
    disk.fault = fault
    try:
        store = disk.open(path)
    except CacheError:
        disk.fault = well
        store = disk.open(path)
    for number, group in enumerate(groups):
        try:
            placed = store.commit(group.sales, group.records)
        except CacheError:
            before = groups[:number]
            can_read = read(store, before)
            assert can_read or (fault.lasting and fault.calls is not FULL)
            disk.fault = well
            shutil.copytree(folder, folder / "killed")  # the process might have died here
            assert problems(folder / "killed" / path.name, before, groups) == []
            assert read(store, before)
            placed = store.commit(group.sales, group.records)
        assert placed == group.wanted
    store.close()
    disk.unregister()
    assert problems(path, groups, groups) == []
    return fault.struck


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "until mended"])
@pytest.mark.parametrize(
    ("calls", "code", "fewest"),
    [
        (FULL, apsw.SQLITE_FULL, 30),
        (WRITES, apsw.SQLITE_IOERR_WRITE, 50),
        ({"sync"}, apsw.SQLITE_IOERR_FSYNC, 10),
        ({"truncate"}, apsw.SQLITE_IOERR_TRUNCATE, 1),
    ],
    ids=["full", "write", "sync", "truncate"],
)
def test_every_failing_call(
    tmp_path: Path,
    dice: random.Random,
    monkeypatch: pytest.MonkeyPatch,
    calls: Collection[str],
    code: int,
    fewest: int,
    lasting: bool,
) -> None:
    """D1, D5: an error of ours, nothing lost, and a retry on the same store doubles nothing."""
    set_pragmas(monkeypatch, journal_size_limit="4096")  # so that journals grow and are cut
    shop = Shop(dice)
    groups = [shop.group() for _ in range(figure(2, 6))]
    for at in itertools.count(1):
        if not survive(tmp_path / str(at), groups, Failing(calls, code, at, lasting)):
            break
        shutil.rmtree(tmp_path / str(at))
    assert at > fewest


def storm(folder: Path, dice: random.Random) -> Counter[str]:
    """Failures at random, and retries in other groups, until all is stored; what was raised."""
    folder.mkdir()
    disk, shop, errors = Disk(), Shop(dice), Counter[str]()
    codes = {"grow": apsw.SQLITE_FULL, "write": apsw.SQLITE_IOERR_WRITE, "sync": apsw.SQLITE_IOERR_FSYNC}
    chances = {"grow": 0.02, "write": 0.02, "sync": 0.2}
    with closing(disk.open(folder / "cache.db")) as store:
        disk.fault = lambda call: codes[call] if dice.random() < chances.get(call, 0.0) else None
        waiting = [one for _ in range(4) for one in shop.group().sales]
        while waiting:
            chosen = dice.sample(waiting, dice.randint(1, len(waiting)))
            try:
                store.commit(chosen, [])
            except CacheError as error:
                errors[type(error).__name__] += 1
            else:
                waiting = [one for one in waiting if one not in chosen]
        disk.fault = well
        assert read(store, shop.sold)
    sold = [Group(group.sales, ()) for group in shop.sold]
    disk.unregister()
    assert problems(folder / "cache.db", sold, sold) == []
    return errors


def test_storms_of_failures(tmp_path: Path, dice: random.Random) -> None:
    """D1, D5: whatever fails, and however it is retried, each answer is stored exactly once."""
    errors = sum((storm(tmp_path / str(number), dice) for number in range(figure(20, 300))), Counter())
    assert {"CacheFull", "CacheError"} <= set(errors)


def test_control_without_doubt_a_retry_doubles(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D5: forgetting what a failed commit has placed is noticed."""

    def forget(store: Store, one: Bought) -> None:
        """No answer is known to be kept."""

    monkeypatch.setattr(Store, "_kept", forget)
    with pytest.raises(AssertionError):
        for number in range(50):
            storm(tmp_path / str(number), dice)


def test_control_a_lost_answer_is_noticed(tmp_path: Path) -> None:
    """D1: the judge itself sees what is lost, what is strange, and what is halved."""
    disk = Disk()
    store = disk.open(tmp_path / "cache.db")
    first, second = bought("p", 0, "a"), bought("p", 1, "b")
    store.commit([first], [])
    store.close()
    disk.unregister()
    whole, strange = Group((first, second), ()), Bought(first.key, "model", '"p"', 0, Answer('"c"', 1.5, None))
    [lost] = problems(tmp_path / "cache.db", [whole], [whole])
    [half] = problems(tmp_path / "cache.db", [], [whole])
    found = problems(tmp_path / "cache.db", [], [Group((strange,), ())])
    assert (lost[:4], half[:4], found[0][:7]) == ("lost", "half", "strange")
