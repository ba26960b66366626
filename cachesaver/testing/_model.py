"""Models that count what they sell: the source of truth for what was bought."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from anyio import sleep


class CountingModel:
    """A model whose every answer is unique: the k-th answer to "p" is "p#k".

    *delay* is the seconds that a call takes, or a function of the prompt; *failures*
    are exceptions that the next calls raise, in order (None: that call succeeds).
    `calls` lists (prompt, n) of every call, `sold` counts the samples returned.
    """

    def __init__(
        self,
        *,
        delay: float | Callable[[Any], float] = 0.0,
        failures: Iterable[Exception | None] = (),
        cache_scope: str = "counting-model",
    ) -> None:
        self.cache_scope = cache_scope
        self.delay = delay
        self.failures = deque(failures)
        self.calls: list[tuple[Any, int]] = []
        self.sold = 0
        self.running = 0
        self.peak = 0  #: the most calls that ran at once
        self.made: Counter[str] = Counter()  #: the samples sold, by prompt (as JSON, where it is no string)

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        """Sell *n* answers."""
        self.calls.append((prompt, n))
        failure = self.failures.popleft() if self.failures else None
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await sleep(self.delay(prompt) if callable(self.delay) else self.delay)
        finally:
            self.running -= 1
        if failure is not None:
            raise failure
        return [self.make(prompt) for _ in range(n)]

    def make(self, prompt: Any) -> Any:
        """The next answer to *prompt*."""
        text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)
        self.sold += 1
        self.made[text] += 1
        return f"{text}#{self.made[text] - 1}"


class FakeBatchModel(CountingModel):
    """The same, asked for whole batches; `calls` lists (prompts, how many)."""

    request = None  # type: ignore[assignment]

    async def batch_request(self, prompts: list[Any]) -> list[Any]:
        """Sell an answer to each of *prompts*."""
        self.calls.append((list(prompts), len(prompts)))
        failure = self.failures.popleft() if self.failures else None
        await sleep(self.delay(prompts) if callable(self.delay) else self.delay)
        if failure is not None:
            raise failure
        return [self.make(prompt) for prompt in prompts]
