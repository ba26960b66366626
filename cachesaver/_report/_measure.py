"""What is counted: US dollars where a price is known, else tokens, else samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._ledger import LedgerLine
from .._prices import dollars
from . import _text


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit, and how a line of the ledger is measured in it."""

    unit: str
    spent: Callable[[LedgerLine], float | None]
    saved: Callable[[LedgerLine], float | None]
    average: Callable[[LedgerLine], float | None]  #: None where it cannot be told
    text: Callable[[float], str]

    def without(self, line: LedgerLine) -> float | None:
        """What it would have taken without the cache."""
        spent, saved = self.spent(line), self.saved(line)
        return None if spent is None and saved is None else (spent or 0) + (saved or 0)

    def show(self, amount: float | None) -> str:
        """An amount for people, whether it is known or not."""
        return _text.NONE if amount is None else self.text(amount)


DOLLARS = Measure(
    "US dollars",
    lambda line: line.cost_spent,
    lambda line: line.cost_saved,
    lambda line: line.cost_shared,
    dollars,
)
TOKENS = Measure("tokens", lambda line: line.tokens_spent, lambda line: line.tokens_saved, lambda line: None, _text.count)
SAMPLES = Measure("samples", lambda line: line.bought, lambda line: line.reused, lambda line: None, _text.count)


def measure_of(total: LedgerLine) -> Measure:
    """The best measure that a ledger with this *total* allows."""
    if total.cost_without is not None:
        return DOLLARS
    return TOKENS if total.tokens_spent + total.tokens_saved else SAMPLES
