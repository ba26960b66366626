"""A process that asks in shared namespaces until it is stopped or killed, and writes down all that happens.

    python _asker.py FOLDER NAME {asyncio,trio} {online,local} {shared,alone,unchecked} [FORMER]

It first asks again what FORMER had asked, the process whose place it takes. Its
model sells answers that are unlike all others, and writes each to a file of its
own before it returns it: so what was bought is known, whoever is killed.
"""

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anyio

from cachesaver import Cache, Closed, Stage, _writes, local, online
from cachesaver.testing import CountingModel

PROMPTS = ("p0", "p1", "p2")
NAMESPACES = ("n0", "n1", "n2")
TASKS = 3
AGAIN = 12  # so many of the former's ids are asked again
SCOPE = "seller"


class Refused(Exception):
    """The model does not answer."""


class Ask(NamedTuple):
    namespace: str
    prompt: str
    request_id: str
    n: int


class Seller(CountingModel):
    """Sells answers that name their seller; some calls are refused."""

    def __init__(self, name: str, sales: int, dice: random.Random) -> None:
        super().__init__(delay=lambda prompt: dice.random() / 50, cache_scope=SCOPE)
        self._name, self._sales, self._dice = name, sales, dice

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        """Sell *n* answers, or none."""
        answers = await super().request(prompt, n) if self._dice.random() > 0.03 else None
        if answers is None:
            raise Refused(self._name)
        return answers

    def make(self, prompt: Any) -> Any:
        """The next answer, written down."""
        self.sold += 1
        body = f"{self._name}#{self.sold}"
        os.write(self._sales, json.dumps([prompt, body]).encode() + b"\n")
        return body


class Asker:
    """The requests of one process, and their history."""

    def __init__(self, folder: Path, name: str, dice: random.Random) -> None:
        self._folder, self._name, self._dice = folder, name, dice
        self._history = append(folder / "history" / name)
        self._calls = 0
        self._ordinals = Counter[tuple[str, str, str]]()
        self._begun: set[tuple[str, ...]] = set()

    async def live(self, stack: Stage, former: str) -> None:
        """Ask what *former* had asked, then what comes to mind, until a file tells to stop."""
        asks = iter([*list(earlier(self._folder / "history" / former))[-AGAIN:]] if former else [])
        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(self._work, stack, asks)

    async def _work(self, stack: Stage, asks: Iterator[Ask]) -> None:
        while not (self._folder / "stop").exists():
            ask = next(asks, None) or self._others() or self._new()
            if ask[:3] in self._begun:  # two at once would leave open which of them has ordinal 0
                continue
            self._begun.add(ask[:3])
            await self._ask(stack, ask)
            if self._dice.random() < 0.1:
                await self._ask(stack, ask)  # S9: the same id gets other samples

    def _new(self) -> Ask:
        choice = self._dice.choice
        return Ask(choice(NAMESPACES), choice(PROMPTS), f"{self._name}/{self._calls}", choice((1, 1, 2, 3)))

    def _others(self) -> Ask | None:
        """Now and then what another process has asked, which may be asking it still."""
        if self._dice.random() > 0.1:
            return None
        asked = list(earlier(self._dice.choice(sorted((self._folder / "history").iterdir()))))
        return self._dice.choice(asked[-5:]) if asked else None

    async def _ask(self, stack: Stage, ask: Ask) -> None:
        self._calls += 1
        call = self._calls
        say(self._history, call=call, event="invoke", ask=ask)
        try:
            response = await stack.request(ask.prompt, n=ask.n, namespace=ask.namespace, request_id=ask.request_id)
        except Exception as error:
            say(self._history, call=call, event="failed", error=repr(error))
            if isinstance(error, Closed):
                raise  # the stack has ended: leave its block, which tells why
            return
        samples = [(sample.position, sample.value, sample.cached) for sample in response.samples]
        say(self._history, call=call, event="ok", ordinal=self._ordinals[ask[:3]], samples=samples)
        self._ordinals[ask[:3]] += ask.n


def earlier(history: Path) -> Iterator[Ask]:
    """What a process had asked: each id once, for as many samples as it may have got."""
    events = list(said(history))
    failed = {event["call"] for event in events if event["event"] == "failed"}
    wanted: Counter[tuple[str, str, str]] = Counter()
    for event in events:
        if event["event"] == "invoke":
            *which, n = event["ask"]
            wanted[tuple(which)] += n if event["call"] not in failed else 0
    return (Ask(*which, max(n, 1)) for which, n in wanted.items())


def said(path: Path) -> Iterable[Any]:
    """The lines of a file that a process appends to, which may have been killed in the last."""
    return (json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n"))


def append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def say(file: int, **event: object) -> None:
    os.write(file, json.dumps(event).encode() + b"\n")


async def main(folder: Path, name: str, preset: str, sharing: str, former: str) -> None:
    dice = random.Random(name)
    model = Seller(name, append(folder / "sales" / name), dice)
    asker = Asker(folder, name, dice)
    stacks = {"online": online, "local": local}
    with Cache(folder) as cache:
        async with stacks[preset](model, cache, shared=sharing != "alone") as stack:
            await asker.live(stack, former)


if __name__ == "__main__":
    given, name, backend, preset, sharing, former = [*sys.argv[1:], ""][:6]
    if sharing == "unchecked":
        _writes.contested = lambda *_: []
    anyio.run(main, Path(given), name, preset, sharing, former, backend=backend)
