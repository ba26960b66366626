"""How many tokens a request will use, before it is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

MOST = 1e12  #: tokens; more is no number of them
CHARACTERS = 4  #: of a token, about
DATA = 1000  #: the tokens of a picture or a file
_LONG = 1000  # characters without a space: that is data, not text
_MOST = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "maxOutputTokens", "num_predict")
_HOLDERS = ("generationConfig", "options", "parameters")  # where providers keep it, if not in the body itself


@dataclass(frozen=True, slots=True)
class Cost:
    """The tokens of a request: *sent* with it, and for each of *answers* as many as answers have had, but *most*."""

    sent: float = 0.0
    answers: int = 0
    most: float | None = None


def estimate(prompt: Any, n: int) -> Cost:
    """A token for every four characters of text, a thousand for a picture; and *n* answers."""
    return Cost(_tokens(prompt), n, _most(prompt))


def _most(prompt: Any) -> float | None:
    """How long the prompt lets an answer be, where it says so."""
    if isinstance(prompt, dict):
        body = cast("dict[str, Any]", prompt)
        for holder in (body, *(body.get(name) for name in _HOLDERS)):
            for name in _MOST if isinstance(holder, dict) else ():
                most: Any = cast("dict[str, Any]", holder).get(name)
                if type(most) is int and 0 < most < MOST:
                    return most
    return None


def _tokens(value: Any) -> float:
    if isinstance(value, str):
        data = len(value) > _LONG and value.isascii() and not any(map(str.isspace, value[:_LONG]))
        return DATA if data else len(value) / CHARACTERS
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return sum(len(name) / CHARACTERS + _tokens(item) for name, item in items)
    return sum(map(_tokens, cast("list[Any]", value))) if isinstance(value, (list, tuple)) else 0.0
