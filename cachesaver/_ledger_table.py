"""A ledger as a table for people, by rich."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from ._ledger import Ledger, LedgerLine


def table(ledger: Ledger, most: int | None) -> Table:
    """The *most* expensive lines of *ledger*, or all, and their total."""
    lines = list(ledger)
    if most is not None and len(lines) > most:
        lines = sorted(lines, key=lambda line: (line.cost_spent or 0, line.bought, line.asked), reverse=True)[:most]
    caption = None if len(lines) == len(ledger) else f"the {len(lines)} that bought most, of {len(ledger)}"
    made = Table(title=f"By {ledger.by}", title_justify="left", caption=caption, show_footer=True)
    shared = ledger.by == "namespace"
    total = figures(ledger.total, shared)
    made.add_column(ledger.by, footer="total", overflow="fold")
    for heading, footer in zip(headings(shared), total, strict=True):
        made.add_column(heading, footer=footer, justify="right", no_wrap=True)
    for line in lines:
        made.add_row(line.name, *figures(line, shared))
    return made


def text(ledger: Ledger) -> str:
    """The table as plain text."""
    console = Console(file=StringIO(), width=140, color_system=None)
    console.print(ledger.table())
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().rstrip("\n")


def headings(shared: bool) -> list[str]:
    average = ["average"] if shared else []
    return ["asked", "bought", "reused", "tokens\nbought", "seconds\nsaved", "marginal", *average, "without\ncache"]


def figures(line: LedgerLine, shared: bool) -> Iterable[str]:
    average = [dollars(line.cost_shared)] if shared else []
    counts = (line.asked, line.bought, line.reused, line.tokens_spent)
    costs = (dollars(line.cost_spent), *average, dollars(line.cost_without))
    return [*(f"{count:,}" for count in counts), f"{line.seconds_saved:,.1f}", *costs]


def dollars(cost: float | None) -> str:
    """An amount with as many digits as it needs; a dash where it is not known."""
    if cost is None:
        return "-"
    return f"${cost:,.2f}" if cost >= 1 or cost == 0 else f"${Decimal(f'{cost:.3g}'):f}"
