"""The power goes, again and again; what the disk then holds is opened."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from ._disk import Disk, set_pragmas
from ._powerloss import as_seen, image, laid_out
from ._sales import Group, Shop, figure, problems

IMAGES_OF_A_LIFE = 20


def live(path: Path, shop: Shop, dice: random.Random, there: set[str]) -> list[object]:
    """All that happens to a disk on which the library stores some groups; a group stands where it was acknowledged."""
    disk = Disk(there)
    store = disk.open(path)
    for _ in range(dice.randint(1, 12)):
        group = shop.group()
        assert store.commit(group.sales, group.records) == group.wanted
        disk.log.append(group)
    store.close()
    disk.unregister()
    return disk.log


def crashes(folder: Path, dice: random.Random, images: int) -> list[list[str]]:
    """The problems of each image; every life of the disk begins with an image of the one before."""
    shop, files, acknowledged, found = Shop(dice), {}, [], []
    for number in range(images // IMAGES_OF_A_LIFE):
        here = folder / str(number)
        log = live(laid_out(here, files), shop, dice, set(files))
        for cut in (dice.randint(0, len(log)) for _ in range(IMAGES_OF_A_LIFE)):
            after = image(files, log[:cut], dice)
            safe = acknowledged + [event for event in log[:cut] if isinstance(event, Group)]
            found.append(problems(laid_out(here / str(len(found)), after), safe, shop.sold))
        shutil.rmtree(here)
        files, acknowledged = ({}, []) if found[-1] else (after, safe)
    return found


@pytest.mark.parametrize("journal_limit", ["1048576", "8192"], ids=["as shipped", "journals are cut"])
def test_no_acknowledged_sample_is_lost(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch, journal_limit: str
) -> None:
    """D1: whatever a power loss leaves opens, is whole, and holds all that was acknowledged; no group is halved."""
    set_pragmas(monkeypatch, journal_size_limit=journal_limit)
    found = crashes(tmp_path, dice, figure(100, 2500))
    assert [wrong for wrong in found if wrong] == []


def test_a_process_may_die_between_any_two_writes(tmp_path: Path, dice: random.Random) -> None:
    """D1: and the operating system lives on: every write has arrived, in order, up to the last."""
    for number in range(figure(1, 10)):
        shop = Shop(dice)
        log = live(laid_out(tmp_path / str(number), {}), shop, dice, set())
        for cut in range(len(log) + 1):
            here = tmp_path / f"{number} {cut}"
            safe = [event for event in log[:cut] if isinstance(event, Group)]
            assert problems(laid_out(here, as_seen(log[:cut])), safe, shop.sold) == []
            shutil.rmtree(here)


@pytest.mark.parametrize(
    "pragmas",
    [
        {"synchronous": "OFF"},
        {"journal_mode": "WAL", "synchronous": "NORMAL"},
        {"journal_mode": "DELETE", "synchronous": "FULL"},
    ],
    ids=lambda pragmas: " ".join(pragmas.values()),
)
def test_control_weaker_settings_lose_samples(
    tmp_path: Path, dice: random.Random, monkeypatch: pytest.MonkeyPatch, pragmas: dict[str, str]
) -> None:
    """D1: without its settings the test above fails."""
    set_pragmas(monkeypatch, **pragmas)
    found = crashes(tmp_path, dice, 100)
    assert sum(map(bool, found)) > 0
