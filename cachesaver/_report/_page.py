"""The page: what is on it, in which order, and what is left out where there is nothing to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .._ledger import Ledger, LedgerLine, ledger_of
from .._looking import Look, looking
from .._prices import Price, checked
from . import _text
from ._by_namespace import cost_by_namespace
from ._counts import histogram
from ._drawing import Drawing, drawing
from ._facts import Facts, count_draws, most_used, namespaces_per_prompt, read_facts, samples_per_prompt
from ._map import map_of
from ._measure import DOLLARS, SAMPLES, Measure, measure_of
from ._over_time import cost_over_time, reuse_over_time, steps
from ._tables import Table, models_table, namespaces_table, prompts_table, runs_table

COLUMNS = 40  #: prompts of the map
AT_ONCE = 12  #: of them in the table; the others are folded away

_MARGINAL = "Marginal is what was bought for a namespace, given what the cache held already."
_AVERAGE = " Average is what the samples that it drew have cost, each in equal parts for the namespaces that drew it."
_STARTED = "SELECT name || ' ' || program, started_at FROM runs"


@dataclass(frozen=True, slots=True)
class Number:
    """One of the big numbers at the top."""

    name: str
    label: str
    text: str
    value: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Figures, and the tables under them."""

    name: str
    title: str
    lead: str
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    folded: Sequence[Table] = ()


def report(path: Path, prices: Mapping[str, tuple[float, float]] | None = None, *, made: datetime | None = None) -> str:
    """The page about the cache file at *path*, which is neither made nor changed.

    *prices* are US dollars for a million tokens, (input, output) by the name of a model; they take the place of
    what was known when the samples were bought. *made* is the date of the page, else it is now. Raises `CacheError`.
    """
    own = checked(prices or {})
    with looking(path) as look, drawing():
        facts = read_facts(look)
        by_model = ledger_of(look, "model", own)
        measure = measure_of(by_model.total)
        return _ENVIRONMENT.get_template("page.html").render(
            facts=facts,
            numbers=_numbers(by_model.total, measure),
            notes=_notes(facts, by_model),
            sections=[*_ledger_sections(look, own, by_model, measure), *_content_sections(look, facts)],
            made=(made or datetime.now(UTC)).astimezone(UTC).isoformat("T", "minutes"),
        )


def _numbers(total: LedgerLine, measure: Measure) -> list[Number]:
    if not _is_entered(total):
        return []
    reused = _text.share(total.reused, total.bought + total.reused)
    numbers = [
        Number("asked", "asked", _text.brief(total.asked), total.asked, f"in {_text.brief(total.requests)} requests"),
        Number("bought", "bought", _text.brief(total.bought), total.bought, "samples"),
        Number("reused", "reused", reused, total.reused, f"{_text.count(total.reused)} samples"),
    ]
    if measure is SAMPLES:  # they are there already
        return numbers
    money = measure is DOLLARS
    tokens = f"{_text.brief(total.tokens_spent)} tokens" if money else "tokens"
    waiting = f"{_text.duration(total.seconds_saved)} of waiting" if total.seconds_saved else ""
    amounts = [
        ("spent", "spent", measure.spent(total), tokens),
        ("saved", "saved" if money else "tokens saved", measure.saved(total), waiting),
        ("without", "without the cache", measure.without(total), "it would have been" if money else "tokens"),
    ]
    return numbers + [
        Number(name, label, _text.NONE if amount is None else measure.brief(amount), amount, note)
        for name, label, amount, note in amounts
    ]


def _is_entered(total: LedgerLine) -> bool:
    """Whether any run has left something in the ledger."""
    return total.requests + total.bought > 0


def _notes(facts: Facts, by_model: Ledger) -> list[str]:
    """What a reader must know so as not to be misled."""
    total = by_model.total
    if not facts.prompts:
        return ["This cache is empty: nothing has been bought yet."]
    if not _is_entered(total):
        return [
            "No run has been entered in the ledger of this cache: its samples were bought by a version that kept none,"
            " or by a run that is still going. What was asked and saved is counted from the next run on."
        ]
    notes: list[str] = []
    if total.bought < facts.samples:
        notes.append(
            f"The ledger tells of {_text.count(total.bought)} of the {_text.count(facts.samples)} samples. The others"
            " were bought before it began, or by runs that are still going or were killed."
        )
    unpriced = [line.name for line in by_model if line.cost_without is None]
    if unpriced and total.cost_without is not None:
        notes.append(f"No price is known of {_text.short(', '.join(unpriced), 200)}: sums of dollars leave it out.")
    return notes


def _ledger_sections(look: Look, own: Mapping[str, Price], by_model: Ledger, measure: Measure) -> list[Section]:
    by_run, by_namespace = ledger_of(look, "run", own), ledger_of(look, "namespace", own)
    if not by_run:
        return []
    started = {row[0]: row[1] for row in look.rows(_STARTED)}
    time = steps(by_run, started)
    return [
        Section(
            "time",
            "Over time",
            "What is asked again is not bought again: the wider the gap, the more the cache has saved.",
            # Without prices and tokens both would show the same.
            [reuse_over_time(time)] if measure is SAMPLES else [reuse_over_time(time), cost_over_time(time, measure)],
            [runs_table(by_run, started, measure), models_table(by_model, measure)],
        ),
        Section(
            "namespaces",
            "By namespace",
            _MARGINAL + (_AVERAGE if any(measure.average(line) is not None for line in by_namespace) else ""),
            [cost_by_namespace(by_namespace, measure)],
            [namespaces_table(by_namespace, measure)],
        ),
    ]


def _content_sections(look: Look, facts: Facts) -> list[Section]:
    if not facts.samples:
        return []
    count_draws(look)
    prompts = most_used(look, COLUMNS)
    counts = [
        histogram(
            samples_per_prompt(look),
            "samples-per-prompt",
            "Samples per prompt",
            "samples",
            "Samples bought for each prompt",
        )
    ]
    if not prompts:
        return [Section("prompts", "Prompts", "", counts)]
    shared = histogram(
        namespaces_per_prompt(look),
        "namespaces-per-prompt",
        "Namespaces per prompt",
        "namespaces",
        "Namespaces that drew each prompt",
    )
    return [
        Section(
            "prompts", "Prompts", "What namespaces have in common is bought once for all of them.", [*counts, shared]
        ),
        Section(
            "map",
            "Who drew what",
            "",
            [map_of(look, prompts, facts.prompts)],
            [prompts_table(prompts[:AT_ONCE], 1, "prompts-first", "The most used prompts")],
            [prompts_table(prompts[AT_ONCE:], AT_ONCE + 1, "prompts-rest", "More prompts of the map")]
            if len(prompts) > AT_ONCE
            else [],
        ),
    ]


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(count=_text.count, size=_text.size, moment=_text.moment, clean=_text.clean)
