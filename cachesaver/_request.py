"""What goes in at the door and what comes out: Request, Sample, Response."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ._errors import CacheSaverWarning
from ._labels import check_label, current_namespace, current_request_id
from ._records import Usage

if TYPE_CHECKING:
    from ._ticket import Ticket


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, how many samples of it are wanted, and who asks.

    Namespace and request id default to those of the context it is made in.
    Raises TypeError or ValueError for n < 1 and for empty labels.
    """

    prompt: Any
    n: int = 1
    namespace: str = field(default_factory=current_namespace)
    request_id: str | None = field(default_factory=current_request_id)

    def __post_init__(self) -> None:
        if type(self.n) is not int:
            raise TypeError(f"n must be an integer, not {type(self.n).__name__}")
        if self.n < 1:
            raise ValueError(f"n must be at least 1, not {self.n}")
        check_label("namespace", self.namespace)
        if self.request_id is not None:
            check_label("request_id", self.request_id)


class Asking(Protocol):
    """What a ticket is made out for: a Request, or what comes in by another door."""

    @property
    def prompt(self) -> Any: ...
    @property
    def n(self) -> int: ...
    @property
    def namespace(self) -> str: ...
    @property
    def request_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of the model, the caller's own copy.

    `position` is its index in the list of its prompt (None without a Cacher),
    `cached` tells that nothing was bought for it, `duplicated` that it came from
    a purchase made for another, equal request. `seconds` is what the model took.
    """

    value: Any
    position: int | None = None
    cached: bool = False
    duplicated: bool = False
    usage: Usage | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Response:
    """The samples that answer a request, in order."""

    request: Request
    samples: tuple[Sample, ...]

    @property
    def data(self) -> list[Any]:
        """The answers themselves."""
        return [sample.value for sample in self.samples]

    @property
    def cached(self) -> list[bool]:
        """For each sample, whether nothing was bought for it."""
        return [sample.cached for sample in self.samples]

    @property
    def duplicated(self) -> list[bool]:
        """For each sample, whether it came from a purchase made for another request."""
        return [sample.duplicated for sample in self.samples]

    @property
    def positions(self) -> list[int | None]:
        """For each sample, its index in the list of its prompt."""
        return [sample.position for sample in self.samples]

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index].value


REJECTED = "rejected by the program"


def chosen(response: Response, which: Sequence[int] | None) -> list[int]:
    """The positions of *response* at the indices *which*, or all. Raises ValueError where one is in no cache."""
    samples = response.samples if which is None else [response.samples[index] for index in which]
    positions = [sample.position for sample in samples if sample.position is not None]
    if len(positions) < len(samples):
        raise ValueError("a sample without a position is in no cache, so there is nothing to reject")
    return positions


def as_request(item: Any) -> Request:
    """*item* if it is a Request, else a Request for it as a prompt."""
    return item if isinstance(item, Request) else Request(item)


def respond(request: Request, ticket: Ticket) -> Response:
    """The caller's own copies of what *ticket* got; warns, in the name of whoever called our caller.

    Raises the request's own error.
    """
    if ticket.error is not None:
        raise ticket.error
    for notice in ticket.notices:
        warnings.warn(notice, CacheSaverWarning, stacklevel=3)
    samples = [
        Sample(draw.value, draw.position, draw.cached, draw.duplicated, draw.answer.usage, draw.answer.seconds)
        for draw in ticket.draws
    ]
    return Response(request, tuple(samples))
