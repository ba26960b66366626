"""Accounts: what each namespace of a run asked of each model, what was bought for it, and what it reused."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from ._prices import Price, cost, find_price
from ._prompt import Prompt
from ._records import Answer, Entry, Run
from ._stats import Saved, paid

MOST = 10_000  #: accounts that are kept before they are entered in the cache file
EVERY = 10.0  #: seconds after which they are entered with the next commit


class Account:
    """The figures of one namespace and one model since they were entered last."""

    __slots__ = ("_price", "asked", "bought", "requests", "reused", "saved", "seconds_saved", "seconds_spent", "spent")

    def __init__(self, price: Price | None) -> None:
        self._price = price
        self.requests = self.asked = self.bought = self.reused = 0
        self.spent = self.saved = (0, 0)  # tokens of prompts and of answers
        self.seconds_spent = self.seconds_saved = 0.0

    def answered(self, n: int, saved: Saved) -> float:
        """A request for *n* samples was answered; what it *saved*, in US dollars."""
        self.requests += 1
        self.asked += n
        self.reused += saved.hits + saved.merged
        self.seconds_saved += saved.seconds
        sent, received = saved.tokens
        self.saved = self.saved[0] + sent, self.saved[1] + received
        return 0.0 if self._price is None else cost(self._price, sent, received)

    def buy(self, answer: Answer, rank: int) -> float:
        """A sample was bought, the one of index *rank* in its call; what it cost in US dollars."""
        self.bought += 1
        self.seconds_spent += answer.seconds
        sent, received = (0, 0) if answer.usage is None else paid(answer.usage, rank)
        self.spent = self.spent[0] + sent, self.spent[1] + received
        return self._cost((sent, received)) or 0.0

    def entry(self, run: Run, namespace: str, model: str) -> Entry:
        """The line of the ledger."""
        return Entry(
            run=run,
            namespace=namespace,
            model=model,
            requests=self.requests,
            asked=self.asked,
            bought=self.bought,
            reused=self.reused,
            input_tokens_spent=self.spent[0],
            output_tokens_spent=self.spent[1],
            input_tokens_saved=self.saved[0],
            output_tokens_saved=self.saved[1],
            seconds_spent=self.seconds_spent,
            seconds_saved=self.seconds_saved,
            cost_spent=self._cost(self.spent),
            cost_saved=self._cost(self.saved),
        )

    def _cost(self, tokens: tuple[int, int]) -> float | None:
        return None if self._price is None else cost(self._price, *tokens)


class Accounts:
    """All accounts of one run."""

    def __init__(self, prices: Mapping[str, Price], scope: str) -> None:
        self._prices = prices
        self._scope = scope
        self._open: dict[tuple[str, str], Account] = {}
        self._priced: dict[str, Price | None] = {}
        self._entered_at = monotonic()
        started = datetime.now(UTC)
        self.run = Run(f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", program(), started.isoformat("T", "seconds"))

    def of(self, namespace: str, prompt: Prompt) -> Account:
        """The account of *namespace* with the model that *prompt* asks."""
        model = prompt.model(self._scope)
        account = self._open.get((namespace, model))
        if account is None:
            account = self._open[namespace, model] = Account(self.price(model))
        return account

    def price(self, model: str) -> Price | None:
        """What *model* costs, where anybody knows."""
        if model not in self._priced:
            self._priced[model] = find_price(model, self._prices)
        return self._priced[model]

    @property
    def full(self) -> bool:
        """Whether they take so much memory that they are to be entered now."""
        return len(self._open) >= MOST

    @property
    def due(self) -> bool:
        """Whether they are to be entered with the next commit."""
        return self.full or (bool(self._open) and monotonic() - self._entered_at >= EVERY)

    def close(self) -> list[Entry]:
        """What is to be entered in the cache file; they begin anew from zero."""
        closed, self._open = self._open, {}
        self._entered_at = monotonic()
        return [
            account.entry(self.run, namespace, model)
            for (namespace, model), account in closed.items()
            if account.requests or account.bought
        ]


def program() -> str:
    """The name of the program that runs, as a person knows it."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return name.encode(errors="replace").decode() or "python"
