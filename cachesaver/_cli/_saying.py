"""What commands have in common: which file is meant, how results are printed, and how errors end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .._errors import CacheError

if TYPE_CHECKING:
    from rich.console import Console

Command = TypeVar("Command", bound=Callable[..., Any])

WIDE = 200  #: columns where there is no terminal

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def cache(name: str = "cache") -> Callable[[Command], Command]:
    """An argument that is a cache, by its folder or its file."""
    return click.argument(name, type=cache_file, metavar=name.upper())


def cache_file(given: str) -> Path:
    """The database file that a user means, as `Cache` reads it."""
    path = Path(given).expanduser()
    return path if path.suffix == ".db" else path / "cache.db"


@contextmanager
def plain_errors() -> Generator[None]:
    """What is wrong with a cache or with what was given ends the command with a message and status 1."""
    try:
        yield
    except BrokenPipeError:  # whoever read has read enough: click knows what to do
        raise
    except (CacheError, OSError, ValueError, TypeError, OverflowError) as error:
        raise click.ClickException(str(error)) from error


def say_json(value: Any) -> None:
    """Print *value* as JSON."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def console() -> Console:
    """Where tables are printed."""
    from rich.console import Console

    wide = None if os.isatty(1) or "COLUMNS" in os.environ else WIDE
    return Console(width=wide, highlight=False)


@contextmanager
def progress(what: str, total: int | None = None) -> Generator[Callable[[int], None]]:
    """A bar on standard error where that is a terminal; gives a function that is told how much more is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    errors = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bar = Progress(*columns, TimeRemainingColumn(), console=errors, transient=True, disable=not errors.is_terminal)
    with bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
