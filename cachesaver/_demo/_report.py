"""Runs the ablation three times, and shows what each time cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import anyio
from openai import AsyncOpenAI
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .. import Cache, Stats
from ..models.openai import AsyncCachedOpenAIAPI
from ._ablation import REVIEWS, Ablation, Results

VOTES = (1, 3, 5)
ONE_MORE = 6


class Run(NamedTuple):
    """One run of the program: what it found, what it cost, and the seconds it took."""

    name: str
    results: Results
    stats: Stats
    seconds: float


async def ablation(console: Console, client: AsyncOpenAI, model: str, cache: Cache) -> bool:
    """Run, run again, run one configuration more; True if the second run was free and the same."""
    votes = ", ".join(map(str, VOTES))
    runs = [
        await _run(console, client, model, cache, "first run", VOTES),
        await _run(console, client, model, cache, "the same again", VOTES),
        await _run(console, client, model, cache, f"with {ONE_MORE} votes too", (*VOTES, ONE_MORE)),
    ]
    first, second, _ = runs
    same = first.results == second.results
    console.print(_costs(runs))
    console.print(_accuracies(runs[-1].results))
    console.print(
        f"The second run bought {second.stats.bought} samples, and its answers to all"
        f" {len(REVIEWS)} reviews under {votes} votes are {'the same' if same else 'NOT the same'}."
    )
    return same and second.stats.bought == 0


async def _run(
    console: Console, client: AsyncOpenAI, model: str, cache: Cache, name: str, configurations: Sequence[int]
) -> Run:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    api = AsyncCachedOpenAIAPI(client, cache)
    results: Results = {}
    with Progress(*columns, TextColumn("{task.fields[bought]} bought"), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task(name.ljust(20), total=len(configurations) * len(REVIEWS), bought=0)

        async def watch() -> None:
            while True:
                bar.update(task, bought=api.stats.bought)
                await anyio.sleep(0.1)

        start = time.perf_counter()
        async with api, anyio.create_task_group() as watching:
            watching.start_soon(watch)
            results |= await Ablation(api, model, lambda: bar.advance(task)).run(configurations)
            watching.cancel_scope.cancel()
        bar.update(task, bought=api.stats.bought)
    return Run(name, results, api.stats, time.perf_counter() - start)


def _costs(runs: Sequence[Run]) -> Table:
    table = Table(title="What each run cost", caption="bought and reused are samples; the server counts the tokens")
    for column in ("", "requests", "bought", "reused", "seconds", "tokens"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for run in runs:
        reused = run.stats.hits + run.stats.merged
        counts = (run.stats.requests, run.stats.bought, reused, f"{run.seconds:.2f}", run.stats.tokens_spent)
        table.add_row(run.name, *map(str, counts))
    return table


def _accuracies(results: Results) -> Table:
    table = Table(title="What the ablation found")
    table.add_column("votes", justify="right")
    table.add_column("reviews judged rightly", justify="right")
    for votes, readings in results.items():
        table.add_row(str(votes), f"{sum(reading.right for reading in readings)} of {len(readings)}")
    return table
