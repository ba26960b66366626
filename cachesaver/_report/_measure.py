"""What is counted: US dollars where a price is known, else tokens, else samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from .._ledger import LedgerLine
from . import _text

TICKS = 6  #: at most, on an axis of amounts


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit, and how a line of the ledger is measured in it."""

    title: str
    unit: str
    spent: Callable[[LedgerLine], float | None]
    saved: Callable[[LedgerLine], float | None]
    average: Callable[[LedgerLine], float | None]  #: None where it cannot be told
    text: Callable[[float], str]
    brief: Callable[[float], str]  #: in a few large letters

    def without(self, line: LedgerLine) -> float | None:
        """What it would have taken without the cache."""
        spent, saved = self.spent(line), self.saved(line)
        return None if spent is None and saved is None else (spent or 0) + (saved or 0)

    def show(self, amount: float | None) -> str:
        """An amount for people, whether it is known or not."""
        return _text.NONE if amount is None else self.text(amount)

    def label(self, axis: Axis) -> None:
        """Label an axis whose limits are set: all amounts with the same number of digits."""
        locator = MaxNLocator(TICKS - 1, integer=self is not DOLLARS)
        axis.set_major_locator(locator)
        first, second = locator.tick_values(*axis.get_view_interval())[:2]
        step = Decimal(f"{second - first:.3g}").normalize()
        digits = max(0, -int(step.as_tuple().exponent))
        digits = 2 if digits == 1 else digits  # one is no amount of money
        axis.set_major_formatter(lambda value, _: f"${value:,.{digits}f}" if self is DOLLARS else _text.compact(value))


DOLLARS = Measure(
    "Cost",
    "US dollars",
    lambda line: line.cost_spent,
    lambda line: line.cost_saved,
    lambda line: line.cost_shared,
    _text.dollars,
    _text.brief_dollars,
)
TOKENS = Measure(
    "Tokens",
    "tokens",
    lambda line: line.tokens_spent,
    lambda line: line.tokens_saved,
    lambda line: None,
    _text.count,
    _text.brief,
)
SAMPLES = Measure(
    "Samples",
    "samples",
    lambda line: line.bought,
    lambda line: line.reused,
    lambda line: None,
    _text.count,
    _text.brief,
)


def measure_of(total: LedgerLine) -> Measure:
    """The best measure that a ledger with this *total* allows."""
    if total.cost_without is not None:
        return DOLLARS
    return TOKENS if total.tokens_spent + total.tokens_saved else SAMPLES
