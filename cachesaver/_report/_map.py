"""The map of namespaces and prompts: how many samples each namespace drew of each prompt."""

# matplotlib leaves its keyword arguments without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .._looking import Look
from . import _text
from ._drawing import CELL, INK, NARROW, PAPER, WIDE, Drawing, canvas, svg
from ._facts import UsedPrompt
from ._grouping import grouped

MOST_ROWS = 40
LONGEST = 34  #: characters of a name
FEW = 8  #: columns that half of the width is enough for
READABLE = 24  #: columns, so that each cell has room for its number
NOTHING = "#f3f5f7"
DARK_FROM = 0.45  #: of the way to the darkest colour, where white is easier to read
STEEP = 30  #: the number of samples from which on colours follow its logarithm

_TOTALS = "SELECT namespace_id, sum(samples) FROM drawn GROUP BY namespace_id ORDER BY namespace_id"
_CELLS = "SELECT namespace_id, samples FROM drawn WHERE prompt_id = ?"
# So few colours that their bar is drawn; a bar of more would be an image in the page.
_COLOURS = LinearSegmentedColormap.from_list(
    "samples", ["#d6e6f4", "#7fb0dc", "#2f6fae", "#12365f"], N=48
).with_extremes(bad=NOTHING)

Draws: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.int64]]"  # namespaces down, prompts across


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of the map, and of which of them each namespace is a part."""

    names: Sequence[str]
    row: Mapping[int, int]  #: by the id of the namespace
    groups: int  #: of which these are the most used
    namespaces: int


def rows_of(look: Look) -> Rows:
    """The namespaces, or groups of them, that drew most."""
    names: dict[int, str] = {row[0]: row[1] for row in look.rows("SELECT id, name FROM namespaces ORDER BY id")}
    totals: dict[int, int] = {row[0]: row[1] for row in look.rows(_TOTALS)}
    group = grouped({id: names[id] for id in totals}, MOST_ROWS)
    drawn: Counter[str] = Counter()
    for id, samples in totals.items():
        drawn[group[id]] += samples
    kept = {name for name, _ in drawn.most_common(MOST_ROWS)}
    shown = sorted(kept, key=_natural)
    place = {name: row for row, name in enumerate(shown)}
    return Rows(shown, {id: place[name] for id, name in group.items() if name in place}, len(drawn), len(totals))


def _natural(name: str) -> list[tuple[int, str]]:
    """For sorting: run-9 before run-10."""
    parts = re.split("([0-9]+)", name)  # every second one is a number
    return [(len(part.lstrip("0")) if place % 2 else 0, part) for place, part in enumerate(parts)]


def draws_of(look: Look, rows: Rows, prompts: Sequence[UsedPrompt]) -> Draws:
    """The samples that each row drew of each prompt."""
    drawn = np.zeros((len(rows.names), len(prompts)), dtype=np.int64)
    for column, prompt in enumerate(prompts):
        for namespace, samples in look.rows(_CELLS, (prompt.id,)):
            if namespace in rows.row:
                drawn[rows.row[namespace], column] += samples
    return drawn


def map_of(look: Look, prompts: Sequence[UsedPrompt], all_prompts: int) -> Drawing:
    """The heat map; its columns are *prompts*, numbered from 1."""
    rows = rows_of(look)
    drawn = draws_of(look, rows, prompts)
    most = int(drawn.max())
    norm = LogNorm(1, most) if most >= STEEP else Normalize(1, max(most, 2))
    wide = len(prompts) > FEW
    figure, axes = canvas(WIDE if wide else NARROW, max(140, 75 + 22 * len(rows.names)))
    axes.pcolormesh(np.ma.masked_equal(drawn, 0), cmap=_COLOURS, norm=norm, edgecolors=PAPER, linewidth=1)
    if len(prompts) <= READABLE:
        _write_numbers(axes, drawn, norm)
    _name_both_sides(axes, [_text.short(name, LONGEST) for name in rows.names], len(prompts))
    _explain_colours(figure, axes, norm)
    name, title, caption = "namespaces-and-prompts", "Namespaces × prompts", _caption(rows, len(prompts), all_prompts)
    return Drawing(name, title, caption, svg(figure, name, title, caption), wide)


def _write_numbers(axes: Axes, drawn: Draws, norm: Normalize) -> None:
    for (row, column), number in np.ndenumerate(drawn):
        if number:
            colour = PAPER if norm(float(number)) > DARK_FROM else INK
            place = (column + 0.5, row + 0.5)
            text = axes.text(*place, _text.compact(int(number)), ha="center", va="center", fontsize=10, color=colour)
            text.set_gid(f"{CELL}-{row}-{column}")


def _name_both_sides(axes: Axes, names: Sequence[str], columns: int) -> None:
    axes.set_xlim(0, columns)
    axes.set_ylim(len(names), 0)
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.set_xticks(np.arange(columns) + 0.5, [str(column + 1) for column in range(columns)])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.tick_params(axis="x", labelsize=10, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xlabel("prompt, by its number in the table below", labelpad=7, loc="left")
    axes.xaxis.set_label_position("top")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)


def _explain_colours(figure: Figure, axes: Axes, norm: Normalize) -> None:
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=axes, fraction=0.03, pad=0.015, aspect=24, shrink=0.8)
    bar.outline.set_visible(False)
    bar.set_label("samples drawn")
    for colours in bar.ax.collections:
        colours.set(edgecolor="face", linewidth=0.7)  # else paper shines through between them
    if not isinstance(norm, LogNorm):
        bar.locator = MaxNLocator(6, integer=True)
        bar.update_ticks()
    bar.ax.yaxis.set_major_formatter(lambda value, _: _text.compact(value))
    bar.minorticks_off()


def _caption(rows: Rows, prompts: int, all_prompts: int) -> str:
    """What it shows, and what was left out."""
    notes = ["How many samples each namespace drew of each prompt; what is grey it did not draw."]
    if rows.groups < rows.namespaces:
        notes.append(
            f"The {_text.count(rows.namespaces)} namespaces are put together by the beginnings of their names."
        )
    if len(rows.names) < rows.groups:
        what = "groups" if rows.groups < rows.namespaces else "namespaces"
        notes.append(f"Rows: the {len(rows.names)} of {_text.count(rows.groups)} {what} that drew most.")
    if prompts < all_prompts:
        notes.append(f"Columns: the {prompts} most used of {_text.count(all_prompts)} prompts.")
    return " ".join(notes)
