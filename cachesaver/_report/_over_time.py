"""Reuse and cost over time: sums that grow from run to run, or from day to day."""

# matplotlib leaves its keyword arguments without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .._ledger import Ledger, LedgerLine
from . import _text
from ._drawing import DARK, GREY, LIGHT, NARROW, PALE, Drawing, canvas, legend_above, svg
from ._measure import SAMPLES, Measure

MOST_RUNS = 60  #: that are told apart; of more, days are
FEWEST_DAYS = 6  #: that say more than runs do
MOST_POINTS = 300  #: of a line
HEIGHT = 290


@dataclass(frozen=True, slots=True)
class Steps:
    """What each run, or each day, added; in their order."""

    of: str  #: "run" or "day"
    lines: Sequence[LedgerLine]  #: their names are dates, where they are days


def steps(by_run: Ledger, started: Mapping[str, str]) -> Steps:
    """The runs of a ledger, or the days on which they *started*."""
    days = {line.name: started.get(line.name, "")[:10] for line in by_run}
    if len(by_run) <= MOST_RUNS or len(set(days.values())) < FEWEST_DAYS:
        return Steps("run", list(by_run))
    ordered = sorted(by_run, key=lambda line: days[line.name])
    return Steps(
        "day",
        [sum(lines, LedgerLine(day)) for day, lines in groupby(ordered, key=lambda line: days[line.name])],
    )


def reuse_over_time(steps: Steps) -> Drawing:
    """Samples bought and reused so far."""
    figure, axes = canvas(NARROW, HEIGHT)
    bought = _growing([line.bought for line in steps.lines])
    asked = _growing([line.bought + line.reused for line in steps.lines])
    places = _places(len(bought))
    axes.fill_between(places, [bought[i] for i in places], color=DARK, linewidth=0, label="bought")
    axes.fill_between(
        places, [bought[i] for i in places], [asked[i] for i in places], color=LIGHT, linewidth=0, label="reused"
    )
    _finish(axes, steps, "samples so far", max(asked))
    SAMPLES.label(axes.yaxis)
    legend_above(axes, reverse=True)
    caption = (
        f"Samples that were asked for, summed up {_by(steps)}: of {_text.count(asked[-1])} samples,"
        f" {_text.count(bought[-1])} were bought and {_text.count(asked[-1] - bought[-1])} were there already."
    )
    return _drawing(figure, "reuse-over-time", "Reuse over time", caption)


def cost_over_time(steps: Steps, measure: Measure) -> Drawing:
    """What was spent so far, and what it would have been without the cache."""
    figure, axes = canvas(NARROW, HEIGHT)
    spent = _growing([measure.spent(line) or 0 for line in steps.lines])
    without = _growing([measure.without(line) or 0 for line in steps.lines])
    places = _places(len(spent))
    below, above = [spent[i] for i in places], [without[i] for i in places]
    axes.fill_between(places, below, above, color=PALE, linewidth=0, label="saved")
    axes.plot(places, above, color=GREY, linewidth=2.2, linestyle=(0, (4, 1.5)), label="without the cache")
    axes.plot(places, below, color=DARK, linewidth=2.2, label="with it")
    _finish(axes, steps, f"{measure.unit} so far", max(without))
    measure.label(axes.yaxis)
    legend_above(axes, reverse=True)
    caption = (
        f"{measure.unit[0].upper()}{measure.unit[1:]} spent, summed up {_by(steps)}:"
        f" {measure.text(spent[-1])}, where it would have been {measure.text(without[-1])} without the cache."
    )
    return _drawing(figure, "cost-over-time", f"{measure.title} with and without the cache", caption)


def _drawing(figure: Figure, name: str, title: str, caption: str) -> Drawing:
    return Drawing(name, title, caption, svg(figure, name, title, caption))


def _by(steps: Steps) -> str:
    return "from run to run" if steps.of == "run" else "from day to day"


def _growing(amounts: Sequence[float]) -> list[float]:
    """The sums so far, from nothing on."""
    return list(accumulate(amounts, initial=0))


def _places(number: int) -> list[int]:
    """Which of so many sums are drawn: all, or some that lie at equal distances, and the last."""
    every = -(-number // MOST_POINTS)
    return sorted({*range(0, number, every), number - 1})


def _finish(axes: Axes, steps: Steps, label: str, most: float) -> None:
    axes.set_xlim(0, len(steps.lines))
    axes.set_ylim(0, most * 1.04 or 1)
    axes.set_ylabel(label)
    axes.grid(visible=False, axis="x")
    if steps.of == "run":
        axes.set_xlabel("runs so far")
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return
    axes.set_xlabel("days with runs")
    last = len(steps.lines)
    shown = sorted({1, (1 + last) // 2, last})
    axes.set_xticks(shown, [steps.lines[place - 1].name for place in shown])
    for tick, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=False):
        tick.set_horizontalalignment(side)
