"""Learn a provider's hidden rate and concurrency limits from what it refuses."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

FIRST_WINDOW = 8  # requests at once before anything is known
STEP = 1.05  # one probe
MARGIN = 1.02  # a refused rate falls so far below what was served, for just as much would soon be refused again
OVERSHOOT = STEP**3  # by what a refusal divides the rate at most, as it may have been far below the limit until it grew
HARSHEST = 2.0  # and where we rested longer than we sent before it: the rate is far too high, or we measured too short
NEAR = 0.85  # fast growth ends at this part of the refused rate; below 1 / OVERSHOOT, or it would resume at once
GROWTH_S = 8.0  # fast growth: the rate grows e-fold in so many seconds
GROWTH_N = 40.0  # and in so many requests at least: a slow rate shows late that it is too high
MIN_PATIENCE = 50.0  # requests accepted before the next probe, at first
MAX_PATIENCE = 200.0  # and at last: about 0.5 % of the requests are refused probes
RESTS = 30  # and it takes so many times the last rest: a probe may cost another one
LONGEST_REST_S = 1.0  # or so much, where that was longer
BINDING = 0.15  # part of the starts that a knob must have held up to be worth raising
RECENT = 100  # accepted requests whose number at once is remembered
RARE = 0.05  # part of them at or above a number at once for which that number counts as untried
ENOUGH = 3  # of them needed to blame the window
PART_LEFT = 0.75  # of a request, that the provider may have had left for us when it refused: much of a short stretch
LONG_REST_S = 5.0  # a rest with refusals in it that is longer is a used-up budget, not a back-off
LATE_S = 0.005  # a start this late was still held up by the pace (timers are not exact)


@dataclass(slots=True)
class Stretch:
    """What was sent between two cuts, to measure the rate that the provider really served."""

    cut: float  # start of the request whose refusal made the last cut
    first: float = math.nan  # first start since then that was not refused
    sent: int = 0  # started and not refused
    dry: bool = False  # whether even the first request after a rest was refused

    @property
    def rest(self) -> float:
        """How long nothing was sent after the cut."""
        return self.first - self.cut


@dataclass(slots=True)
class Trial:
    """One request in flight, and what held up its start."""

    at: float
    at_once: int
    paced: bool  # held up by the rate
    narrow: bool  # took the last place of the window
    first: bool  # first after a refusal
    burst: int  # bursts of refusals told before its start
    stretch: Stretch


class Adaptive:
    """Two knobs: `rate` (evenly spaced starts a second, without burst credit) and `window` (requests at once).

    Until the first refusal the rate is infinite and the window grows by one per success. The first refusal makes
    the rate what was served so far. From then on a knob that binds grows fast while it is well below the level last
    refused, and above that by one small probe each time `patience` requests went well, for much longer than the last
    rest took; a refused probe doubles the patience, a probe that holds forgets the refused level.
    A refusal is blamed on the window if so many at once were hardly ever accepted lately and the rate was not just
    raised, else on the rate. A refused window becomes one less than was refused. A refused rate becomes a little less
    than what was served since the last cut, for from one refusal to the next that is what the provider takes, however
    much it saves up; but it falls by no more than `OVERSHOOT` or `HARSHEST`, for we may have asked for less until it
    grew, and few requests measure badly. There is one cut per burst: refusals of requests started before the last one
    was told are ignored, and if the very first request after a rest is refused the provider is still dry, which says
    nothing.
    """

    def __init__(self) -> None:
        self.in_use = 0
        self.window = FIRST_WINDOW
        self.rate = math.inf
        self._window_refused = self._rate_refused = math.inf
        self._next = -math.inf  # next start by the pace
        self._burst = 0  # bursts of refusals so far
        self._resuming = False  # whether the next start is the first since the last one
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._patience = MIN_PATIENCE
        self._raised: Literal["", "growth", "rate", "window"] = ""  # the last raise since the last cut
        self._widened = False  # whether the last probe was of the window
        self._stretch = Stretch(math.nan)
        self._hold(-math.inf)

    def ready_at(self, now: float) -> float:
        """The earliest time at which one more may start."""
        return self._next if self.in_use < self.window else math.inf

    def start(self, now: float) -> Trial:
        step = 1 / self.rate
        paced = step > 0 and now - self._next < max(step / 2, LATE_S)
        self._next = now + step
        self.in_use += 1
        if self._stretch.sent == 0:
            self._stretch.first = self._since = now
        self._stretch.sent += 1
        first, self._resuming = self._resuming, False
        return Trial(now, self.in_use, paced, self.in_use >= self.window, first, self._burst, self._stretch)

    def returned(self, trial: Trial, now: float) -> None:
        """Neither accepted nor refused: says nothing about the limits."""
        self.in_use -= 1

    def accepted(self, trial: Trial, now: float) -> None:
        self.in_use -= 1
        self._recent.append(trial.at_once)
        if trial.at < self._since:
            return
        if trial.narrow and self.window < self._window_refused - 1:
            self.window += 1
        elif trial.paced and not trial.narrow and self.rate < NEAR * self._rate_refused:
            self.rate += min(1 / GROWTH_S, self.rate / GROWTH_N)
            self._raised = "growth"
        elif trial.paced or trial.narrow:
            self._good += 1
            self._paced += trial.paced
            self._narrow += trial.narrow
            seconds = RESTS * min(LONGEST_REST_S, self._stretch.rest)
            if self._good >= self._patience and now - self._since >= seconds:
                self._probe(now)

    def refused(self, trial: Trial, now: float) -> None:
        self.in_use -= 1
        trial.stretch.sent -= 1
        if trial.burst != self._burst:
            return
        self._burst, self._resuming = self._burst + 1, True
        if self.rate == math.inf:
            self.rate = max(1, self._stretch.sent) / max(1.0, trial.at - self._stretch.first)
        elif self._raised in ("", "window") and self._untried(trial.at_once):
            self._cut_window(trial.at_once)
        elif trial.first and self._stretch.sent < ENOUGH:
            self._stretch.dry = True
            return
        else:
            self._cut_rate(trial.at)
        if self._raised:
            self._patience = min(MAX_PATIENCE, self._patience * 2)
        self._raised = ""
        self._stretch = Stretch(trial.at)
        self._hold(now)

    def _hold(self, now: float) -> None:
        """Start to count how long the present level goes well; requests started earlier do not count."""
        self._since = now
        self._good = self._paced = self._narrow = 0

    def _probe(self, now: float) -> None:
        widen = self._narrow > BINDING * self._good
        if widen and self._paced > BINDING * self._good:  # both bind: take turns
            widen = not self._widened
        self._widened = widen
        if widen:
            if self.window >= self._window_refused:
                self._window_refused = math.inf
            self.window += max(1, int(self.window * (STEP - 1)))
        else:
            if self.rate >= self._rate_refused:
                self._rate_refused = math.inf
            self.rate *= STEP
        self._raised = "window" if widen else "rate"
        self._hold(now)

    def _untried(self, at_once: int) -> bool:
        as_many = sum(n >= at_once for n in self._recent)
        return len(self._recent) >= ENOUGH and as_many <= RARE * len(self._recent)

    def _cut_window(self, at_once: int) -> None:
        if self._raised != "window":  # earlier refusals may have been the window's doing, too
            self._rate_refused = math.inf
        self._window_refused = at_once
        self.window = max(1, at_once - 1)

    def _cut_rate(self, at: float) -> None:
        refused, stretch = self.rate, self._stretch
        rest, active = stretch.rest, at - stretch.first
        # A rest may be longer than the provider needed, but it needed a spacing, and of a long one all but a second.
        needed = max(min(rest, 1 / refused), rest / 4, rest - 1)
        measured = (stretch.sent + PART_LEFT) / max(active + needed, 1 / refused)
        least = refused / (OVERSHOOT if rest < active else HARSHEST)
        if stretch.dry and rest > LONG_REST_S:  # a used-up budget: its period was measured well
            least = 0.0
        self.rate = max(least, min(measured, refused) / MARGIN)
        self._rate_refused = min(refused, self.rate * OVERSHOOT)
