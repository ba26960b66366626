"""The tables of the page: the ledger by namespace, by model and by run, and the most used prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .._ledger import Ledger, LedgerLine
from . import _text
from ._by_namespace import dearest
from ._facts import UsedPrompt
from ._measure import DOLLARS, SAMPLES, Measure

MOST_NAMESPACES = 20
LAST_RUNS = 20
LONGEST = 60  #: characters of a name
WHOLE = 1000  #: characters of what was shortened
SENTENCE = 140  #: characters of a prompt


@dataclass(frozen=True, slots=True)
class Cell:
    """What is read, the number behind it, and the whole of what was shortened."""

    text: str
    value: float | None = None
    whole: str | None = None
    kind: str = "name"  #: what it looks like


@dataclass(frozen=True, slots=True)
class Row:
    """What it is about comes first, then its figures."""

    names: Sequence[Cell]
    figures: Mapping[str, Cell]
    id: str = ""  #: what a program finds it by


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings, and a note on what was left out."""

    name: str
    caption: str
    headings: Sequence[str]  #: of what it is about
    rows: Sequence[Row]
    note: str = ""
    figures: Sequence[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", list(self.rows[0].figures) if self.rows else [])


def namespaces_table(ledger: Ledger, measure: Measure) -> Table:
    """The most expensive namespaces."""
    lines = dearest(ledger, measure, MOST_NAMESPACES)
    average = any(measure.average(line) is not None for line in lines)
    rows = [Row([_name(line.name)], _figures(line, measure, average=average), _whole(line.name)) for line in lines]
    note = _left_out(len(lines), len(ledger), "namespaces", "most expensive")
    return Table("by-namespace", "By namespace", ["namespace"], rows, note)


def models_table(ledger: Ledger, measure: Measure) -> Table:
    """All models."""
    rows = [Row([_name(line.name)], _figures(line, measure), _whole(line.name)) for line in ledger]
    return Table("by-model", "By model", ["model"], rows)


def runs_table(ledger: Ledger, started: Mapping[str, str], measure: Measure) -> Table:
    """The last runs, the newest first, with the numbers that they have in the figures."""
    numbered = list(enumerate(ledger, 1))[-LAST_RUNS:]
    rows = [
        Row(
            [
                Cell(_text.count(number), number, kind="number"),
                Cell(_text.moment(started.get(line.name)), kind="date"),
                _name(line.name.partition(" ")[2]),
            ],
            _figures(line, measure),
            _whole(line.name),
        )
        for number, line in reversed(numbered)
    ]
    note = _left_out(len(rows), len(ledger), "runs", "last")
    return Table("by-run", "By run", ["run", "started (UTC)", "program"], rows, note)


def prompts_table(prompts: Sequence[UsedPrompt], first: int, name: str, caption: str) -> Table:
    """Prompts, numbered from *first* as in the map."""
    rows = [
        Row(
            [
                Cell(str(number), number, kind="number"),
                Cell(_text.short(prompt.gist, SENTENCE), whole=_whole(prompt.gist), kind="text"),
                _name(prompt.scope),
            ],
            {
                "drawn": Cell(_text.count(prompt.drawn), prompt.drawn),
                "samples": Cell(_text.count(prompt.samples), prompt.samples),
                "namespaces": Cell(_text.count(prompt.namespaces), prompt.namespaces),
            },
            f"prompt-{number}",
        )
        for number, prompt in enumerate(prompts, first)
    ]
    return Table(name, caption, ["", "prompt", "asked of"], rows)


def _figures(line: LedgerLine, measure: Measure, *, average: bool = False) -> dict[str, Cell]:
    figures = {
        "asked": Cell(_text.count(line.asked), line.asked),
        "bought": Cell(_text.count(line.bought), line.bought),
        "reused": Cell(_text.share(line.reused, line.bought + line.reused), line.reused),
    }
    if measure is SAMPLES:  # it has been told
        return figures
    if measure is DOLLARS:
        figures["tokens bought"] = Cell(_text.count(line.tokens_spent), line.tokens_spent)
    amounts = {"marginal": measure.spent(line)}
    if average:
        amounts["average"] = measure.average(line)
    amounts["without cache"] = measure.without(line)
    return figures | {name: Cell(measure.show(amount), amount) for name, amount in amounts.items()}


def _name(name: str) -> Cell:
    return Cell(_text.short(name, LONGEST), whole=_whole(name))


def _whole(text: str) -> str:
    return _text.short(text, WHOLE)


def _left_out(shown: int, of: int, what: str, which: str) -> str:
    return f"The {shown} {which} of {_text.count(of)} {what}." if shown < of else ""
