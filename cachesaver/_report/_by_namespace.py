"""What the most expensive namespaces cost: marginal, on average, and without the cache."""

# matplotlib leaves its keyword arguments without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Sequence

from .._ledger import Ledger, LedgerLine
from . import _text
from ._drawing import DARK, GREY, INK, LIGHT, WIDE, Drawing, canvas, legend_above, svg
from ._measure import Measure

MOST = 12  #: namespaces
LONGEST = 34  #: characters of a name
_BAR = 0.27


def dearest(ledger: Ledger, measure: Measure, most: int) -> list[LedgerLine]:
    """The lines that would have cost most without the cache; the earlier first among equals."""
    return sorted(ledger, key=lambda line: measure.without(line) or 0, reverse=True)[:most]


def cost_by_namespace(ledger: Ledger, measure: Measure) -> Drawing:
    """Three bars for each of the most expensive namespaces, or two where an average is not known."""
    lines = dearest(ledger, measure, MOST)
    kinds = [
        ("marginal", DARK, measure.spent),
        ("average", LIGHT, measure.average),
        ("without the cache", GREY, measure.without),
    ]
    shown = [kind for kind in kinds if any(kind[2](line) is not None for line in lines)]
    figure, axes = canvas(WIDE, 70 + len(lines) * (16 * len(shown) + 10))
    for rank, (label, colour, amount) in enumerate(shown):
        places = [place + (rank - (len(shown) - 1) / 2) * _BAR for place in range(len(lines))]
        bars = axes.barh(places, [amount(line) or 0 for line in lines], _BAR * 0.92, color=colour, label=label)
        axes.bar_label(bars, [measure.show(amount(line)) for line in lines], padding=4, fontsize=10)
    axes.set_yticks(range(len(lines)), [_text.short(line.name, LONGEST) for line in lines])
    axes.tick_params(axis="y", labelcolor=INK, labelsize=12)
    axes.set_ylim(len(lines) - 0.45, -0.55)
    most = max(measure.without(line) or 0 for line in lines)
    axes.set_xlim(0, most * 1.1 or 1)
    axes.grid(visible=False, axis="y")
    measure.label(axes.xaxis)
    axes.set_xlabel(measure.unit)
    legend_above(axes)
    title, caption = f"{measure.title} by namespace", _caption(ledger, lines, measure)
    return Drawing("cost-by-namespace", title, caption, svg(figure, "cost-by-namespace", title, caption), wide=True)


def _caption(ledger: Ledger, lines: Sequence[LedgerLine], measure: Measure) -> str:
    which = "each namespace"
    if len(lines) < len(ledger):
        part = sum(measure.without(line) or 0 for line in lines)
        of_all = _text.share(part, measure.without(ledger.total) or 0)
        which = f"the {len(lines)} most expensive of {_text.count(len(ledger))} namespaces ({of_all} of the whole)"
    return f"What was bought for {which}, and what it would have taken without the cache, in {measure.unit}."
