"""Copies of a cache file are damaged; whatever they then say must be true."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cachesaver import Cache, CacheCorrupt, CacheError, _rows
from cachesaver._records import Answer, Bought, Query

from ._sales import bought, figure, integrity, key

PAGE = 4096
Place = tuple[bytes, int]
Found = Answer | CacheError | None  # None: not there


@pytest.fixture
def sales() -> list[Bought]:
    """Sixty samples of six prompts, some longer than a page."""
    lengths = (0, 30, 100, 700, 1500)
    return [
        bought(f"prompt {n % 6}", n // 6, f"answer {n} " + "word " * (1500 if n == 31 else lengths[n % 5] // 5))
        for n in range(60)
    ]


@pytest.fixture
def whole(tmp_path: Path, sales: Sequence[Bought]) -> bytes:
    """The bytes of a cache file that holds them."""
    with Cache(tmp_path / "whole.db") as cache:
        cache.commit(sales, []).result()
    return cache.path.read_bytes()


def damaged(whole: bytes, dice: random.Random) -> bytes:
    """Another file than *whole*."""
    content = bytearray(whole)
    first, second = dice.sample(range(0, len(whole), PAGE), 2)
    match dice.choice(("flips", "flips", "cut", "zeros", "swap")):
        case "flips":
            for at in dice.sample(range(len(whole)), dice.randint(1, 64)):
                content[at] ^= dice.randint(1, 255)
        case "cut":
            del content[dice.randrange(1, len(whole)) :]  # an empty file alone is a new cache
        case "zeros":
            content[first : first + PAGE] = bytes(PAGE)
        case "swap":
            content[first : first + PAGE], content[second : second + PAGE] = (
                whole[second : second + PAGE],
                whole[first : first + PAGE],
            )
    return bytes(content)


def looked_up(path: Path, sales: Sequence[Bought]) -> list[tuple[Place, Found]]:
    """All that the library says of what the file ought to hold, by either way to look: each answer with its place."""
    places = {(one.key, one.position) for one in sales}
    said: list[tuple[Place, Found]] = []
    try:
        with Cache(path) as cache:
            for prompt in dict.fromkeys(one.key for one in sales):  # in order, so that some are read ahead
                query = Query({prompt: 0})
                try:
                    stock = (cache.at_hand(query) or cache.load(query).result()).stocks[prompt]
                except CacheError as error:
                    said.append(((prompt, 0), error))
                else:
                    said += [((prompt, position), answer) for position, answer in stock.answers.items()]
                    places |= {(prompt, position) for position in stock.positions}
            return said + [(place, one_read(cache, place)) for place in places]
    except CacheError as error:
        return [(place, error) for place in places]


def one_read(cache: Cache, place: Place) -> Found:
    try:
        return cache.read([place]).result().get(place)
    except CacheError as error:
        return error


def verdicts(path: Path, sales: Sequence[Bought]) -> Counter[str]:
    """How many look-ups were right, refused, not found, or wrong."""
    truth = {(one.key, one.position): one.answer for one in sales}
    kinds = Counter[str]()
    for place, found in looked_up(path, sales):
        if isinstance(found, CacheError):
            kinds["refused"] += 1
        elif found is None:
            kinds["absent"] += place in truth
        else:
            kinds["right" if found == truth.get(place) else "wrong"] += 1
    return kinds


def examine(tmp_path: Path, whole: bytes, sales: Sequence[Bought], dice: random.Random, copies: int) -> Counter[str]:
    """The verdicts over many damaged copies; `hidden` counts the files that lack a sample and seem whole."""
    total = Counter[str]()
    path = tmp_path / "damaged.db"
    for _ in range(copies):
        path.write_bytes(damaged(whole, dice))
        here = verdicts(path, sales)
        if here["absent"] and not integrity(path):
            here["hidden"] += 1
        total += here
        for left in tmp_path.glob("damaged.db*"):
            left.unlink()
    return total


def test_a_damaged_file_never_gives_a_wrong_answer(
    tmp_path: Path, whole: bytes, sales: Sequence[Bought], dice: random.Random
) -> None:
    """D5: every answer is right, or an error of ours, or absent; and where one is absent, SQLite's check says why."""
    total = examine(tmp_path, whole, sales, dice, figure(500, 20_000))
    assert total["wrong"] == 0
    assert total["hidden"] == 0
    assert total["right"] > total["absent"]
    assert total["refused"] > 0


def damaged_answers(whole: bytes, sales: Sequence[Bought], dice: random.Random) -> Iterator[tuple[Bought, bytes]]:
    """For each sample a file in which one byte of its answer is another."""
    for one in sales:
        text = one.answer.body[:30].rstrip().encode()
        content = bytearray(whole)
        content[content.index(text) + dice.randrange(len(text))] ^= dice.randint(1, 255)
        yield one, bytes(content)


def test_a_damaged_answer_is_no_miss(
    tmp_path: Path, whole: bytes, sales: Sequence[Bought], dice: random.Random
) -> None:
    """D5: it raises, and all the others are as they were."""
    path = tmp_path / "damaged.db"
    truth = {(one.key, one.position): one.answer for one in sales}
    for one, content in damaged_answers(whole, sales, dice):
        path.write_bytes(content)
        for place, found in looked_up(path, sales):
            if place == (one.key, one.position):
                assert isinstance(found, CacheCorrupt)
            else:
                assert found == truth[place]


def test_a_damaged_index_leads_to_no_wrong_answer(tmp_path: Path) -> None:
    """S1, D5: entries out of order make SQLite find another position's sample, whole but not the one asked for."""
    with Cache(tmp_path / "cache.db") as cache:
        cache.commit([bought("p", n, f"answer {n}") for n in range(5)], []).result()
    content = cache.path.read_bytes()
    # Where a page of five entries says at which offsets they stand: the first is now the fifth.
    header = bytes.fromhex("0a 0000 0005 0fe0 00 0ffb 0ff5")
    assert content.count(header) == 1
    cache.path.write_bytes(content.replace(header, bytes.fromhex("0a 0000 0005 0fe0 00 0fe0 0ff5")))
    with cache:
        for position in range(5):
            found = one_read(cache, (key("p"), position))
            assert found in (None, bought("p", position, f"answer {position}").answer) or isinstance(found, CacheError)


def test_control_without_the_checksum_answers_are_wrong(
    tmp_path: Path, whole: bytes, sales: Sequence[Bought], dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D5: the tests above fail when checksums are not compared."""
    monkeypatch.setattr(_rows, "_checksum", lambda *columns: Anything())
    path, kinds = tmp_path / "damaged.db", Counter[str]()
    for _, content in damaged_answers(whole, sales, dice):
        path.write_bytes(content)
        kinds += verdicts(path, sales)
    assert kinds["wrong"] > 0


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]
