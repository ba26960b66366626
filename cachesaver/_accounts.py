"""Accounts: what each namespace of a run asked of each model, what was bought for it, and what it reused."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ._prices import Price, cost, find_price
from ._prompt import Prompt
from ._purchase import NAMESPACE
from ._records import Answer, Entry, Run
from ._stats import Tally, paid

if TYPE_CHECKING:
    from ._claim import Claim

MOST = 10_000  #: accounts that are kept before they are entered in the cache file
EVERY = 10.0  #: seconds after which they are entered with the next commit


class Account:
    """The figures of one namespace and one model since they were entered last."""

    __slots__ = (
        "_price",
        "_tally",
        "asked",
        "bought",
        "requests",
        "reused",
        "saved",
        "seconds_saved",
        "seconds_spent",
        "spent",
    )

    def __init__(self, price: Price | None, tally: Tally) -> None:
        self._price = price
        self._tally = tally  # of the stage, where all accounts are summed up
        self.requests = self.asked = self.bought = self.reused = 0
        self.spent = self.saved = (0, 0)  # tokens of prompts and of answers
        self.seconds_spent = self.seconds_saved = 0.0

    def answered(self, claim: Claim) -> None:
        """The request of *claim* was answered; what it got that was not bought for it is saved."""
        hits = merged = sent = received = 0
        seconds = 0.0
        for position in claim.positions:
            if position in claim.paid:
                continue
            answer, _, cached, _, _ = claim.draws[position]
            if answer.usage is not None:
                if not (claim.paid or hits or merged):  # one call brings them all, and pays the prompt once
                    sent = answer.usage.input_tokens
                received += answer.usage.output_tokens
            hits, merged = (hits + 1, merged) if cached else (hits, merged + 1)
            seconds += answer.seconds
        self.requests += 1
        self.asked += len(claim.positions)
        self.reused += hits + merged
        self.seconds_saved += seconds
        self.saved = self.saved[0] + sent, self.saved[1] + received
        dollars = 0.0 if self._price is None else cost(self._price, sent, received)
        self._tally.save(hits, merged, seconds, sent + received, dollars)

    def buy(self, answer: Answer, rank: int) -> None:
        """A sample was bought, the one of index *rank* in its call."""
        self.bought += 1
        self.seconds_spent += answer.seconds
        sent, received = (0, 0) if answer.usage is None else paid(answer.usage, rank)
        self.spent = self.spent[0] + sent, self.spent[1] + received
        self._tally.cost_spent += self._cost((sent, received)) or 0.0

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
    """All accounts of one run.

    What a Cacher above asks is in an account without a price, which is entered nowhere: that one keeps its own.
    """

    def __init__(self, prices: Mapping[str, Price], scope: str, tally: Tally) -> None:
        self._prices = prices
        self._scope = scope
        self._tally = tally
        self.full = False  # they take so much memory that they are to be entered now
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
            price = None if namespace == NAMESPACE else self.price(model)
            account = self._open[namespace, model] = Account(price, self._tally)
            self.full = len(self._open) >= MOST
        return account

    def price(self, model: str) -> Price | None:
        """What *model* costs, where anybody knows."""
        if model not in self._priced:
            self._priced[model] = find_price(model, self._prices)
        return self._priced[model]

    @property
    def due(self) -> bool:
        """Whether they are to be entered with the next commit."""
        return self.full or (bool(self._open) and monotonic() - self._entered_at >= EVERY)

    def close(self) -> list[Entry]:
        """What is to be entered in the cache file; they begin anew from zero."""
        closed, self._open, self.full = self._open, {}, False
        self._entered_at = monotonic()
        return [
            account.entry(self.run, namespace, model)
            for (namespace, model), account in closed.items()
            if namespace != NAMESPACE and (account.requests or account.bought)
        ]


def program() -> str:
    """The name of the program that runs, as a person knows it."""
    name = Path(sys.argv[0]).name if sys.argv else ""
    return name.encode(errors="replace").decode() or "python"
