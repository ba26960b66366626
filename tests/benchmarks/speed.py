"""How fast a request is, ours and its peers', side by side in one run; and how it grows.

    python -m tests.benchmarks.speed [--only PART] [--short]

*The cache*: chat prompts of 1.6 kB, no two alike, and answers of 1 kB from a model that answers at
once. *Cold*, the cache is a new file; *disk*, a new process asks the same again; *memory*, a
running one asks again, ours in a new namespace; *map*, the same by `map`. Ours goes through
`online(model, cache)` with 100 requests in flight, as does the predecessor's `OnlineAPI`; dspy's
and diskcache's caches are asked synchronously, as is a bare table of SQLite, which is about
the least that a lookup takes. *Layers*: ours alone, what each layer of the stack adds to a request.

*The batcher*: a Batcher alone over a model that answers at once, and batchers in front of a
function, 64 items a batch, by 100 tasks and by `map` or its like. *Growth*: ours alone, and
`--only large` for what takes ten minutes and some GB of disk (not part of a run without `--only`).

Each measurement is a process of its own, the contenders take turns, and only ratios within one
run mean something: a slow minute of the machine is everyone's.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from . import _making
from ._environments import NEEDED, PREDECESSOR, ROOT, environment

PEERS = ("diskcache==5.6.3", "batched==0.1.5", "async-batcher==0.2.2", "aiodataloader==0.4.3")
DSPY, SLURRY = "dspy==3.4.1", "Slurry==1.3.1"
IN_FLIGHT, WINDOW = 100, 256
CASES = {"cold": "cold", "disk": "warm from disk", "memory": "warm in memory", "map": "in memory, map"}
BACKENDS = ("asyncio", "trio")
PARTS = ("cache", "layers", "batcher", "growth", "large")

Times = dict[tuple[str, str], list[float]]  #: µs of one request, by contender and case


@dataclass(frozen=True)
class Contender:
    """How one is measured: its command, what every job of it says, and what it can do."""

    name: str
    command: tuple[str, ...]
    job: dict[str, Any]
    cases: tuple[str, ...]

    def measure(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run one worker to its end."""
        command = (*self.command, json.dumps({**job, **self.job}))
        # -I where it matters: neither PYTHONPATH nor the worker's folder is searched for modules.
        finished = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        return json.loads(finished.stdout)


@dataclass
class Goal:
    """What one figure should be."""

    text: str
    value: float
    most: float
    unit: str = "x"

    @property
    def verdict(self) -> str:
        return f"{'met' if self.value <= self.most else 'not met'}: {self.value:.2f} {self.unit} of {self.most:.2f}"


@dataclass
class Run:
    """A run of the benchmark: where, how much, and what has come of it."""

    place: Path
    console: Console
    short: bool
    requests: int
    repeats: int
    goals: list[Goal] = field(default_factory=list)

    def ours(self, backend: str, what: str, cases: tuple[str, ...] = ()) -> Contender:
        command = (sys.executable, "-m", f"{__package__}._ours")
        return Contender(f"ours, {backend}", command, {"what": what, "backend": backend}, cases)

    def goal(self, text: str, value: float, most: float, unit: str = "x") -> None:
        self.goals.append(Goal(text, value, most, unit))


@click.command()
@click.option("--requests", default=10000, show_default=True, help="Requests of each measurement.")
@click.option("--repeats", default=5, show_default=True, help="Measurements of each case.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Parts to run; without it, all but `large`.")
@click.option("--short", is_flag=True, help="400 requests, once, and ours alone: to see that it runs.")
def main(requests: int, repeats: int, only: tuple[str, ...], short: bool) -> None:
    """Microseconds a request, ours and its peers'; and which goals are met."""
    if short:
        requests, repeats = 400, 1
    with TemporaryDirectory(prefix="cachesaver-benchmark-") as name:
        run = Run(Path(name), Console(width=max(120, Console().width)), short, requests, repeats)
        for part in only or PARTS[:-1]:
            {"cache": caches, "layers": layers, "batcher": batchers, "growth": growth, "large": large}[part](run)
        if run.goals:
            run.console.print(verdicts(run.goals))
    run.console.print(facts())


# Peers


def peer(python: str, name: str, cases: tuple[str, ...], worker: str = "_peers_worker.py") -> Contender:
    command = (python, "-I", str(Path(__file__).with_name(worker)))
    return Contender(name, command, {"peer": name}, cases)


def installed(run: Run, name: str, *installs: tuple[str, ...]) -> str:
    """The interpreter of an environment, made when it is first asked for."""
    folder = run.place / name
    if not folder.exists():
        run.console.print(f"installing {', '.join(package for packages in installs for package in packages)} ...")
        return environment(folder, *installs)
    return str(folder / "bin" / "python")


# The cache


def caches(run: Run) -> None:
    contenders = [run.ours(backend, "cache", tuple(CASES)) for backend in BACKENDS]
    contenders.append(peer(sys.executable, "bare SQLite", ("cold", "disk")))
    if not run.short:
        old = installed(run, "predecessor", ("--no-deps", PREDECESSOR), NEEDED)
        contenders += [
            peer(old, PREDECESSOR, ("cold", "disk", "memory"), "_predecessor_worker.py"),
            peer(installed(run, "dspy", (DSPY,)), "dspy", ("cold", "disk", "memory")),
            peer(installed(run, "peers", PEERS), "diskcache", ("cold", "disk")),
        ]
    times = measure_caches(run, contenders)
    title = f"The cache: µs a request, median (min..max) of {run.repeats}; {run.requests} requests"
    run.console.print(table(title, contenders, CASES, times))
    us = {case: {backend: middle(times, f"ours, {backend}", case) for backend in BACKENDS} for case in CASES}
    bare = middle(times, "bare SQLite", "disk")
    for backend in BACKENDS:
        run.goal(f"warm from disk, {backend}: bare SQLite's time", us["disk"][backend] / bare, 1.5)
    if run.short:
        return
    for backend in BACKENDS:
        old = {case: middle(times, PREDECESSOR, case) for case in ("cold", "disk")}
        dspy = {case: middle(times, "dspy", case) for case in ("cold", "disk", "memory")}
        run.goal(f"warm from disk, {backend}: 1/18 of 0.0.6", us["disk"][backend] / old["disk"] * 18, 1)
        run.goal(f"warm from disk, {backend}: 2/3 of dspy", us["disk"][backend] / dspy["disk"] * 1.5, 1)
        run.goal(f"warm in memory, {backend}: dspy's time", us["memory"][backend] / dspy["memory"], 1.25)
        run.goal(f"in memory, map, {backend}: dspy's time", us["map"][backend] / dspy["memory"], 1)
        run.goal(f"cold, {backend}: 1/8 of 0.0.6", us["cold"][backend] / old["cold"] * 8, 1)
        run.goal(f"cold, {backend}: 1/2 of dspy", us["cold"][backend] / dspy["cold"] * 2, 1)


def measure_caches(run: Run, contenders: list[Contender]) -> Times:
    times: Times = {}
    job = {"workload": workload(run.place, run.requests), "in_flight": IN_FLIGHT, "window": WINDOW}
    job["request_ids"] = False
    for repeat in range(run.repeats):
        for case in CASES:
            for number, contender in enumerate(contenders):
                if case not in contender.cases:
                    continue
                # The new file of the cold case is what later ones find; in memory there is one of its own.
                folder = run.place / f"cache-{number}-{repeat}{'-' + case if case in ('memory', 'map') else ''}"
                outcome = contender.measure({**job, "case": case, "folder": str(folder)})
                expected = {"cold": (run.requests,), "disk": (0,)}.get(case, (0, run.requests))
                if outcome["calls"] not in expected:
                    raise click.ClickException(f"{contender.name}, {case}: {outcome['calls']} calls of the model")
                times.setdefault((contender.name, case), []).append(outcome["seconds"] / run.requests * 1e6)
    return times


def workload(place: Path, requests: int) -> str:
    """A file of chat prompts of 1.6 kB, no two alike, and one answer of 1 kB."""
    file = place / f"workload-{requests}.json"
    if not file.exists():
        words = random.Random(7)
        prompts = [
            {
                "model": "gpt-4.1-nano",
                "messages": [
                    {"role": "system", "content": text(words, 500)},
                    {"role": "user", "content": f"{number}: {text(words, 950)}"},
                ],
            }
            for number in range(requests)
        ]
        file.write_text(json.dumps({"prompts": prompts, "answer": text(words, 1000)}), "utf-8")
    return str(file)


def text(words: random.Random, length: int) -> str:
    return " ".join(f"{words.getrandbits(30):x}" for _ in range(length // 8 + 1))[:length]


# Where it goes


def layers(run: Run) -> None:
    job = {"workload": workload(run.place, run.requests), "in_flight": IN_FLIGHT}
    times: dict[str, dict[str, list[float]]] = {backend: {} for backend in BACKENDS}
    for repeat in range(run.repeats):
        for backend in BACKENDS:
            folder = str(run.place / f"layers-{backend}-{repeat}")
            for name, us in run.ours(backend, "layers").measure({**job, "folder": folder}).items():
                times[backend].setdefault(name, []).append(us)
    shown = Table(title=f"Where it goes: µs a request with all layers down to this one, median of {run.repeats}")
    for column in ("", *BACKENDS):
        shown.add_column(column, justify="left" if not column else "right")
    for name in times[BACKENDS[0]]:
        shown.add_row(name, *[f"{median(times[backend][name]):.1f}" for backend in BACKENDS])
    run.console.print(shown)


# The batcher


def batchers(run: Run) -> None:
    both = {"request": "by 100 tasks", "map": "map, or its like"}
    contenders = [run.ours(backend, "batcher", tuple(both)) for backend in BACKENDS]
    if not run.short:
        python = installed(run, "peers", PEERS)
        contenders += [peer(python, name, tuple(both)) for name in ("aiodataloader", "batched", "async-batcher")]
        # Its trio is too old for Python 3.11's end of groups; what it needs of a newer one is the same.
        slurry = installed(run, "slurry", ("--no-deps", SLURRY), ("trio", "async_generator"))
        contenders.append(peer(slurry, "slurry", ("map",)))
    items = run.requests * 5
    times: Times = {}
    for _ in range(run.repeats):
        for case in both:
            for contender in contenders:
                if case in contender.cases:
                    job = {"case": case, "items": items, "in_flight": IN_FLIGHT, "window": WINDOW}
                    seconds = contender.measure(job)["seconds"]
                    times.setdefault((contender.name, case), []).append(seconds / items * 1e6)
    title = f"The batcher: µs an item, median (min..max) of {run.repeats}; {items} items"
    run.console.print(table(title, contenders, both, times))
    if run.short:
        return
    for backend in BACKENDS:
        us = {case: middle(times, f"ours, {backend}", case) for case in both}
        loader = {case: middle(times, "aiodataloader", case) for case in both}
        run.goal(f"batcher, request, {backend}: aiodataloader's time", us["request"] / loader["request"], 3)
        run.goal(f"batcher, map, {backend}: aiodataloader's time", us["map"] / loader["map"], 1)
        for name in ("batched", "async-batcher"):
            for case in both:
                run.goal(f"batcher, {case}, {backend}: {name}'s time", us[case] / middle(times, name, case), 1)
        run.goal(f"batcher, map, {backend}: slurry's time", us["map"] / middle(times, "slurry", "map"), 1)


# Growth


def growth(run: Run) -> None:
    samples = 300 if run.short else 3000
    jobs = {"in_flight": IN_FLIGHT, "samples": samples, "workload": workload(run.place, min(run.requests, 1000))}
    shown = Table(title="Growth, and a request alone")
    for column in ("", *BACKENDS):
        shown.add_column(column, justify="left" if not column else "right")
    rows: dict[str, list[str]] = {}
    for backend in BACKENDS:
        outcome = run.ours(backend, "samples").measure({**jobs, "folder": str(run.place / f"samples-{backend}")})
        for name, value in outcome.items():
            rows.setdefault(f"{samples} samples of one prompt, {name} third", []).append(f"{value:.0f} µs")
        for name in ("bought", "found"):
            value = outcome[f"{name}, last"] / outcome[f"{name}, first"]
            run.goal(f"{samples} samples, {name}, {backend}: last third over first", value, 1.25)
        outcome = run.ours(backend, "alone").measure({**jobs, "folder": str(run.place / f"alone-{backend}")})
        for name, value in outcome.items():
            rows.setdefault(f"one request at a time, {name}", []).append(f"{value:.0f} µs")
        run.goal(f"one request at a time, {backend}", outcome["from disk, shuffled"] / 1000, 0.3, "ms")
    for name, cells in rows.items():
        shown.add_row(name, *cells)
    alone, core = importing("cachesaver", run), importing("anyio, sqlite_utils, click, sqlite3", run)
    shown.add_row("import cachesaver; its core dependencies", f"{alone:.0f} ms", f"{core:.0f} ms")
    run.goal("import: its core dependencies'", alone / core, 1.3)
    run.console.print(shown)


def importing(modules: str, run: Run) -> float:
    """ms of a process that imports *modules*, without those of one that imports nothing."""

    def least(code: str) -> float:
        timed = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
        command = [sys.executable, "-c", timed]
        return min(
            float(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
            for _ in range(1 if run.short else 10)
        )

    return least(f"import {modules}") * 1000


# What takes minutes


def large(run: Run) -> None:
    requests, big = (20_000, 20_000) if run.short else (1_000_000, 10_000_000)
    small = big // 10 if run.short else 20_000
    shown = Table(title="Large")
    for column in ("", *BACKENDS):
        shown.add_column(column, justify="left" if not column else "right")
    flat, grown = [], []
    for backend in BACKENDS:
        job = {"in_flight": IN_FLIGHT, "requests": requests, "distinct": requests // 50}
        outcome = run.ours(backend, "long_map").measure({**job, "folder": str(run.place / f"map-{backend}")})
        times = outcome["times"]
        grown.append(f"{outcome['MB']:.0f} MB")
        flat.append(f"{times[0]:.0f}, {times[-1]:.0f} µs")
        run.goal(f"{requests} by map, {backend}: memory added", outcome["MB"], 150, "MB")
        run.goal(f"{requests} by map, {backend}: last tenth over first", times[-1] / times[0], 1.15)
    shown.add_row(f"map of {requests} warm requests: memory added, all (namespace, prompt) pairs new", *grown)
    shown.add_row("one of the first tenth, of the last", *flat)
    reads: dict[tuple[int, str], dict[str, float]] = {}
    for samples in (small, big):
        folder = run.place / f"made-{samples}"
        run.console.print(f"making a cache of {samples} samples ...")
        _making.make(folder, samples)
        chance = random.Random(1)
        prompts = [_making.prompt(chance.randrange(samples // _making.EACH)) for _ in range(2000)]
        for backend in BACKENDS:
            job = {"in_flight": IN_FLIGHT, "folder": str(folder), "prompts": list(dict.fromkeys(prompts))}
            outcomes = [run.ours(backend, "opening").measure(job) for _ in range(3)]
            reads[samples, backend] = {name: min(outcome[name] for outcome in outcomes) for name in ("open", "read")}
        cells = [f"{reads[samples, b]['open']:.0f} ms, {reads[samples, b]['read']:.0f} µs" for b in BACKENDS]
        shown.add_row(f"a cache of {samples} samples: opened, a warm request", *cells)
    for backend in BACKENDS:
        run.goal(f"opening {big} samples, {backend}", reads[big, backend]["open"], 50, "ms")
        ratio = reads[big, backend]["read"] / reads[small, backend]["read"]
        run.goal(f"a read of {big} samples, {backend}: that of {small}", ratio, 2)
    run.console.print(shown)


# Showing


def middle(times: Times, name: str, case: str) -> float:
    return median(times[name, case])


def table(title: str, contenders: list[Contender], cases: dict[str, str], times: Times) -> Table:
    shown = Table(title=title)
    shown.add_column("")
    for heading in cases.values():
        shown.add_column(heading, justify="right", no_wrap=True)
    for contender in contenders:
        shown.add_row(contender.name, *[cell(times.get((contender.name, case), [])) for case in cases])
    return shown


def cell(times: list[float]) -> str:
    spread = f" ({min(times):.1f}..{max(times):.1f})" if len(times) > 1 else ""
    return f"{median(times):.1f}{spread}" if times else "-"


def verdicts(goals: list[Goal]) -> Table:
    shown = Table(title="Goals")
    shown.add_column("")
    shown.add_column("", no_wrap=True)
    for goal in goals:
        shown.add_row(goal.text, goal.verdict)
    return shown


def facts() -> str:
    """The machine, in one line."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"anyio {version('anyio')}, trio {version('trio')}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}; {PREDECESSOR}, {DSPY}, {', '.join(PEERS)}, {SLURRY}"
    )


if __name__ == "__main__":
    main()
