"""Quota: what the keys of one group share for one model, and when the next request may start under it."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from ._adaptive import Adaptive, Trial
from ._estimate import Cost
from ._headers import Headers, limits
from ._left import Left
from ._pushback import Fate, Pushback
from ._rate import Charge, LeakyBucket, Meter

SHORTEST, LONGEST = 0.5, 60.0  #: seconds: the bounds of a rest, where the server names none
OBEYED = 3600.0  #: seconds: a longer rest than that is tried again all the same
JITTER = 0.1  #: of a rest the server names, at most a second; so that many processes do not come back as one
_RECENT = 0.05  # the weight of the newest answer in the mean of their tokens


class Meters:
    """The meters of one `LeakyBucket`, of requests and of tokens."""

    def __init__(self, rate: LeakyBucket | None) -> None:
        requests, tokens, period, ahead = (None, None, 1.0, 0.0) if rate is None else rate.parts
        self.requests = Meter(requests, period, ahead)
        self.tokens = Meter(tokens, period, ahead)


@dataclass(slots=True)
class Start:
    """One request as it was started, to be corrected by what becomes of it."""

    at: float
    cost: Cost
    request: Charge
    tokens: Charge
    counted: tuple[float, float]  #: the requests and tokens started by then
    trial: Trial | None


class Quota:
    """When the next request may start: by the rate that was given, the rests, and what was learned."""

    def __init__(self, meters: Meters, *, learns: bool, adapts: bool) -> None:
        self._meters = meters
        self._learns = learns
        self._adaptive: Adaptive | None = None
        if adapts:
            self.adapt()
        self._left = Left(), Left()
        self._an_answer: float | None = None  # the tokens of one, on average
        self.rested_at = self._pushed_back_at = -math.inf
        self._refusals = 0  # in a row

    def adapt(self) -> None:
        """From now on find out what the provider takes."""
        self._adaptive = self._adaptive or Adaptive()

    def ready_at(self, now: float) -> float:
        """The earliest time at which the next request may start; infinite where another one must end first."""
        requests_left, tokens_left = self._left
        return max(
            self.rested_at,
            self._meters.requests.ready_at,
            self._meters.tokens.ready_at,
            requests_left.ready_at,
            tokens_left.ready_at,
            -math.inf if self._adaptive is None else self._adaptive.ready_at(now),
        )

    def start(self, now: float, cost: Cost) -> Start:
        """A request starts *now*."""
        tokens = cost.sent + cost.answers * self._expected(cost)
        requests_left, tokens_left = self._left
        request = self._meters.requests.charge(now, 1)
        charge = self._meters.tokens.charge(now, tokens)
        requests_left.start(now, 1)
        tokens_left.start(now, tokens)
        trial = None if self._adaptive is None else self._adaptive.start(now)
        return Start(now, cost, request, charge, (requests_left.started, tokens_left.started), trial)

    def used(self, start: Start, tokens: float) -> None:
        """The request used so many *tokens*."""
        self._meters.tokens.settle(start.tokens, tokens)
        if start.cost.answers:
            each = max(0.0, tokens - start.cost.sent) / start.cost.answers
            mean = each if self._an_answer is None else self._an_answer
            self._an_answer = mean + _RECENT * (each - mean)

    def announced(self, start: Start, headers: Headers, now: float) -> None:
        """What an answer said of limits is taken up."""
        if self._learns:
            for left, limit, counted in zip(self._left, limits(headers), start.counted, strict=True):
                if limit is not None:
                    left.announce(limit, now, counted)

    def unsent(self, start: Start) -> None:
        """Nothing was sent: it has spent nothing."""
        if not start.request.open:
            return
        for left, charge, counted in zip(self._left, (start.request, start.tokens), start.counted, strict=True):
            left.unsent(charge.cost, counted)
        self._meters.requests.settle(start.request, 0)
        self._meters.tokens.settle(start.tokens, 0)

    def ended(self, start: Start, pushback: Pushback | None, now: float) -> None:
        """The request ended well, or as *pushback* says."""
        if pushback is None:
            if start.at >= self._pushed_back_at:  # of what went out before, an answer says nothing about the rest
                self._refusals = 0
        elif pushback.fate is Fate.NOT_SENT:
            self.unsent(start)
            self._pushed_back(start, pushback, now)
        elif pushback.fate is Fate.REFUSED:
            self.announced(start, pushback.headers, now)
            self._pushed_back(start, pushback, now)
        self._meters.requests.close(start.request)  # what was not corrected stays as it was reserved
        self._meters.tokens.close(start.tokens)
        if self._adaptive is not None and start.trial is not None:
            if pushback is None:
                self._adaptive.accepted(start.trial, now)
            elif pushback.fate is Fate.REFUSED:
                self._adaptive.refused(start.trial, now)
            else:
                self._adaptive.returned(start.trial, now)

    def rest(self, seconds: float, now: float) -> None:
        """No request starts for so long."""
        self.rested_at = max(self.rested_at, now + seconds)

    def _expected(self, cost: Cost) -> float:
        most = math.inf if cost.most is None else cost.most
        if self._an_answer is not None:
            return min(self._an_answer, most)
        return 0.0 if cost.most is None else cost.most

    def _pushed_back(self, start: Start, pushback: Pushback, now: float) -> None:
        if pushback.seconds is not None:
            seconds = min(pushback.seconds, OBEYED)
            self.rest(seconds + random.uniform(0, min(1.0, JITTER * seconds)), now)
        elif start.at >= self._pushed_back_at:  # else it is of the burst that has set it to rest already
            # AWS, "Exponential backoff and jitter": full jitter.
            self.rest(random.uniform(0, min(LONGEST, SHORTEST * 2**self._refusals)), now)
        if start.at >= self._pushed_back_at:
            self._pushed_back_at = now
            self._refusals = min(self._refusals + 1, 16)
