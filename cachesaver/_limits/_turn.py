"""Turn: one request's way through a limiter: its place in the line, its resource, and asking again."""

from __future__ import annotations

import math
import warnings
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from anyio import CancelScope, Event
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from .._errors import CacheSaverWarning, NoResources
from ._line import Ask, Order, Waiter
from ._loops import loop_here
from ._pool import Pool
from ._pushback import UNKNOWN, Fate, Pushback, read
from ._resource import Resource

T = TypeVar("T")

_FREE = (Fate.QUOTA_GONE, Fate.KEY_INVALID)  # asking again elsewhere is no attempt: that resource is never lent again


@dataclass(frozen=True, slots=True)
class Retry:
    """How often to ask again."""

    attempts: int  #: in all
    patience: float  #: seconds, from the first failure on
    resend: int  #: of what may have been billed


class Turn:
    """What a limiter's `request` returns: enter it for a resource, or let it `call`."""

    def __init__(self, pool: Pool, ask: Ask, retry: Retry) -> None:
        self._pool = pool
        self._ask = ask
        self._retry = retry
        self._entered = False
        self._resource: Resource | None = None

    async def __aenter__(self) -> Resource:
        if self._entered:
            raise RuntimeError("this request is under way already; make one for each: limiter.request(...)")
        self._entered = True
        try:
            self._resource = await _take(self._pool, Waiter(self._ask, loop_here()))
        except BaseException:
            self._entered = False
            raise
        return self._resource

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        resource, self._resource, self._entered = self._resource, None, False
        assert resource is not None
        _tell(_give_back(self._pool, resource, error)[1])

    async def call(
        self, function: Callable[[Resource], Awaitable[T]], *, resendable: Callable[[], bool] = lambda: True
    ) -> T:
        """What *function* returns, called with a resource; and called again with another one if it failed for nothing.

        What was refused, or never sent, is asked again at once on the next resource that is ready.
        What may have been billed is sent again as the limiter allows, and *resendable* says.
        Raises the error of the last attempt, or `NoResources`.
        """
        tries = _Tries(self._retry)
        order: Order | None = None
        while True:
            waiter = Waiter(self._ask, loop_here(), order)
            resource = await tries.wait(self._pool, waiter)
            order = waiter.order
            try:
                answer = await function(resource)
            except BaseException as error:
                pushback, notices = _give_back(self._pool, resource, error)
                if not isinstance(error, Exception) or not tries.go_on(error, pushback, resendable):
                    _tell(notices, error)
                    raise
                _tell(notices)
            else:
                _give_back(self._pool, resource, None)
                return answer


class _Tries:
    """What became of a request so far."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._made = self._resent = 0
        self._deadline = math.inf
        self._error: Exception | None = None

    def go_on(self, error: Exception, pushback: Pushback, resendable: Callable[[], bool]) -> bool:
        """Whether to ask again after *error*."""
        if self._error is None:
            self._deadline = loop_here().now + self._retry.patience
        self._error = error
        self._made += pushback.fate not in _FREE
        if pushback.fate is Fate.FAILED or self._made >= self._retry.attempts:
            return False
        if pushback.fate is Fate.MAYBE_BILLED:
            self._resent += 1
            return self._resent <= self._retry.resend and resendable()
        return True

    async def wait(self, pool: Pool, waiter: Waiter) -> Resource:
        """A resource. Raises the error of the last attempt where none will be there in time."""
        if self._error is None:
            return await _take(pool, waiter)
        try:
            if pool.rested_at(waiter.ask.model, waiter.loop.now) <= self._deadline:
                with CancelScope(deadline=waiter.loop.deadline(self._deadline)):
                    return await _take(pool, waiter)
        except NoResources:
            pass
        raise self._error


async def _take(pool: Pool, waiter: Waiter) -> Resource:
    await checkpoint_if_cancelled()
    try:
        pool.join(waiter)
        if waiter.called:
            await checkpoint()
        while not waiter.called:
            await _look(pool, waiter)
        pool.go_on(waiter)
    except BaseException:
        pool.leave(waiter)
        raise
    if waiter.error is not None:
        raise waiter.error
    assert waiter.resource is not None
    if waiter.resource.key.retired is None:
        return waiter.resource
    pool.leave(waiter)  # it was retired on the way here
    return await _take(pool, Waiter(waiter.ask, waiter.loop, waiter.order))


async def _look(pool: Pool, waiter: Waiter) -> None:
    """Wait until something has changed for *waiter*, or for the next resource that will be ready by itself."""
    if waiter.parked:
        pool.join(waiter)
    waiter.event = Event()
    look_at = pool.look_at(waiter)
    with CancelScope(deadline=waiter.loop.deadline(look_at)) as scope:
        await waiter.event.wait()
    if scope.cancelled_caught:
        pool.change(max(look_at, waiter.loop.now), lambda _: None)  # the clock may have stopped a hair before


def _give_back(pool: Pool, resource: Resource, error: BaseException | None) -> tuple[Pushback, list[str]]:
    pushback = UNKNOWN
    if isinstance(error, Exception):
        with suppress(Exception):  # an error that cannot even be read must not keep the resource
            pushback = read(error)
    return pushback, pool.give_back(resource, pushback if error is not None else None)


def _tell(notices: list[str], error: BaseException | None = None) -> None:
    """Warn; or, where an *error* is on its way, make them its notes."""
    for notice in notices:
        if error is None:
            warnings.warn(notice, CacheSaverWarning, stacklevel=3)
        else:
            error.add_note(notice)
