"""Figures as SVG that is a part of the page: its fonts, no ids but the figure's own, the same text every time."""

# matplotlib leaves its keyword arguments without types.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, SOFT, RULE, PAPER = "#222222", "#5f6368", "#dfe3e8", "#ffffff"
DARK, LIGHT, GREY, PALE = "#1b4f8a", "#8fbbe3", "#a3a8ae", "#e4eef8"  # they differ in lightness, whatever eyes see
WIDE, NARROW = 960, 470  #: pixels, where the page is as wide as it gets

CELL = "cell"  #: how ids begin by which a program finds a number in a figure

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_STYLE: dict[RcKeyType, Any] = {
    "svg.fonttype": "none",  # letters stay letters: to be found, selected and read aloud
    "svg.hashsalt": "cachesaver",
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 12,
    "axes.edgecolor": GREY,
    "axes.labelcolor": SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 11,
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure of the page, and the sentence that says what it shows."""

    name: str  #: its id on the page
    title: str
    caption: str
    svg: Markup
    wide: bool = False


@contextmanager
def drawing() -> Generator[None]:
    """Our style, whatever a user has set for plots of their own; for the time of drawing only."""
    with mpl.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's browser has other fonts
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """An empty figure of so many pixels, in `drawing()`."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.add_subplot()


def legend_above(axes: Axes, **options: Any) -> None:
    """The legend in a line above the axes, where it hides nothing."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0.3,
        handlelength=1,
        columnspacing=1.4,
        **options,
    )


def svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    """*figure* as an element of an HTML page, under the id *name*; the two texts are for screen readers."""
    file = BytesIO()
    figure.savefig(file, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    root = ElementTree.fromstring(file.getvalue())
    _rename(root, name)
    for child in list(root):
        if child.tag == f"{{{_SVG}}}metadata":
            root.remove(child)
    for tag, text in (("desc", description), ("title", title)):
        element = ElementTree.Element(f"{{{_SVG}}}{tag}", id=f"{name}-{tag}")
        element.text = text
        root.insert(0, element)
    del root.attrib["width"], root.attrib["height"]  # the page says how wide it is
    root.attrib |= {"id": name, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    ElementTree.register_namespace("", _SVG)
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # our own tree: texts in it are escaped


def _rename(root: ElementTree.Element, name: str) -> None:
    """Ids that are this figure's own, and none that nothing refers to: neither the figure itself nor a program."""
    used: set[str] = set()
    for element in root.iter():
        used.update(*(_REFERENCE.findall(value) for value in element.attrib.values()))
        used.add(element.attrib.get(_LINK, "#")[1:])
    for element in root.iter():
        attributes = element.attrib
        if attributes.get("id") in used or attributes.get("id", "").startswith(CELL):
            attributes["id"] = f"{name}-{attributes['id']}"
        else:
            attributes.pop("id", None)
        for key, value in attributes.items():
            attributes[key] = _REFERENCE.sub(rf"url(#{name}-\1)", value)
        if _LINK in attributes:
            attributes["href"] = f"#{name}-{attributes.pop(_LINK)[1:]}"  # there are no links but to our own marks
