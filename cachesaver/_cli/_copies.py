"""`cachesaver export`, `import`, `merge`, `slice` and `prune`: samples on their way from file to file."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from ._saying import as_json, cache, plain_errors, progress, say_json

if TYPE_CHECKING:
    from .._adding import Added
    from .._copying import Contents
    from .._stored import StoredSample

_DAYS = {"d": 1, "w": 7, "y": 365}


def age(given: str) -> str:
    """The moment before which something is as old as *given*: 90d, 12w, 1y, or the date itself."""
    if match := re.fullmatch(r"(\d+)([dwy])", given):
        try:
            moment = datetime.now(UTC) - timedelta(days=int(match[1]) * _DAYS[match[2]])
        except OverflowError:
            raise click.BadParameter(f"{given!r} is longer ago than there are dates") from None
        return moment.isoformat(timespec="milliseconds")
    try:
        moment = datetime.fromisoformat(given)
        local = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        return local.isoformat(timespec="milliseconds")
    except ValueError:
        raise click.BadParameter(f"{given!r} is no age such as 90d, 12w or 1y, and no date") from None


namespaces = click.option("--namespace", "namespaces", multiple=True, help="One, or a pattern such as 'run-1/*'.")
scopes = click.option("--scope", "scopes", multiple=True, help="A model or path, or a pattern: 'api.openai.com/*'.")


@click.command("export", short_help="Write samples as JSON lines.")
@cache()
@click.argument("out", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@namespaces
@scopes
def export_samples(cache: Path, out: str, namespaces: tuple[str, ...], scopes: tuple[str, ...]) -> None:
    """Write the samples of CACHE as JSON lines, one for each sample, to OUT or to standard output."""
    from .._looking import looking
    from .._selection import Selection
    from .._stored import stored_samples, to_line

    selection = Selection(namespaces, scopes)
    with plain_errors(), looking(cache) as look, _written(out, cache) as lines:
        total = look.value("SELECT count(*) FROM samples")
        with progress("exporting", total if out != "-" else None) as step:
            for sample in stored_samples(look):
                if (meant := selection.only(sample)) is not None:
                    lines.write(f"{to_line(meant)}\n")
                step(1)


@click.command("import", short_help="Add samples from JSON lines.")
@cache()
@click.argument("lines", type=click.File(encoding="utf-8"), default="-")
@as_json
def import_samples(cache: Path, lines: IO[str], as_json: bool) -> None:
    """Add samples from JSON lines to CACHE, which is made if it is missing.

    A line needs "scope", "prompt" and "answer"; all else that export writes is kept where it is given. What is
    there already (the same answer, bought at the same moment) is not doubled, and nothing that is there changes.
    """
    from .._adding import add

    with plain_errors(), progress("importing") as step:
        added = add(cache, _read(lines), step, grouped=False)
    _tell(added, as_json)


@click.command(short_help="Add to a cache what only others hold.")
@cache("into")
@click.argument("sources", type=click.Path(path_type=Path), nargs=-1, required=True)
@as_json
def merge(into: Path, sources: tuple[Path, ...], as_json: bool) -> None:
    """Add to the cache INTO what only SOURCES hold: samples, who drew them, and their ledgers.

    What INTO holds stays as it is, position by position; programs that ran on either get their samples again,
    but for draws that both have recorded: there INTO counts. Merging again adds nothing.
    """
    from .._copying import merge as merged
    from .._looking import looking

    for source in sources:
        path = source if source.suffix == ".db" else source / "cache.db"
        with plain_errors():
            with looking(path) as look:
                total = look.value("SELECT count(*) FROM samples")
            with progress(f"merging {source}", total) as step:
                added = merged(into, path, step)
        _tell(added, as_json)


@click.command("slice", short_help="Copy just what a run or a namespace used, to publish it.")
@cache()
@cache("new")
@click.option("--run", help="Only the namespaces of this run; stats --by run names them.")
@namespaces
@scopes
@as_json
def cut(
    cache: Path, new: Path, run: str | None, namespaces: tuple[str, ...], scopes: tuple[str, ...], as_json: bool
) -> None:
    """Copy just what a run or some namespaces used into NEW: the file to publish beside a paper.

    Samples keep their positions, so that the program runs from NEW alone, offline. Beside it a manifest says
    what was taken and what it hashes to; verify compares.
    """
    from .._copying import cut as cut_out
    from .._copying import manifest_of
    from .._selection import Selection

    if not (run or namespaces or scopes):
        raise click.UsageError("say what to take: --run, --namespace or --scope")
    if run and namespaces:
        raise click.UsageError("--run names its namespaces itself: give one of --run and --namespace")
    with plain_errors(), progress("copying") as step:
        manifest = cut_out(cache, new, Selection(namespaces, scopes), run, step)
    if as_json:
        say_json(manifest)
        return
    click.echo(f"{manifest['samples']} samples of {manifest['prompts']} prompts in {new}")
    click.echo(f"{manifest['content_sha256']} is what they hash to, as {manifest_of(new)} says")


@click.command(short_help="Copy a cache without what is old or not needed.")
@cache()
@cache("new")
@click.option("--older-than", "before", type=age, help="What was bought longer ago: 90d, 12w, 1y, or before a date.")
@namespaces
@scopes
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def prune(
    cache: Path,
    new: Path,
    before: str | None,
    namespaces: tuple[str, ...],
    scopes: tuple[str, ...],
    yes: bool,
    as_json: bool,
) -> None:
    """Copy CACHE into NEW without what all of the options say, which is shown first. CACHE stays as it is.

    With --namespace, what is taken away is who drew a sample there, and a sample that nobody else drew.
    """
    from .._copying import plan
    from .._copying import prune as pruned
    from .._selection import Selection

    if not (before or namespaces or scopes):
        raise click.UsageError("say what to take away: --older-than, --namespace or --scope")
    selection = Selection(namespaces, scopes, before)
    with plain_errors():
        if new.exists():
            raise click.ClickException(f"{new} exists already. Choose another name for the new cache.")
        kept, gone = plan(cache, selection)
    if as_json:
        say_json({"kept": asdict(kept), "gone": asdict(gone), "written": yes})
    else:
        click.echo(f"taken away: {_counted(gone)}\nkept:       {_counted(kept)}")
    if not yes:
        if as_json or not sys.stdin.isatty():
            click.echo("Nothing was written: add --yes to do it.", err=True)
            return
        click.confirm(f"Write {new}?", abort=True)
    with plain_errors(), progress("copying", kept.samples) as step:
        pruned(cache, new, selection, step)


@contextmanager
def _written(out: str, cache: Path) -> Generator[IO[str]]:
    """A file that has its name only when it is whole; never the cache itself."""
    if out == "-":
        yield sys.stdout
        return
    path = Path(out)
    if path.exists() and path.samefile(cache):
        raise ValueError(f"{path} is the cache itself: choose another name for the lines")
    with click.open_file(out, "w", encoding="utf-8", atomic=True) as lines:
        yield lines


def _read(lines: Iterable[str]) -> Iterator[StoredSample]:
    from .._stored import from_line

    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield from_line(line)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"line {number}: {error}. Lines before it may have been added; mend it and import again, which"
                    " doubles nothing that says when it was bought."
                ) from error


def _tell(added: Added, as_json: bool) -> None:
    if as_json:
        say_json(asdict(added))
        return
    moved = f" ({added.moved} at another position, for theirs was taken)" if added.moved else ""
    click.echo(f"{added.samples} samples added{moved}, {added.known} were there; {added.prompts} new prompts")
    refused = f"; {added.refused} not, for the cache has other samples for those draws" if added.refused else ""
    click.echo(f"{added.assignments} assignments added{refused}")


def _counted(contents: Contents) -> str:
    cost = "" if contents.cost is None else f", which cost ${contents.cost:,.2f}"
    return f"{contents.samples:,} samples of {contents.prompts:,} prompts, {contents.assignments:,} assignments{cost}"
