"""What passes between the cache and its callers: small records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ._errors import CacheCorrupt, CacheError

NONE: frozenset[int] = frozenset()  #: one for all: Python makes another with each call, and its collector looks at each


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens one answer cost."""

    input_tokens: int
    output_tokens: int


class Answer(NamedTuple):
    """One answer of the model: its JSON text, the seconds it took, its tokens."""

    body: str
    seconds: float
    usage: Usage | None


class Query(NamedTuple):
    """What a batch wants to know of the store.

    `stocks` are the keys of prompts whose samples to load, and from which position on;
    `draws` the (namespace, key) whose recorded assignments to load; `labels` the (key,
    request_id, ordinal) for which to find the lowest position any namespace recorded.
    """

    stocks: Mapping[bytes, int]
    draws: Collection[tuple[str, bytes]] = ()
    labels: Collection[tuple[bytes, str, int]] = ()


class Stock(NamedTuple):
    """The samples of one prompt from a position on: every position, and the first few answers.

    Of the positions of the whole prompt those that are `rejected` are given to nobody any more.
    """

    positions: list[int]
    answers: dict[int, Answer | CacheCorrupt]
    rejected: frozenset[int] = NONE


class Drawn(NamedTuple):
    """One recorded assignment: this draw of this label got this position."""

    request_id: str | None
    ordinal: int
    position: int


class Loaded(NamedTuple):
    """The reply to a `Query`: every stock and draw that was asked for, and the labels found.

    Of the namespaces that were asked for, those that are `unused` have drawn nothing of any prompt.
    """

    stocks: dict[bytes, Stock]
    draws: dict[tuple[str, bytes], list[Drawn]]
    labels: dict[tuple[bytes, str, int], int]
    unused: Collection[str] = ()


class Bought(NamedTuple):
    """An answer to keep, the position it was bought for, and what it cost in US dollars, where that is known."""

    key: bytes
    scope: str
    prompt: str
    position: int
    answer: Answer
    cost: float | None = None


class Record(NamedTuple):
    """An assignment to keep: who drew which position of a prompt.

    One that `follows` is of the sample bought for that position, wherever that is kept.
    """

    namespace: str
    key: bytes
    request_id: str | None
    ordinal: int
    position: int
    follows: bool = False


class Rejected(NamedTuple):
    """A stored sample that shall be given to nobody any more, and why."""

    key: bytes
    position: int
    reason: str


class Run(NamedTuple):
    """One life of a stack: its name, the program, when it began."""

    name: str
    program: str
    started_at: str


class Entry(NamedTuple):
    """A line of the ledger: what one namespace of a run asked of one model, what was bought for it, what it reused.

    Costs are in US dollars, None where the price of the model is not known.
    """

    run: Run
    namespace: str
    model: str
    requests: int
    asked: int
    bought: int
    reused: int
    input_tokens_spent: int
    output_tokens_spent: int
    input_tokens_saved: int
    output_tokens_saved: int
    seconds_spent: float
    seconds_saved: float
    cost_spent: float | None
    cost_saved: float | None


class Placed(NamedTuple):
    """Where a bought answer was kept.

    `stored` is None unless another process already held the wanted position;
    then it is the answer that stands there.
    """

    position: int
    stored: Answer | None


class Settled(NamedTuple):
    """What became of a commit: where each answer was kept, or why not; the assignments that others were before,
    and the rejections of what is not in the file.
    """

    placed: list[Placed | CacheError]
    lost: list[Record]
    unknown: list[Rejected]


class KnownPrompt(NamedTuple):
    """A prompt the cache holds, as it was asked, and its number of samples."""

    scope: str
    prompt: str
    samples: int
