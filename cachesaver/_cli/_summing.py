"""`cachesaver stats` and `report`: what a cache holds, saved and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ._saying import as_json, cache, console, plain_errors, say_json

if TYPE_CHECKING:
    from .._ledger import By

MOST = {"run": 10, "model": 20, "namespace": 20}  #: lines of each table


@click.command(short_help="What a cache holds, what it saved, and what it cost.")
@cache()
@click.option("--by", type=click.Choice(["model", "run", "namespace"]), help="Only this table, with all its lines.")
@click.option("--prices", type=click.File(), help='JSON: {"model": [input, output]}, US dollars a million tokens.')
@as_json
def stats(cache: Path, by: By | None, prices: Any, as_json: bool) -> None:
    """What is in CACHE, what was asked, bought and reused, and what it cost.

    Marginal is what was bought for a line, given what the cache held already; average is the cost of the
    samples that a namespace drew, in equal parts among all that drew them; without cache is what the same
    requests would have cost had nothing been reused.
    """
    from .._ledger import ledger_of
    from .._looking import looking
    from .._overview import overview
    from .._prices import AS_OF, checked

    with plain_errors(), looking(cache) as look:
        own = checked(json.load(prices)) if prices else {}
        kinds: list[By] = ["model", "run", "namespace"] if by is None else [by]
        ledgers = {kind: ledger_of(look, kind, own) for kind in kinds}
        about = overview(look)
    if as_json:
        say_json({**about, **{f"by_{kind}": ledger.as_dicts() for kind, ledger in ledgers.items()}})
        return
    say = console()
    if by is None:
        say.print(_counted(about))
    for kind, ledger in ledgers.items():
        say.print(ledger.table(None if by else MOST[kind]))
    say.print(f"prices: {'as given, else ' if own else ''}as of the run; the table of models is of {AS_OF}")


@click.command(short_help="The same as one HTML page, with figures.")
@cache()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False), default="report.html")
@click.option("--prices", type=click.File(), help="As for stats.")
@as_json
def report(cache: Path, out: Path, prices: Any, as_json: bool) -> None:
    """Write what CACHE holds and what it saved as one HTML page with figures, OUT [default: report.html].

    The page is whole: it fetches nothing, runs no script, and prints.
    """
    try:
        from .._report import report as written
    except ImportError as error:
        raise click.ClickException(str(error)) from error
    with plain_errors():
        page = written(cache, json.load(prices) if prices else None)
        out.write_text(page, encoding="utf-8")
    if as_json:
        say_json({"report": str(out), "bytes": len(page.encode())})
    else:
        click.echo(f"{out}: {len(page.encode()) / 1000:,.0f} kB; open it in any browser")


def _counted(about: dict[str, Any]) -> str:
    counts = ", ".join(f"{about[name]:,} {name}" for name in ("prompts", "samples", "rejected", "namespaces", "runs"))
    first, last = (str(about[name])[:10] for name in ("first_bought", "last_bought"))
    return f"{counts}; {about['bytes'] / 1e6:,.1f} MB" + (f"; bought {first} to {last}" if about["samples"] else "")
