"""What tokens cost: a small table with a date, over which a user's own prices stand."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple


class Price(NamedTuple):
    """US dollars for a million tokens: of the prompt, and of the answer."""

    input: float
    output: float


AS_OF = "2026-11-26"  #: the day on which the table was compared with providers' lists, by way of genai-prices 0.2.3

PRICES = {
    "gpt-5.5": Price(5, 30),
    "gpt-5.4": Price(2.5, 15),
    "gpt-5.2": Price(1.75, 14),
    "gpt-5.1": Price(1.25, 10),
    "gpt-5": Price(1.25, 10),
    "gpt-5-mini": Price(0.25, 2),
    "gpt-5-nano": Price(0.05, 0.4),
    "gpt-4.1": Price(2, 8),
    "gpt-4.1-mini": Price(0.4, 1.6),
    "gpt-4.1-nano": Price(0.1, 0.4),
    "gpt-4o": Price(2.5, 10),
    "gpt-4o-mini": Price(0.15, 0.6),
    "gpt-3.5-turbo": Price(0.5, 1.5),
    "o3": Price(2, 8),
    "o3-mini": Price(1.1, 4.4),
    "o4-mini": Price(1.1, 4.4),
    "claude-opus-4-7": Price(5, 25),
    "claude-opus-4-6": Price(5, 25),
    "claude-opus-4-5": Price(5, 25),
    "claude-opus-4-1": Price(15, 75),
    "claude-sonnet-5": Price(2, 10),
    "claude-sonnet-4-6": Price(3, 15),
    "claude-sonnet-4-5": Price(3, 15),
    "claude-sonnet-4-0": Price(3, 15),
    "claude-haiku-4-5": Price(1, 5),
    "claude-3-5-haiku": Price(0.8, 4),
    "gemini-3-pro-preview": Price(2, 12),
    "gemini-3-flash-preview": Price(0.5, 3),
    "gemini-2.5-pro": Price(1.25, 10),
    "gemini-2.5-flash": Price(0.3, 2.5),
    "gemini-2.5-flash-lite": Price(0.1, 0.4),
    "gemini-2.0-flash": Price(0.1, 0.4),
    "mistral-large": Price(2, 6),
    "mistral-small": Price(0.15, 0.6),
    "command-a-03-2025": Price(2.5, 10),
    "command-r-08-2024": Price(0.15, 0.6),
}

_MILLION = 1_000_000
_EDITION = re.compile(r"(-\d{4}-\d{2}-\d{2}|-\d{8}|-latest|@.+)$")  # as in gpt-4.1-nano-2025-04-14


def checked(prices: Mapping[str, tuple[float, float]]) -> dict[str, Price]:
    """A user's own *prices*: (input, output) by the name of a model. Raises TypeError or ValueError."""
    if not isinstance(prices, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError("prices must be a mapping, of (input, output) by the name of a model")
    own: dict[str, Price] = {}
    for model, price in prices.items():
        try:
            own[model] = Price(*map(float, price))
        except (TypeError, ValueError):
            raise TypeError(
                f"the price of {model!r} must be two numbers, US dollars for a million tokens of input and of output;"
                f" not {price!r}"
            ) from None
        if not all(0 <= number < float("inf") for number in own[model]):
            raise ValueError(f"the price of {model!r} must not be negative or infinite: {price!r}")
    return own


def find_price(model: str, own: Mapping[str, Price]) -> Price | None:
    """The price of *model*: the user's *own*, else the table's; with the date of an edition or without."""
    name = model.rsplit("/", 1)[-1]  # as in openai/gpt-4.1-nano
    for candidate in (model, name, _EDITION.sub("", name)):
        price = own.get(candidate) or PRICES.get(candidate)
        if price is not None:
            return price
    return None


def cost(price: Price, input_tokens: int, output_tokens: int) -> float:
    """US dollars for so many tokens."""
    return (input_tokens * price.input + output_tokens * price.output) / _MILLION
