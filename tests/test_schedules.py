"""The same program under many schedules: the transcript is the same, byte for byte (S6)."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from anyio import create_task_group
from anyio.lowlevel import checkpoint

from cachesaver import Cache, Stage, local, online
from cachesaver.testing import CountingModel

from .durability._sales import figure

pytestmark = pytest.mark.anyio

SEEDS = figure(1000, 10_000)  # of each stack in each event loop
AT_ONCE = 100  #: seeds that share one stack, each under its own prompts

Transcript = dict[str, list[str]]


class Dawdling(CountingModel):
    """Takes a random number of turns of the event loop for a call."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        await dawdle(self.chance)
        return await super().request(prompt, n)


async def dawdle(chance: random.Random) -> None:
    for _ in range(chance.randrange(12)):
        await checkpoint()


async def agent(api: Stage, seed: int, namespace: str, name: str, chance: random.Random, heard: Transcript) -> None:
    """Two steps; the answer to the first is in the prompt of the second. Two agents ask the same things."""
    await dawdle(chance)
    first = await api.request(f"{seed}: begin", 2, namespace, f"{name}/begin")
    await dawdle(chance)
    again = await api.request(f"{seed}: begin", 1, namespace, f"{name}/begin")
    await dawdle(chance)
    last = await api.request(f"{seed}: go on from {first[1]}", 1, namespace, f"{name}/end")
    heard[f"{namespace} {name}"] = [*first.data, *again.data, *last.data]


async def program(api: Stage, seed: int, chance: random.Random) -> bytes:
    """Six agents in two namespaces, started in random order; what each of them heard."""
    heard: Transcript = {}
    agents = [(namespace, f"agent-{number}") for namespace in ("one", "two") for number in range(3)]
    chance.shuffle(agents)
    async with create_task_group() as tasks:
        for namespace, name in agents:
            tasks.start_soon(agent, api, seed, namespace, name, chance, heard)
    return json.dumps(heard, sort_keys=True).encode()


@pytest.mark.parametrize("stack", [online, local])
async def test_a_thousand_schedules(stack: Any, cache: Cache) -> None:
    """S6, S5: whatever order requests arrive and answers return in; and no sample is given twice (S1)."""
    for start in range(0, SEEDS, AT_ONCE):
        seeds = range(start, start + AT_ONCE)
        transcripts: list[dict[int, bytes]] = []
        models: list[CountingModel] = []
        for run in range(2):
            models.append(Dawdling(random.Random(f"model {start} {run}")))
            transcripts.append(await run_all(stack(models[-1], cache), seeds, run))
        assert transcripts[0] == transcripts[1]
        assert models[1].calls == []
        for transcript in transcripts[0].values():
            check_independence(json.loads(transcript))


async def run_all(stack: Stage, seeds: range, run: int) -> dict[int, bytes]:
    heard: dict[int, bytes] = {}

    async def one(seed: int) -> None:
        heard[seed] = await program(api, seed, random.Random(f"{seed} {run}"))

    async with stack as api, create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)
    return heard


def check_independence(heard: Transcript) -> None:
    for namespace in ("one", "two"):
        answers = [answer for name, answers in heard.items() if name.startswith(namespace) for answer in answers]
        assert len(set(answers)) == len(answers)
