"""How figures are shown: live on a terminal or in a notebook, else in plain lines; never on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from ._figures import Figures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

BAR = 30  #: columns


class Display(Protocol):
    """Where figures are shown, again and again, until it is stopped."""

    period: float  #: seconds between two times

    def show(self, figures: Figures) -> None: ...
    def stop(self) -> None: ...


class Lines:
    """A line on stderr now and then, and one at the end."""

    period = 10.0

    def show(self, figures: Figures) -> None:
        if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] (pythonw has none)
            sys.stderr.write(f"{figures.line}\n")
            sys.stderr.flush()

    def stop(self) -> None:
        """Nothing is to be put in order."""


class Terminal:
    """A few lines at the bottom of the terminal; what the program prints goes above them."""

    period = 0.2

    def __init__(self, console: Console) -> None:
        from rich.live import Live

        # What goes to stdout must stay there: only on the terminal is it in the way.
        here = sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=here)

    def show(self, figures: Figures) -> None:
        self._live.start()  # if it has not started yet
        self._live.update(drawn(figures), refresh=True)

    def stop(self) -> None:
        self._live.stop()


class Notebook:
    """An output of the cell that is drawn anew; without widgets, which not every notebook has."""

    period = 0.5

    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self._handle: Any = DisplayHandle()
        self._shown = False

    def show(self, figures: Figures) -> None:
        (self._handle.update if self._shown else self._handle.display)(drawn(figures))
        self._shown = True

    def stop(self) -> None:
        """It stays as it is."""


def display_here() -> Display:
    """The best that stderr can do."""
    if held(sys.stderr):
        return Lines()  # which come to stand above it
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter:
        return Notebook()
    if console.is_interactive and console.file.isatty():  # which FORCE_COLOR alone does not make it
        return Terminal(console)
    return Lines()


def held(stream: object) -> bool:
    """Whether a live display of rich, another map's or the program's own, has put itself in the place of *stream*."""
    return hasattr(stream, "rich_proxied_file")


def drawn(figures: Figures) -> Table:
    """A bar, and below it what else there is, in as many lines as that takes."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    bar = Table.grid(padding=(0, 1))
    total = None if figures.total is None else max(1, figures.total)
    done = 1 if figures.total == 0 else figures.done
    bar.add_row(
        Text(figures.name or "cachesaver", style="bold"),
        ProgressBar(total, done, width=BAR, pulse=total is None),
        Text(", ".join([figures.done_of_total, *figures.left]), no_wrap=True, overflow="ellipsis"),
    )
    table = Table.grid()
    table.add_row(bar)
    table.add_row(Text(", ".join(figures.details), style="dim"))
    return table
