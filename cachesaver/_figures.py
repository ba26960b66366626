"""Figures: how far a `map` is, and what it cost so far; as a record and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ._stats import Stats

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


@dataclass(frozen=True, slots=True)
class Figures:
    """What a display shows. All but *done* and *in_flight* is of the whole stack, since the map began."""

    done: int  #: requests that were answered, with an error too
    total: int | None = None  #: of how many, where that is known
    in_flight: int = 0
    stats: Stats = field(default_factory=Stats)
    resting: tuple[float, ...] = ()  #: of each resource that rests, the seconds left
    seconds_left: float | None = None
    name: str = ""  #: what the user calls it

    @property
    def hit_rate(self) -> float | None:
        """The part of the samples given that were in the cache."""
        given = self.stats.hits + self.stats.merged + self.stats.bought
        return self.stats.hits / given if given else None

    @property
    def line(self) -> str:
        """All of it, in one line that needs no other."""
        name = f"{self.name}: " if self.name else ""
        return f"cachesaver: {name}" + ", ".join([self.done_of_total, *self.details, *self.left])

    @property
    def done_of_total(self) -> str:
        """Such as "1,200 of 5,000 (24 %)"."""
        if self.total is None:
            return f"{self.done:,} done"
        return f"{self.done:,} of {self.total:,} ({100 * self.done // max(1, self.total)} %)"

    @property
    def left(self) -> list[str]:
        """The time until the end, where it can be told."""
        return [] if self.seconds_left is None else [f"{duration(self.seconds_left)} left"]

    @property
    def details(self) -> list[str]:
        """What became of the requests, what that cost, and what holds it up."""
        stats = self.stats
        spent = stats.cost_spent
        return [
            f"{stats.hits:,} from the cache" + ("" if self.hit_rate is None else f" ({int(100 * self.hit_rate)} %)"),
            *([f"{stats.merged:,} shared"] if stats.merged else []),
            f"{stats.bought:,} bought" + (f" for {money(spent)}" if spent > 0 else ""),
            *([f"{stats.failed:,} failed"] if stats.failed else []),
            *([f"{self.in_flight:,} in flight"] if self.in_flight else []),
            *self._saved(),
            *self._rests(),
        ]

    def _saved(self) -> list[str]:
        stats = self.stats
        cost = stats.cost_saved
        saved = [money(cost)] if cost > 0 else []
        saved += [duration(stats.seconds_saved)] if stats.seconds_saved >= 0.5 else []
        saved += [f"{stats.tokens_saved:,} tokens"] if stats.tokens_saved else []
        return [f"{listed(saved)} saved"] if saved else []

    def _rests(self) -> list[str]:
        if not self.resting:
            return []
        keys = "1 key rests" if len(self.resting) == 1 else f"{len(self.resting)} keys rest"
        return [f"{keys} ({duration(max(self.resting))})"]


def duration(seconds: float) -> str:
    """In the unit that makes one or two digits of it, or three."""
    for unit, name in ((DAY, "days"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def money(dollars: float) -> str:
    """To the cent; less than ten of them to a hundredth of one."""
    return f"${dollars:,.2f}" if dollars >= 0.1 else f"${dollars:.4f}"


def listed(parts: Sequence[str]) -> str:
    """Such as "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)
