"""Whole caches: merged into one another, and copied in part into a new file with a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import file_digest, sha256
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, cast

from . import _statements as sql
from ._adding import Added, add
from ._errors import CacheUnavailable
from ._files import beside
from ._looking import PAGE, Look, looking
from ._opening import open_store
from ._prompt import Prompt, decode
from ._records import Entry, Run
from ._selection import Selection
from ._stored import StoredSample, stored_samples, to_line

MANIFEST = ".manifest.json"  #: behind the name of the file that it describes
_LEDGER = f"""
SELECT ledger.id, runs.name, program, started_at, namespaces.name, {", ".join(Entry._fields[2:])}, entered_at
FROM ledger JOIN runs ON runs.id = run_id JOIN namespaces ON namespaces.id = namespace_id
WHERE ledger.id > ? ORDER BY ledger.id"""

Step = Callable[[int], None]  # is told of how many samples more are done
Choice = Callable[[StoredSample], StoredSample | None]


@dataclass
class Contents:
    """How much of a cache is meant."""

    prompts: int = 0
    samples: int = 0
    assignments: int = 0
    cost: float | None = None  #: US dollars, where it is known

    def count(self, sample: StoredSample, *, new_prompt: bool) -> None:
        """One more."""
        self.prompts += new_prompt
        self.samples += 1
        self.assignments += len(sample.uses)
        if sample.cost is not None:
            self.cost = (self.cost or 0.0) + sample.cost


def merge(into: Path, source: Path, step: Step) -> Added:
    """Add to the cache *into* what only *source* holds; *source* stays as it is. Raises `CacheError`."""
    if into.exists() and source.exists() and into.samefile(source):
        raise CacheUnavailable(f"{into} and {source} are the same file: there is nothing to merge")
    with looking(source) as look:
        added = add(into, stored_samples(look), step, grouped=True)
        _add_ledger(into, _ledger_entries(look))
    return added


def plan(path: Path, selection: Selection) -> tuple[Contents, Contents]:
    """What of the cache at *path* would be kept, and what would go, if *selection* were pruned."""
    kept, gone = Contents(), Contents()
    with looking(path) as look:
        last: dict[int, tuple[str, str]] = {}
        for sample in stored_samples(look):
            left = selection.without(sample)
            contents, one = (gone, sample) if left is None else (kept, left)
            prompt = (sample.scope, sample.prompt)
            contents.count(one, new_prompt=last.get(id(contents)) != prompt)
            last[id(contents)] = prompt
            if left is not None:
                gone.assignments += len(sample.uses) - len(left.uses)
    return kept, gone


def prune(path: Path, new: Path, selection: Selection, step: Step) -> Added:
    """Copy the cache at *path* without what *selection* names into a new one, with all of its ledger."""
    return _copied(path, new, selection.without, None, step)


def cut(path: Path, new: Path, selection: Selection, run: str | None, step: Step) -> dict[str, Any]:
    """Copy only what *selection* names into a new cache, and write a manifest beside it, which is returned.

    With *run*, the namespaces are those that this run asked in. Of the ledger come the lines of the namespaces
    and models that are copied. Raises `CacheUnavailable` if nothing is meant: then nothing is written.
    """
    if run is not None:
        selection = replace(selection, namespaces=_namespaces_of(path, run), exactly=True)
    _copied(path, new, selection.only, run or "", step)
    scopes, before = list(selection.scopes), selection.bought_before
    told = {"from": path.name, "run": run, "namespaces": sorted(selection.namespaces), "scopes": scopes}
    made = {"made_by": f"cachesaver {version('cachesaver')}", "made_at": _now(), "selection": told}
    manifest = {**made, **({"bought_before": before} if before else {}), **described(new)}
    manifest_of(new).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def described(path: Path) -> dict[str, Any]:
    """What a manifest says of the cache at *path*: its size, and two digests.

    `content_sha256` is that of what `cachesaver export` prints, whatever the pages of the file look like.
    """
    contents, digest, last = Contents(), sha256(), None
    with looking(path) as look:
        for sample in stored_samples(look):
            contents.count(sample, new_prompt=(prompt := (sample.scope, sample.prompt)) != last)
            digest.update(f"{to_line(sample)}\n".encode())
            last = prompt
        scopes = [row[0] for row in look.rows("SELECT DISTINCT scope FROM prompts ORDER BY scope")]
        namespaces = [row[0] for row in look.rows("SELECT name FROM namespaces ORDER BY name")]
    with path.open("rb") as file:
        whole = file_digest(file, "sha256").hexdigest()
    return {
        **asdict(contents),
        "scopes": scopes,
        "namespaces": namespaces,
        "content_sha256": digest.hexdigest(),
        "file_sha256": whole,
    }


def manifest_of(path: Path) -> Path:
    """Where the manifest of a cache lies, if it has one."""
    return beside(path, MANIFEST)


def differing_from_manifest(path: Path) -> list[str]:
    """In what the cache at *path* is not what its manifest says; nothing if it has none."""
    manifest = manifest_of(path)
    if not manifest.exists():
        return []
    told = json.loads(manifest.read_text(encoding="utf-8"))
    if not isinstance(told, dict):
        return [f"{manifest.name} is no manifest"]
    said, found = cast("dict[str, Any]", told), described(path)
    return [
        f"{manifest.name} says {name} {said.get(name)}, and the file has {found[name]}"
        for name in ("prompts", "samples", "assignments", "content_sha256")
        if said.get(name) != found[name]
    ]


def _copied(path: Path, new: Path, choose: Choice, run: str | None, step: Step) -> Added:
    """*run* is that whose lines of the ledger are copied, "" for all that have to do with what is copied."""
    if new.exists():
        raise CacheUnavailable(f"{new} exists already; nothing was written. Choose another name for the new cache.")
    models: set[str] = set()

    def chosen(samples: Iterable[StoredSample]) -> Iterator[StoredSample]:
        for sample in samples:
            if (left := choose(sample)) is not None:
                models.add(Prompt(decode(left.prompt)).model(left.scope))
                yield left

    with looking(path) as look:
        samples = chosen(stored_samples(look))
        first = next(samples, None)
        if first is None and run is not None:
            raise CacheUnavailable(f"nothing in {path} is meant by that; nothing was written")
        try:
            added = add(new, chain([] if first is None else [first], samples), step, grouped=True)
            entries = _ledger_entries(look)
            if run is not None:
                names = _names(new)
                entries = ((e, at) for e, at in entries if run in ("", e.run.name) and e.namespace in names)
                entries = ((e, at) for e, at in entries if e.model in models)
            _add_ledger(new, entries)
        except BaseException:  # half a cache is worse than none
            for file in (new, *(beside(new, suffix) for suffix in ("-journal", ".lock"))):
                file.unlink(missing_ok=True)
            raise
    return added


def _names(path: Path) -> set[str]:
    with looking(path) as look:
        return {row[0] for row in look.rows("SELECT name FROM namespaces")}


def _ledger_entries(look: Look) -> Iterator[tuple[Entry, str]]:
    for page in look.pages(_LEDGER):
        for _, name, program, started_at, *fields, entered_at in page:
            yield Entry(Run(name, program, started_at), *fields), entered_at


def _add_ledger(path: Path, entries: Iterable[tuple[Entry, str]]) -> None:
    """Add lines of a ledger, but for those that are there already."""
    with looking(path) as look:
        known = {(entry.run.name, entry.namespace, entry.model, at) for entry, at in _ledger_entries(look)}
    news = [(e, at) for e, at in entries if (e.run.name, e.namespace, e.model, at) not in known]
    with closing(open_store(path)) as store:
        for start in range(0, len(news), PAGE):
            with store.writing() as (connection, _):
                for entry, at in news[start : start + PAGE]:
                    connection.execute(sql.ADD_RUN, entry.run)
                    connection.execute(sql.ADD_NAMESPACE, (entry.namespace,))
                    connection.execute(sql.ADD_ENTRY, (entry.run.name, *entry[1:], at))


def _namespaces_of(path: Path, run: str) -> frozenset[str]:
    with looking(path) as look:
        rows = look.rows(
            "SELECT DISTINCT namespaces.name FROM ledger JOIN runs ON runs.id = run_id"
            " JOIN namespaces ON namespaces.id = namespace_id WHERE runs.name = ?",
            (run,),
        )
    if not rows:
        raise CacheUnavailable(f"{path} knows no run {run!r}. The runs it knows: cachesaver stats {path} --by run")
    return frozenset(row[0] for row in rows)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
