"""`cachesaver verify`, `salvage` and `reject`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._saying import as_json, cache, plain_errors, say_json

if TYPE_CHECKING:
    from .._verify import Findings


@click.command(short_help="Check that a cache is whole.")
@cache()
@as_json
def verify(cache: Path, as_json: bool) -> None:
    """Check every page, checksum, key and reference of CACHE; ends with 1 if something is damaged.

    The file is only read: nothing is repaired in place. Where a manifest lies beside it (see
    slice), the file must be what the manifest says.
    """
    from .._copying import differing_from_manifest
    from .._verify import verify as check

    with plain_errors():
        findings = check(cache)
        if not findings.problems:
            findings.problems += differing_from_manifest(cache)
    _tell(findings, as_json, "whole")


@click.command(short_help="Copy what is whole of a damaged cache.")
@cache()
@cache("new")
@as_json
def salvage(cache: Path, new: Path, as_json: bool) -> None:
    """Copy what is whole of CACHE into a new cache, NEW; ends with 1 if something was not."""
    from .._verify import salvage as save

    with plain_errors():
        findings = save(cache, new)
    _tell(findings, as_json, "saved")


@click.command(short_help="Mark samples so that nobody gets them again.")
@cache()
@click.argument("prompt", type=int)
@click.argument("positions", type=int, nargs=-1, required=True)
@click.option("--reason", default="rejected by hand", show_default=True, help="Why; it is kept with the sample.")
@as_json
def reject(cache: Path, prompt: int, positions: tuple[int, ...], reason: str, as_json: bool) -> None:
    """Mark samples, at POSITIONS of the prompt with the number PROMPT (see ls), so that nobody gets them again.

    Programs that drew them draw anew in their next run; all other samples stay where they are.
    """
    from .._finding import key_of
    from .._looking import looking
    from .._opening import open_store
    from .._records import Rejected

    with plain_errors():
        with looking(cache) as look:
            key = key_of(look, prompt)
        store = open_store(cache)
        try:
            marks = [Rejected(key, position, reason) for position in positions]
            unknown = store.settle([], [], marks, sole=False).unknown
        finally:
            store.close()
    if unknown:
        missing = ", ".join(str(one.position) for one in unknown)
        raise click.ClickException(f"prompt {prompt} has no sample {missing}; the others were rejected")
    if as_json:
        say_json({"prompt": prompt, "rejected": list(positions)})
    else:
        click.echo(f"{len(positions)} rejected")


def _tell(findings: Findings, as_json: bool, word: str) -> None:
    if as_json:
        say_json({word: findings.whole, "problems": findings.problems})
    else:
        click.echo(", ".join(f"{count} {table} {word}" for table, count in findings.whole.items()))
        for problem in findings.problems:
            click.echo(problem, err=True)
    if findings.problems:
        raise SystemExit(1)
