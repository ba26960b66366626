"""What passes between the cache and its callers: small immutable records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._errors import CacheCorrupt, CacheError


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens one answer cost."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model: its JSON text, the seconds it took, its tokens."""

    body: str
    seconds: float
    usage: Usage | None


@dataclass(frozen=True, slots=True)
class Query:
    """What a batch wants to know of the store.

    `keys` are the prompts whose stock to load; `draws` the (namespace, key)
    whose recorded assignments to load; `labels` the (key, request_id, ordinal)
    for which to find the lowest position any namespace recorded.
    """

    keys: frozenset[bytes]
    draws: frozenset[tuple[str, bytes]]
    labels: frozenset[tuple[bytes, str, int]]


@dataclass(frozen=True, slots=True)
class Stock:
    """The samples of one prompt: every position, and the first few answers."""

    positions: tuple[int, ...]
    answers: dict[int, Answer | CacheCorrupt]


@dataclass(frozen=True, slots=True)
class Drawn:
    """One recorded assignment: this draw of this label got this position."""

    request_id: str | None
    ordinal: int
    position: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The reply to a `Query`: every asked key and draw, and the labels found."""

    stocks: dict[bytes, Stock]
    draws: dict[tuple[str, bytes], tuple[Drawn, ...]]
    labels: dict[tuple[bytes, str, int], int]


@dataclass(frozen=True, slots=True)
class Bought:
    """An answer to keep, and the position it was bought for."""

    key: bytes
    scope: str
    prompt: str
    position: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Record:
    """An assignment to keep: who drew which position of a prompt.

    One that `follows` is of the sample bought for that position, wherever that is kept.
    """

    namespace: str
    key: bytes
    request_id: str | None
    ordinal: int
    position: int
    follows: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a bought answer was kept.

    `stored` is None unless another process already held the wanted position;
    then it is the answer that stands there.
    """

    position: int
    stored: Answer | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a commit: where each answer was kept, or why not; and the assignments that others were before."""

    placed: list[Placed | CacheError]
    lost: list[Record]


@dataclass(frozen=True, slots=True)
class KnownPrompt:
    """A prompt the cache holds, as it was asked, and its number of samples."""

    scope: str
    prompt: str
    samples: int
