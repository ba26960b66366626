"""What a stack did: counted by its stages, shown as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ._records import Answer, Usage


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts since the stack was entered; seconds are the model's own, tokens input and output together."""

    requests: int = 0  #: calls at the door
    asked: int = 0  #: samples they asked for
    hits: int = 0  #: samples that were in the cache
    bought: int = 0  #: samples that the model made
    merged: int = 0  #: samples shared with a purchase in flight
    failed: int = 0  #: requests that got an error
    calls: int = 0  #: calls of the model
    errors: int = 0  #: calls of the model that failed
    seconds_spent: float = 0.0
    seconds_saved: float = 0.0
    tokens_spent: int = 0
    tokens_saved: int = 0
    cost_spent: float = 0.0  #: US dollars, where a price of the model is known
    cost_saved: float = 0.0
    refused: int = 0  #: of the calls that failed, those that the provider would not take
    maybe_billed: int = 0  #: and those of which nobody knows whether they are paid for

    def __add__(self, other: Stats) -> Stats:
        return Stats(**{field.name: getattr(self, field.name) + getattr(other, field.name) for field in fields(Stats)})

    def since(self, earlier: Stats) -> Stats:
        """What was added after *earlier*."""
        return Stats(
            **{field.name: getattr(self, field.name) - getattr(earlier, field.name) for field in fields(Stats)}
        )


class Tally:
    """The counts of one stage while it runs."""

    def __init__(self) -> None:
        self.requests = self.asked = self.hits = self.bought = self.merged = 0
        self.failed = self.calls = self.errors = self.refused = self.maybe_billed = self.tokens_spent = (
            self.tokens_saved
        ) = 0
        self.seconds_spent = self.seconds_saved = self.cost_spent = self.cost_saved = 0.0

    def spent(self, seconds: float) -> None:
        """One call of the model was made."""
        self.calls += 1
        self.seconds_spent += seconds

    def buy(self, answer: Answer, rank: int) -> None:
        """A sample was bought, the one of index *rank* in its call."""
        self.bought += 1
        self.tokens_spent += tokens_paid(answer, rank)

    def save(self, hits: int, merged: int, seconds: float, tokens: int, cost: float) -> None:
        """A request got so much that was not bought for it."""
        self.hits += hits
        self.merged += merged
        self.seconds_saved += seconds
        self.tokens_saved += tokens
        self.cost_saved += cost


def paid(usage: Usage, rank: int) -> tuple[int, int]:
    """The tokens of input and output bought with the sample of index *rank* in its call: the prompt is paid once."""
    return (0 if rank else usage.input_tokens), usage.output_tokens


def tokens_paid(answer: Answer, rank: int) -> int:
    """All of them together."""
    return 0 if answer.usage is None else sum(paid(answer.usage, rank))


def total(tallies: list[Tally]) -> Stats:
    """The sum over the stages of a stack."""
    return Stats(**{field.name: sum(getattr(tally, field.name) for tally in tallies) for field in fields(Stats)})
