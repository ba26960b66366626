"""Any model, called in one way: objects with `request` or `batch_request`, and plain functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

from anyio import CapacityLimiter, to_thread

from ._errors import ModelError
from ._prompt import Prompt
from ._request import Response

PASSED = ("n", "namespace", "request_id", "resource", "origin")  #: what a model gets where its signature has it
THREADS = 64  #: calls of one synchronous model at once; a limiter sets fewer


class ModelCall:
    """How to call one model. Raises TypeError if it is none."""

    def __init__(self, model: Any) -> None:
        if isinstance(model, type):
            raise TypeError(f"{model.__name__} is a class: give an instance of it as the model")
        batch, single = getattr(model, "batch_request", None), getattr(model, "request", None)
        single = single if callable(single) else model
        self.takes_prompts = callable(batch) and single is model
        function = batch if self.takes_prompts else single
        if not callable(function):
            raise TypeError(
                f"{type(model).__name__} is no model: it needs a method request(prompt) or batch_request(prompts), "
                "or to be a function of a prompt"
            )
        self.scope = scope_of(model)
        self._function: Callable[..., Any] = function
        self._takes = accepted(function)
        self._waits = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object whose __call__ is a coroutine function)
        )
        self._threads: CapacityLimiter | None = None

    @property
    def takes_n(self) -> bool:
        """Whether one call can return several samples."""
        return "n" in self._takes

    async def one(self, prompt: Any, n: int, **labels: Any) -> list[Any]:
        """The answers of one call: up to *n* of them where the model takes n, else one."""
        answer = await self._call(prompt, n=n, **labels)
        if isinstance(answer, Response):
            return answer.data
        if not self.takes_n:
            return [answer]
        if not isinstance(answer, (list, tuple)):
            raise ModelError(
                f"the model takes n and must return a list of answers, not {type(answer).__name__}", answer
            )
        return list(cast("Sequence[Any]", answer))

    async def many(self, prompts: list[Any], resource: Any) -> list[Any]:
        """One answer, or one Exception, for each prompt."""
        answers = await self._call(prompts, resource=resource)
        if not isinstance(answers, (list, tuple)):
            raise ModelError(f"batch_request must return a list of answers, not {type(answers).__name__}", answers)
        listed = list(cast("Sequence[Any]", answers))
        if len(listed) != len(prompts):
            raise ModelError(f"batch_request got {len(prompts)} prompts and returned {len(listed)} answers", listed)
        return listed

    async def _call(self, prompt: Any, **offered: Any) -> Any:
        passed = {name: value for name, value in offered.items() if name in self._takes}
        if self._waits:
            return await self._function(prompt, **passed)
        if self._threads is None:
            self._threads = CapacityLimiter(THREADS)  # anyio's own is shared, and small enough to deadlock on
        # In a list, because trio refuses threads that return coroutines.
        (answer,) = await to_thread.run_sync(
            lambda: [self._function(prompt, **passed)], abandon_on_cancel=True, limiter=self._threads
        )
        return await answer if inspect.isawaitable(answer) else answer


def accepted(function: Callable[..., Any]) -> frozenset[str]:
    """Which of the things we can pass *function* has in its signature."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # some builtins have none
        return frozenset()
    return frozenset(name for name in PASSED if name in parameters)


def scope_of(model: Any) -> str:
    """What names *model* in a cache: its `cache_scope`, else its qualified name, with what a partial has filled in."""
    scope = getattr(model, "cache_scope", None)
    if isinstance(scope, str):
        return scope
    if isinstance(model, partial):
        inner = cast("partial[Any]", model)
        return f"{scope_of(inner.func)}{_filled_in([*inner.args], inner.keywords)}"
    named: Any = model if hasattr(model, "__qualname__") else type(cast("object", model))
    return f"{getattr(named, '__module__', 'builtins')}.{named.__qualname__}"  # a method of a builtin has none


def _filled_in(arguments: list[Any], keywords: dict[str, Any]) -> str:
    """What tells one partial of a function from another: a digest of its arguments, as far as they are JSON."""
    named = {**{str(index): value for index, value in enumerate(arguments)}, **keywords}
    plain = {name: value for name, value in named.items() if _is_json(value)}
    return f"({Prompt(plain).key('partial').hex()[:12]})" if plain else ""


def _is_json(value: Any) -> bool:
    try:
        Prompt(value)
    except (TypeError, ValueError):
        return False
    return True
