"""The limiters: resources (API keys) lent in turn, never more at once nor faster than they carry."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from anyio import get_current_task

from ._estimate import MOST, Cost, estimate
from ._key import Rate
from ._line import Ask
from ._loops import shared_time
from ._pool import Pool
from ._rate import LeakyBucket
from ._resource import Resource
from ._turn import Retry, Turn


class RoundRobinLimiter:
    """`async with limiter as resource`: the next free resource in turn, first come, first served.

    Any number of tasks, threads and event loops may share one limiter, and a task
    may hold several resources, one block inside the other; generators, whose blocks
    need not end in that order, or in that task, use `request`. A resource comes back whatever happens to the
    request that used it. An error that leaves the block is looked at: a provider that
    refuses (429, 503, 529) puts the resource to rest, one that takes the key no more retires it.

    `request(...).call(function)` asks again as well: up to *attempts* times in all, for *patience*
    seconds at most; and what may have been billed only *resend* times. Limits that
    answers announce are taken up, unless *learn* is False. *estimate(prompt, n)* is how many
    tokens a request will use, *priority(namespace)* who goes first: the highest.
    """

    def __init__(
        self,
        *,
        learn: bool = True,
        attempts: int = 6,
        patience: float = 300.0,
        resend: int = 0,
        estimate: Callable[[Any, int], float] | None = None,
        priority: Callable[[str], float] | None = None,
    ) -> None:
        if type(attempts) is not int or attempts < 1:
            raise ValueError(f"attempts must be an integer of at least 1, not {attempts!r}")
        if type(resend) is not int or resend < 0:
            raise ValueError(f"resend must be an integer, 0 or more, not {resend!r}")
        if not patience >= 0:
            raise ValueError(f"patience must be a number of seconds, 0 or more, not {patience!r}")
        self._pool = Pool(learns=learn)
        self._retry = Retry(attempts, patience, resend)
        self._estimate = estimate
        self._priority = priority
        self._held: dict[int, list[Turn]] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._pool}>"

    def add_resource(self, data: Any, capacity: int | None = 1, rate: Rate = None, group: str | None = None) -> None:
        """Lend *data* as well, to at most *capacity* requests at once, no faster than *rate*.

        With a capacity of None as many and as fast as the provider turns out to take. *rate* is
        a `LeakyBucket`, or one for each model by name. Resources of one *group* share
        the rate, their rests, and what is learned: the keys of an organisation, say.
        """
        if capacity is not None and (type(capacity) is not int or capacity < 1):
            raise ValueError(f"capacity must be an integer of at least 1, or None, not {capacity!r}")
        buckets = list(cast("dict[str, object]", rate).values()) if isinstance(rate, dict) else [rate]
        for bucket in buckets:
            if bucket is not None and not isinstance(bucket, LeakyBucket):
                raise TypeError(f"rate must be a LeakyBucket, or one for each model, not {type(bucket).__name__}")
        self._pool.add(data, capacity, rate, group)

    @property
    def resting(self) -> dict[str, float]:
        """The resources that rest, and for how many seconds; by their numbers, for their data are keys."""
        return self._pool.resting(shared_time())

    def request(
        self,
        prompt: Any = None,
        n: int = 1,
        *,
        namespace: str = "default",
        model: str | None = None,
        tokens: float | None = None,
        priority: float | None = None,
    ) -> Turn:
        """What `async with` waits at for a resource, for a request of which the limiter shall know something.

        Of a *prompt*, the body of a chat request say, it takes the model, and how many tokens it and
        its *n* answers will use; or give *model* and *tokens*. Requests of different *namespaces* take turns.
        """
        if model is None and isinstance(prompt, dict):
            named = cast("dict[str, Any]", prompt).get("model")
            model = named if isinstance(named, str) else None
        if priority is None:
            priority = 0.0 if self._priority is None else self._priority(namespace)
        if not isinstance(priority, (int, float)) or priority != priority:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"priority must be a number, not {priority!r}")
        return Turn(self._pool, Ask(namespace, model, self._cost(prompt, n, tokens), priority), self._retry)

    async def __aenter__(self) -> Resource:
        turn = self.request()
        resource = await turn.__aenter__()
        self._held.setdefault(get_current_task().id, []).append(turn)
        return resource

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = get_current_task().id
        if task not in self._held:
            raise RuntimeError("this task did not enter the limiter; to leave in another task: limiter.request()")
        turn = self._held[task].pop()
        if not self._held[task]:
            del self._held[task]
        await turn.__aexit__(kind, error, traceback)

    def _cost(self, prompt: Any, n: int, tokens: float | None) -> Cost:
        if tokens is not None:
            return Cost(checked("tokens", tokens))
        if prompt is None:
            return Cost()
        if self._estimate is None:
            return estimate(prompt, n)
        return Cost(checked("what `estimate` returns", self._estimate(prompt, n)))


def checked(what: str, tokens: float) -> float:
    """*tokens*, if it is a number of them."""
    if not isinstance(tokens, (int, float)) or not 0 <= tokens < MOST:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"{what} must be a number, 0 or more, not {tokens!r}")
    return float(tokens)


class UnlimitedLimiter(RoundRobinLimiter):
    """Lends the same *data* to everybody at once, but when its provider wants to be left alone."""

    def __init__(self, data: Any = None) -> None:
        super().__init__(learn=False)
        self.data = data
        self.add_resource(data, capacity=None)


AsyncRoundRobinLimiter = RoundRobinLimiter  #: the name in the system that this one descends from
