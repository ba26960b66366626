"""How many prompts have how many samples, and how many namespaces have drawn them."""

# matplotlib leaves its keyword arguments without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from matplotlib.ticker import NullFormatter

from . import _text
from ._drawing import DARK, NARROW, Drawing, canvas, svg
from ._facts import Histogram
from ._measure import SAMPLES

MOST_BARS = 12  #: for a number each; of more, one bar has the numbers from a power of two to the next
ROOMY = 7  #: bars, under which whole ranges can be written
SKEWED = 200  #: times as many in the fullest bar as in the emptiest: the small ones could not be seen
HEIGHT = 270


def histogram(counts: Histogram, name: str, title: str, of: str, what: str) -> Drawing:
    """A bar for each number of *of* ("samples"), or for numbers that double; *what* begins the caption."""
    labels, heights = _bars(counts)
    figure, axes = canvas(NARROW, HEIGHT)
    bars = axes.bar(range(len(labels)), heights, 0.78, color=DARK)
    axes.bar_label(bars, [_text.compact(height) if height else "" for height in heights], padding=2, fontsize=10)
    filled = [height for height in heights if height]
    skewed = max(filled) > SKEWED * min(filled)
    axes.set_ylim(0.7 if skewed else 0, max(filled) ** 1.1 * 1.5 if skewed else max(filled) * 1.12)
    if skewed:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(lambda value, _: _text.compact(value))
    else:
        SAMPLES.label(axes.yaxis)
    axes.set_xlim(-0.7, max(len(labels), 5) - 0.3)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel(of)
    axes.set_ylabel("prompts, log scale" if skewed else "prompts")
    axes.grid(visible=False, axis="x")
    prompts = sum(number for _, number in counts)
    median, most = _median(counts), _text.count(counts[-1][0])
    caption = f"{what} ({_text.count(prompts)} in all): the median is {median}, the most is {most}."
    return Drawing(name, title, caption, svg(figure, name, title, caption))


def _bars(counts: Histogram) -> tuple[list[str], list[int]]:
    most = counts[-1][0]
    if most <= MOST_BARS:
        found = dict(counts)
        return [str(number) for number in range(1, most + 1)], [found.get(number, 0) for number in range(1, most + 1)]
    heights = [0] * most.bit_length()
    for number, prompts in counts:
        heights[number.bit_length() - 1] += prompts
    ends = [(2**power, 2 ** (power + 1) - 1) for power in range(len(heights))]
    roomy = len(ends) <= ROOMY
    labels = [f"{low}–{high}" if roomy else f"{_text.compact(low)}+" for low, high in ends]
    return ["1", *labels[1:]], heights


def _median(counts: Histogram) -> str:
    seen, half = 0, sum(prompts for _, prompts in counts) / 2
    for number, prompts in counts:
        seen += prompts
        if seen >= half:
            return _text.count(number)
    raise AssertionError("a histogram has a middle")
