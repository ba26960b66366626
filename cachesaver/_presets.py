"""The two stacks that most people want."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from ._batcher import Batcher
from ._cache import Cache
from ._cacher import Cacher, Mode
from ._deduplicator import Deduplicator
from ._dispatcher import Dispatcher
from ._reorderer import Reorderer
from ._stage import Stage

SORTED_BATCHES = 4  #: collected at a time to be sorted: more sort better, and the first of them waits longer


def online(
    model: Any,
    cache: Cache,
    *,
    scope: str | None = None,
    mode: Mode = "reuse",
    shared: bool = False,
    limiter: AbstractAsyncContextManager[Any] | None = None,
    batch_size: int = 64,
) -> Batcher:
    """A stack for a hosted model: what is asked at the same moment is put in order and merged.

    Nothing waits for a batch to fill: a batch is what is there.
    """
    return Batcher(
        Reorderer(Deduplicator(Cacher(_bottom(model, limiter), cache, scope=scope, mode=mode, shared=shared))),
        batch_size,
    )


def local(
    model: Any,
    cache: Cache,
    *,
    scope: str | None = None,
    mode: Mode = "reuse",
    shared: bool = False,
    limiter: AbstractAsyncContextManager[Any] | None = None,
    batch_size: int = 64,
    timeout: float = 0.0,
    by: Callable[[Any], float] | None = None,
) -> Cacher:
    """A stack for a model on your own hardware: hits are answered at once, only misses fill its batches.

    A batch leaves when it holds *batch_size* samples, when its oldest has waited *timeout* seconds, or
    before that when nobody else can ask: when all requests are in it and the model has nothing to do.
    With *by*, a function of a prompt such as `len`, four batches are collected at a time and sorted by
    it, so that prompts of like length share a batch and little of it is padding.
    """
    batches: Stage = Batcher(_bottom(model, limiter), batch_size, timeout)
    if by is not None:
        batches = Batcher(Reorderer(batches, by=by), SORTED_BATCHES * batch_size, timeout)
    return Cacher(batches, cache, scope=scope, mode=mode, shared=shared)


def _bottom(model: Any, limiter: AbstractAsyncContextManager[Any] | None) -> Stage:
    if limiter is not None and isinstance(model, Stage):
        raise TypeError("a limiter goes with the model itself: Dispatcher(model, limiter=limiter)")
    return model if isinstance(model, Stage) else Dispatcher(model, limiter)
