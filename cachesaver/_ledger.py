"""The ledger of a cache file: what was asked, bought and reused, by namespace, model or run, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from ._looking import Look, looking
from ._prices import Price, checked, cost, find_price

if TYPE_CHECKING:
    from rich.table import Table

By = Literal["namespace", "model", "run"]

_NAMES = {"namespace": "namespaces.name", "model": "ledger.model", "run": "runs.name || ' ' || runs.program"}
_LINES = """
SELECT {name} AS name, ledger.model AS model, min(ledger.id) AS first,
    sum(requests) AS requests, sum(asked) AS asked, sum(bought) AS bought, sum(reused) AS reused,
    sum(input_tokens_spent) AS input_tokens_spent, sum(output_tokens_spent) AS output_tokens_spent,
    sum(input_tokens_saved) AS input_tokens_saved, sum(output_tokens_saved) AS output_tokens_saved,
    sum(seconds_spent) AS seconds_spent, sum(seconds_saved) AS seconds_saved,
    sum(cost_spent) AS cost_spent, sum(cost_saved) AS cost_saved
FROM ledger JOIN runs ON runs.id = run_id JOIN namespaces ON namespaces.id = namespace_id
GROUP BY {name}, ledger.model ORDER BY first"""
_SHARES = """
WITH drawn AS (SELECT DISTINCT namespace_id, prompt_id, position FROM assignments),
sharers AS (SELECT prompt_id, position, count(*) AS number FROM drawn GROUP BY prompt_id, position)
SELECT namespaces.name, sum(cost / number)
FROM drawn JOIN sharers USING (prompt_id, position) JOIN samples USING (prompt_id, position)
JOIN namespaces ON namespaces.id = namespace_id
GROUP BY namespace_id"""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """What one namespace, model or run asked, over all its runs. Costs are US dollars, None where no price is known.

    `cost_spent` is what was bought for it: its *marginal* cost, given what the cache held already.
    `cost_shared` is its *average* cost: that of each sample it drew, in equal parts among the namespaces
    that drew it (by namespace only). `cost_spent + cost_saved` is what it would have cost without the cache.
    """

    name: str
    requests: int = 0
    asked: int = 0  #: samples
    bought: int = 0
    reused: int = 0
    input_tokens_spent: int = 0
    output_tokens_spent: int = 0
    input_tokens_saved: int = 0
    output_tokens_saved: int = 0
    seconds_spent: float = 0.0  #: of the model
    seconds_saved: float = 0.0
    cost_spent: float | None = None
    cost_saved: float | None = None
    cost_shared: float | None = None

    @property
    def cost_without(self) -> float | None:
        """What it would have cost without the cache."""
        return _plus(self.cost_spent, self.cost_saved)

    @property
    def tokens_spent(self) -> int:
        """Of input and output together."""
        return self.input_tokens_spent + self.output_tokens_spent

    @property
    def tokens_saved(self) -> int:
        """Of input and output together."""
        return self.input_tokens_saved + self.output_tokens_saved

    def __add__(self, other: LedgerLine) -> LedgerLine:
        names = [field.name for field in fields(self) if field.name != "name"]
        figures: list[Any] = [_plus(getattr(self, name), getattr(other, name)) for name in names]
        return LedgerLine(self.name, *figures)


class Ledger(Sequence[LedgerLine]):
    """The lines of a ledger in the order in which they were begun, and their `total`. Prints as a table, with rich."""

    def __init__(self, by: By, lines: Sequence[LedgerLine]) -> None:
        self.by: By = by
        self._lines = lines
        self.total = sum(lines, LedgerLine("total"))

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> LedgerLine: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LedgerLine]: ...
    def __getitem__(self, index: int | slice) -> LedgerLine | Sequence[LedgerLine]:
        return self._lines[index]

    def __repr__(self) -> str:
        return f"<Ledger of {len(self)} by {self.by}: {self.total.bought} bought, {self.total.reused} reused>"

    def as_dicts(self) -> list[dict[str, Any]]:
        """Its lines for JSON."""
        return [{self.by: line.name, **without_name(line)} for line in self]

    def table(self, most: int | None = None) -> Table:
        """A table for `rich.print`, of the *most* expensive lines, or of all."""
        from ._ledger_table import table

        return table(self, most)

    def __rich__(self) -> Table:
        return self.table()

    def __str__(self) -> str:
        from ._ledger_table import text

        return text(self)


def without_name(line: LedgerLine) -> dict[str, Any]:
    """The figures of a line, and what follows from them."""
    figures = asdict(line)
    del figures["name"]
    return figures | {"cost_without": line.cost_without}


def read_ledger(path: Path, by: By = "namespace", *, prices: Mapping[str, tuple[float, float]] | None = None) -> Ledger:
    """The ledger of the cache file at *path*; with *prices*, at these instead of what was known at the time."""
    if by not in get_args(By):
        raise ValueError(f"by must be one of {', '.join(get_args(By))}; not {by!r}")
    with looking(path) as look:
        return ledger_of(look, by, checked(prices or {}))


def ledger_of(look: Look, by: By, prices: Mapping[str, Price]) -> Ledger:
    """The ledger of a cache file that is open; *prices* of models take the place of what was known at the time."""
    lines: dict[str, LedgerLine] = {}
    for line in _lines(look, by, prices):
        known = lines.get(line.name)
        lines[line.name] = line if known is None else known + line
    if by == "namespace" and not prices:
        shares = {str(row[0]): row[1] for row in look.rows(_SHARES)}
        return Ledger(by, [_shared(line, shares.get(line.name)) for line in lines.values()])
    return Ledger(by, list(lines.values()))


def _lines(look: Look, by: By, prices: Mapping[str, Price]) -> Iterator[LedgerLine]:
    names = [field.name for field in fields(LedgerLine) if field.name != "cost_shared"]
    for row in look.rows(_LINES.format(name=_NAMES[by])):
        figures: dict[str, Any] = {name: row[name] for name in names}
        price = find_price(str(row["model"]), prices) if prices else None
        if price is not None:
            for kind in ("spent", "saved"):
                tokens = (row[f"input_tokens_{kind}"], row[f"output_tokens_{kind}"])
                figures[f"cost_{kind}"] = cost(price, *tokens)
        yield LedgerLine(**figures)


def _shared(line: LedgerLine, share: float | None) -> LedgerLine:
    return replace(line, cost_shared=share)


def _plus(one: Any, other: Any) -> Any:
    """The sum; None where both are unknown."""
    return one if other is None else other if one is None else one + other
