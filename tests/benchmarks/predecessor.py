"""Time a request through `online(model, cache)` and through the predecessor, side by side.

    python -m tests.benchmarks.predecessor [--requests N] [--short]

*cold*: the model answers at once, the cache is a new file. *Warm from disk*: a new
process asks the same again. *Warm in memory*: one running stack asks the same again
in a new namespace. Always 100 requests in flight, each measurement in a process of
its own, and only the requests are timed. Contenders take turns, so that a slow
minute of the machine is everyone's.

Cold, ours does more: each answer is on the disk, synced, before its caller gets it;
the predecessor's store leaves that to the operating system.
"""

from __future__ import annotations

import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

PREDECESSOR = "cachesaver==0.0.6"
NEEDED = ("deepdiff", "diskcache")  #: what its pipelines import; the rest of its dependencies are providers' SDKs
IN_FLIGHT = 100
CASES = {"cold": "cold", "disk": "warm from disk", "memory": "warm in memory"}
ROOT = Path(__file__).parents[2]

Timings = dict[tuple[str, str], list[float]]  # µs a request of each (contender, case)


@dataclass(frozen=True, slots=True)
class Contender:
    """How to start one worker: its command, where, and the backend it runs on."""

    name: str
    command: tuple[str, ...]
    folder: Path
    backend: str = "asyncio"


@click.command()
@click.option("--requests", default=4000, show_default=True, help="Requests of each measurement.")
@click.option("--repeats", default=3, show_default=True, help="Measurements of each case.")
@click.option("--request-ids", is_flag=True, help="Give ours a request id too; the predecessor always needs one.")
@click.option("--short", is_flag=True, help="400 requests, once: to see that it runs.")
def main(requests: int, repeats: int, request_ids: bool, short: bool) -> None:
    """Microseconds per request, ours and the predecessor's."""
    if short:
        requests, repeats = 400, 1
    console = Console(width=max(100, Console().width))
    with TemporaryDirectory(prefix="cachesaver-benchmark-") as name:
        place = Path(name)
        console.print(f"installing {PREDECESSOR} into an environment of its own ...")
        contenders = [*ours(), predecessor(place)]
        job = {"workload": workload(place, requests), "in_flight": IN_FLIGHT, "request_ids": request_ids}
        timings = measure_all(contenders, place, job, requests, repeats)
    console.print(table(contenders, timings, requests, repeats))
    console.print(facts())


# What is measured


def ours() -> list[Contender]:
    command = (sys.executable, "-m", f"{__package__}._ours")
    return [Contender(f"ours, {backend}", command, ROOT, backend) for backend in ("asyncio", "trio")]


def predecessor(place: Path) -> Contender:
    """Its package has our name, so it gets an environment, a process and an empty folder of its own."""
    environment, empty = place / "environment", place / "empty"
    empty.mkdir()
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    install = (str(python), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", str(environment)),
        (*install, "--no-deps", PREDECESSOR),
        (*install, *NEEDED),
    ):
        subprocess.run(command, cwd=empty, check=True, stderr=subprocess.DEVNULL if "pip" in command else None)
    # -I: neither PYTHONPATH nor the worker's folder is searched for modules.
    command = (str(python), "-I", str(Path(__file__).with_name("_predecessor_worker.py")))
    return Contender(f"{PREDECESSOR}, asyncio", command, empty)


def workload(place: Path, requests: int) -> str:
    """A file of chat prompts of 1.6 kB, no two alike, and one answer of 1 kB."""
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
    file = place / "workload.json"
    file.write_text(json.dumps({"prompts": prompts, "answer": text(words, 1000)}), "utf-8")
    return str(file)


def text(words: random.Random, length: int) -> str:
    return " ".join(f"{words.getrandbits(30):x}" for _ in range(length // 8 + 1))[:length]


# Measuring


def measure_all(contenders: list[Contender], place: Path, job: dict[str, Any], requests: int, repeats: int) -> Timings:
    timings: Timings = defaultdict(list)
    for repeat in range(repeats):
        for case in CASES:
            for contender in contenders:
                cache = place / f"cache-{contenders.index(contender)}-{repeat}"
                outcome = measure(contender, {**job, "case": case, "folder": str(cache)})
                expected = requests if case == "cold" else 0
                if outcome["calls"] != expected:
                    raise click.ClickException(
                        f"{contender.name}, {case}: {outcome['calls']} model calls where {expected} were due"
                    )
                timings[contender.name, case].append(outcome["seconds"] / requests * 1e6)
    return timings


def measure(contender: Contender, job: dict[str, Any]) -> dict[str, Any]:
    """Run one worker to its end; what it printed."""
    command = (*contender.command, json.dumps({**job, "backend": contender.backend}))
    finished = subprocess.run(command, cwd=contender.folder, stdout=subprocess.PIPE, check=True)
    return json.loads(finished.stdout)


# Showing


def table(contenders: list[Contender], timings: Timings, requests: int, repeats: int) -> Table:
    what = "µs per request, median (min..max)" if repeats > 1 else "µs per request"
    shown = Table(
        title=f"{what}, and how many times ours on asyncio",
        caption=f"{requests} requests, {IN_FLIGHT} in flight, measured {repeats}x",
    )
    shown.add_column("")
    for title in CASES.values():
        shown.add_column(title, justify="right", no_wrap=True)
    for contender in contenders:
        cells = [cell(timings[contender.name, case], timings[contenders[0].name, case]) for case in CASES]
        shown.add_row(contender.name, *cells)
    return shown


def cell(times: list[float], base: list[float]) -> str:
    spread = f" ({min(times):.0f}..{max(times):.0f})" if len(times) > 1 else ""
    return f"{median(times):.0f}{spread}  {median(times) / median(base):.1f}x"


def facts() -> str:
    """The machine, in one line."""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        f"anyio {version('anyio')}, trio {version('trio')}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}"
    )


if __name__ == "__main__":
    main()
