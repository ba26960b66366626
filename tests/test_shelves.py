"""Shelf and Drawer, the state of a Cacher."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cachesaver._drawer import Drawer
from cachesaver._records import Drawn
from cachesaver._shelves import Shelf

LABELS = st.sampled_from([None, "0", "7", "07", "17", "a", "٣", "1" * 30])
DRAWS = st.lists(st.builds(Drawn, LABELS, st.integers(0, 2), st.integers(0, 3)), max_size=4)
STEPS = st.lists(st.tuples(st.sampled_from(["draw", "record", "give back", "steal"]), LABELS), max_size=12)


def contents(drawer: Drawer) -> dict[str, Any]:
    """All that it knows; where it begins to look is not part of it."""
    returned = {label: ordinals for label, ordinals in (drawer._returned or {}).items() if ordinals}
    mine = (drawer.used, drawer.recorded, drawer.reserved, drawer._next, drawer._stolen)
    return {"returned": returned, "earlier": drawer.owners, "mine": mine}


@given(DRAWS, STEPS)
def test_a_folded_drawer_loses_nothing(recorded: list[Drawn], steps: list[tuple[str, str | None]]) -> None:
    """S1, S3, S7: what is kept of it as a number is all that was in it, whatever has happened to it."""
    drawer, shelf = Drawer(recorded), Shelf(b"", 4)
    taken: list[tuple[str | None, int, int]] = []
    for step, label in steps:
        if step == "draw":
            [ordinal] = drawer.ordinals(label, 1)
            position = drawer.recorded.get((label, ordinal))
            if position is None or position in drawer.used:
                position = drawer.lowest_unclaimed(shelf)
            if position is None:
                drawer.give_back_ordinal(label, ordinal)
            else:
                drawer.used[position] = (label, ordinal)
                taken.append((label, ordinal, position))
        elif step == "record" and taken:
            drawer.record(taken[-1][:2], taken[-1][2])
        elif step == "give back" and taken:
            label, ordinal, position = taken.pop()
            drawer.give_back_ordinal(label, ordinal)
            drawer.give_back_position(position)
        elif step == "steal":
            drawer.lowest_of_others(shelf, label)
        folded = drawer.folded()
        if folded is not None:
            unfolded = Drawer.unfolded(folded)
            assert contents(unfolded) == contents(drawer)
            assert unfolded.folded() == folded


def test_ordinals_that_were_given_back_go_to_whom_they_were() -> None:
    """S5, S14: else the lowest of them goes first."""
    drawer = Drawer()
    assert [*drawer.ordinals("a", 3)] == [0, 1, 2]
    for ordinal in (2, 0, 1):
        drawer.give_back_ordinal("a", ordinal)
    assert drawer.ordinals("a", 1, [1]) == [1]
    assert drawer.ordinals("a", 3, [2, 1]) == [2, 0, 3]
    assert [*drawer.ordinals("a", 1, [2])] == [4]


def test_what_is_folded() -> None:
    """The usual ones, from an earlier run or of this one; a number takes a third of what a pair does."""
    for label, folded in ((None, 3), ("0", ("0", 3)), ("17", 17 << 5 | 3), ("a", ("a", 3))):
        drawer = Drawer([Drawn(label, 0, 0)])
        assert drawer.folded() is None
        drawer.ordinals(label, 1)
        drawer.used[0] = (label, 0)
        assert drawer.folded() == folded
