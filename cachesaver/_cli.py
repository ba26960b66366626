"""The command line. It loads what a command needs only when that command runs."""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ._errors import CacheError

if TYPE_CHECKING:
    from ._verify import Findings


@click.group()
@click.version_option(package_name="cachesaver")
def main() -> None:
    """Independent samples of language models, bought once and reused for ever."""


@main.command()
@click.option("--openai", "hosted", is_flag=True, help="Ask the API of OPENAI_BASE_URL, with OPENAI_API_KEY. It costs.")
@click.option("--model", help="The model to ask there.  [default: gpt-4.1-nano]")
@click.option("--cache", "path", type=click.Path(), help="Where to keep the samples; else they are dropped at the end.")
def demo(hosted: bool, model: str | None, path: str | None) -> None:
    """Run a small ablation on a real language model, run it again, and compare.

    The model runs on this machine, with no key and no network.
    """
    if model and not hosted:
        raise click.UsageError("--model goes with --openai: the local server has one model only")
    try:
        from ._demo._main import run
    except ImportError as error:
        raise click.ClickException(f"{error}. The demo needs: pip install 'cachesaver[demo]'") from error
    with ExitStack() as stack:
        folder = path or stack.enter_context(tempfile.TemporaryDirectory())
        run(folder, (model or "gpt-4.1-nano") if hosted else None)


@main.command()
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def verify(cache: Path, as_json: bool) -> None:
    """Check every page, checksum, key and reference of CACHE; ends with 1 if something is damaged.

    The file is only read: nothing is repaired in place.
    """
    from ._verify import verify as check

    try:
        _tell(check(_file(cache)), as_json, "whole")
    except CacheError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.argument("cache", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def salvage(cache: Path, new: Path, as_json: bool) -> None:
    """Copy what is whole of CACHE into a new cache, NEW; ends with 1 if something was not."""
    from ._verify import salvage as save

    try:
        _tell(save(_file(cache), _file(new)), as_json, "saved")
    except CacheError as error:
        raise click.ClickException(str(error)) from error


def _file(path: Path) -> Path:
    """The database file that a user means by *path*, as `Cache` reads it."""
    return path if path.suffix == ".db" else path / "cache.db"


def _tell(findings: Findings, as_json: bool, word: str) -> None:
    if as_json:
        click.echo(json.dumps({word: findings.whole, "problems": findings.problems}))
    else:
        click.echo(", ".join(f"{count} {table} {word}" for table, count in findings.whole.items()))
        for problem in findings.problems:
            click.echo(problem, err=True)
    if findings.problems:
        raise SystemExit(1)
