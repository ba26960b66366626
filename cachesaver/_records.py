"""What passes between the cache and its callers: small records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ._errors import CacheCorrupt, CacheError


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
    """The samples of one prompt from a position on: every position, and the first few answers."""

    positions: list[int]
    answers: dict[int, Answer | CacheCorrupt]


class Drawn(NamedTuple):
    """One recorded assignment: this draw of this label got this position."""

    request_id: str | None
    ordinal: int
    position: int


class Loaded(NamedTuple):
    """The reply to a `Query`: every stock and draw that was asked for, and the labels found."""

    stocks: dict[bytes, Stock]
    draws: dict[tuple[str, bytes], list[Drawn]]
    labels: dict[tuple[bytes, str, int], int]


class Bought(NamedTuple):
    """An answer to keep, and the position it was bought for."""

    key: bytes
    scope: str
    prompt: str
    position: int
    answer: Answer


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


class Placed(NamedTuple):
    """Where a bought answer was kept.

    `stored` is None unless another process already held the wanted position;
    then it is the answer that stands there.
    """

    position: int
    stored: Answer | None


class Settled(NamedTuple):
    """What became of a commit: where each answer was kept, or why not; and the assignments that others were before."""

    placed: list[Placed | CacheError]
    lost: list[Record]


class KnownPrompt(NamedTuple):
    """A prompt the cache holds, as it was asked, and its number of samples."""

    scope: str
    prompt: str
    samples: int
