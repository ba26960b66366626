"""Two caches side by side: which prompts and samples only one of them holds, and which differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._looking import PAGE, Look, looking
from ._miss import shorten

SHOWN = 20  #: differences that are told one by one

_PROMPTS = f"SELECT key, id, scope, prompt FROM prompts WHERE key > ? ORDER BY key LIMIT {PAGE}"
_SAMPLES = "SELECT position, checksum FROM samples WHERE prompt_id = ?"


@dataclass
class Side:
    """What only one of the two holds."""

    prompts: int = 0
    samples: int = 0
    namespaces: list[str] = field(default_factory=list[str])


@dataclass
class Comparison:
    """What two caches, A and B, have in common, and what not."""

    same: int = 0  #: samples that stand at the same position in both
    different: int = 0  #: positions at which they hold different samples
    only_a: Side = field(default_factory=Side)
    only_b: Side = field(default_factory=Side)
    examples: list[str] = field(default_factory=list[str])

    @property
    def equal(self) -> bool:
        """Whether there is no difference."""
        return not self.different and self.only_a == self.only_b == Side()

    def tell(self, example: str) -> None:
        """Keep the first few differences."""
        if len(self.examples) < SHOWN:
            self.examples.append(example)


def compare(a: Path, b: Path) -> Comparison:
    """Compare the caches at *a* and *b*. Raises `CacheError`."""
    comparison = Comparison()
    with ExitStack() as stack:
        one, other = (stack.enter_context(looking(path)) for path in (a, b))
        for left, right in _pairs(_prompts(one), _prompts(other)):
            _compare_prompt(comparison, one, left, other, right)
        names, others = ({row[0] for row in look.rows("SELECT name FROM namespaces")} for look in (one, other))
        comparison.only_a.namespaces = sorted(names - others)
        comparison.only_b.namespaces = sorted(others - names)
    return comparison


def _compare_prompt(comparison: Comparison, one: Look, left: Any, other: Look, right: Any) -> None:
    mine = {} if left is None else _samples(one, left)
    theirs = {} if right is None else _samples(other, right)
    comparison.only_a.prompts += right is None
    comparison.only_b.prompts += left is None
    name = _name(left or right)
    for position in sorted(mine.keys() | theirs.keys()):
        if position not in theirs:
            comparison.only_a.samples += 1
            comparison.tell(f"only in A: sample {position} of {name}")
        elif position not in mine:
            comparison.only_b.samples += 1
            comparison.tell(f"only in B: sample {position} of {name}")
        elif mine[position] != theirs[position]:
            comparison.different += 1
            comparison.tell(f"different: sample {position} of {name}")
        else:
            comparison.same += 1


def _pairs(ones: Iterator[Any], others: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    """The prompts of both, by their keys; None where one lacks a prompt."""
    left, right = next(ones, None), next(others, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right[0]):
            yield left, None
            left = next(ones, None)
        elif left is None or right[0] < left[0]:
            yield None, right
            right = next(others, None)
        else:
            yield left, right
            left, right = next(ones, None), next(others, None)


def _prompts(look: Look) -> Iterator[Any]:
    key = b""
    while page := look.rows(_PROMPTS, (key,)):
        yield from page
        key = page[-1][0]


def _samples(look: Look, prompt: Any) -> dict[int, bytes]:
    return dict(tuple(row) for row in look.rows(_SAMPLES, (prompt[1],)))


def _name(prompt: Any) -> str:
    return f"{shorten(prompt[3])} ({prompt[2]})"
