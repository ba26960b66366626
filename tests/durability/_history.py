"""What some processes asked and got, and the judge of it.

A call is *ok* with its samples, *failed*, or *unknown*: its process was killed
before it said how the call had ended.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ._asker import said


class Got(NamedTuple):
    """One sample that a caller was handed."""

    process: str
    namespace: str
    prompt: str
    request_id: str
    ordinal: int
    position: int
    body: str
    cached: bool

    @property
    def draw(self) -> tuple[str, str, str, int]:
        """Who got it."""
        return self.namespace, self.prompt, self.request_id, self.ordinal

    @property
    def place(self) -> tuple[str, int]:
        """Where it stands."""
        return self.prompt, self.position


@dataclass
class Call:
    process: str
    namespace: str
    prompt: str
    request_id: str
    n: int
    state: str = "unknown"
    error: str = ""
    got: list[Got] = field(default_factory=list)


@dataclass
class History:
    """All calls; the prompt, body and seller of every sale; what stands in the file; who was killed."""

    calls: list[Call]
    sales: list[tuple[str, str, str]]
    stored: dict[tuple[str, int], str]
    killed: set[str]

    @property
    def got(self) -> list[Got]:
        return [got for call in self.calls for got in call.got]

    @property
    def uncommitted(self) -> Counter[str]:
        """How many of its sales each process did not get into the file."""
        there = set(self.stored.values())
        return Counter(seller for _, body, seller in self.sales if body not in there)

    @property
    def in_flight(self) -> Counter[str]:
        """How many samples each process waited for when it was killed."""
        return Counter(
            {name: sum(c.n for c in self.calls if c.process == name and c.state == "unknown") for name in self.killed}
        )

    def figures(self) -> str:
        states = Counter(call.state for call in self.calls)
        strangers = sum(got.body.split("#")[0] != got.process for got in self.got)
        again = sum(times - 1 for times in Counter(got.draw for got in self.got).values())
        return (
            f"{len(self.calls)} calls: {dict(states)}; {len(self.got)} samples handed out, {strangers} of them sold to"
            f" another process, {again} handed out before; {len(self.killed)} kills; {len(self.sales)} sales,"
            f" {len(self.stored)} stored, {self.uncommitted.total()} uncommitted of {self.in_flight.total()} in flight"
        )


def read(folder: Path, killed: Iterable[str]) -> History:
    """The history that processes wrote down in *folder*, and the cache they left there."""
    calls = [call for path in sorted((folder / "history").iterdir()) for call in _calls(path)]
    sales = [(prompt, body, path.name) for path in (folder / "sales").iterdir() for prompt, body in said(path)]
    return History(calls, sales, _stored(folder / "cache.db"), set(killed))


def _calls(path: Path) -> Iterable[Call]:
    calls: dict[int, Call] = {}
    for event in said(path):
        if event["event"] == "invoke":
            calls[event["call"]] = Call(path.name, *event["ask"])
            continue
        call = calls[event["call"]]
        call.state, call.error = event["event"], event.get("error", "")
        asker = (call.process, call.namespace, call.prompt, call.request_id)
        call.got = [Got(*asker, event["ordinal"] + k, *sample) for k, sample in enumerate(event.get("samples", ()))]
    return calls.values()


def _stored(path: Path) -> dict[tuple[str, int], str]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT prompt, position, answer FROM samples JOIN prompts ON prompts.id = prompt_id"
        ).fetchall()
    return {(json.loads(prompt), position): json.loads(answer) for prompt, position, answer in rows}


def complaints(history: History) -> list[str]:
    """All that must not be in a history."""
    return [f"{rule.__name__}: {found}" for rule in RULES for found in rule(history)]


def position_twice(history: History) -> Iterator[str]:
    """S1: a position of a prompt goes to one (id, ordinal) of a namespace."""
    return _torn(history.got, lambda got: (got.namespace, *got.place), lambda got: got.draw)


def body_twice(history: History) -> Iterator[str]:
    """S1: so does an answer."""
    return _torn(history.got, lambda got: (got.namespace, got.body), lambda got: got.draw)


def draw_moved(history: History) -> Iterator[str]:
    """S5, S6: an (id, ordinal) gets the same again, whichever process asks, and when."""
    return _torn(history.got, lambda got: got.draw, lambda got: (got.place, got.body))


def content_changed(history: History) -> Iterator[str]:
    """D2: a position once seen by anyone never changes its content."""
    return _torn(history.got, lambda got: got.place, lambda got: got.body)


def content_lost(history: History) -> Iterator[str]:
    """D1: what was handed out is in the file, as it was handed out."""
    return (f"{got}, stored is {there}" for got in history.got if (there := history.stored.get(got.place)) != got.body)


def stored_twice(history: History) -> Iterator[str]:
    """D2: no answer stands at two positions."""
    return (f"{body} {times}x" for body, times in Counter(history.stored.values()).items() if times > 1)


def never_sold(history: History) -> Iterator[str]:
    """Every stored answer was sold, once, for the prompt it is stored under."""
    sold = Counter((prompt, body) for prompt, body, _ in history.sales)
    return (f"{prompt} {body}" for (prompt, _), body in history.stored.items() if sold[prompt, body] != 1)


def sale_lost(history: History) -> Iterator[str]:
    """Promise 2: all that is lost was in flight at a kill."""
    in_flight = history.in_flight
    return (
        f"{lost} of {seller}, and {in_flight[seller]} in flight"
        for seller, lost in history.uncommitted.items()
        if lost > in_flight[seller]
    )


def badly_ended(history: History) -> Iterator[str]:
    """A call fails only where the model does, is unknown only at a kill, and else gets as much as it asked."""
    for call in history.calls:
        if (
            (call.state == "unknown" and call.process not in history.killed)
            or (call.state == "failed" and not call.error.startswith("Refused"))
            or (call.state == "ok" and len(call.got) != call.n)
        ):
            yield str(call)


RULES = (
    *(position_twice, body_twice, draw_moved, content_changed, content_lost),
    *(stored_twice, never_sold, sale_lost, badly_ended),
)


def _torn(all_got: list[Got], one: Callable[[Got], Hashable], other: Callable[[Got], Hashable]) -> Iterator[str]:
    """Where *one* does not determine *other*."""
    found: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
    for got in all_got:
        found[one(got)].add(other(got))
    return (f"{which}: {sorted(map(str, others))}" for which, others in found.items() if len(others) > 1)
