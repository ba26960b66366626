"""What the headers of an answer say about limits: what is left of them, and how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime

from ._left import Limit

UNSAID = 60.0  #: seconds until a limit is whole again, where that is not told: all of them count by the minute

# Where each is told: OpenAI, Groq and Azure; Anthropic; Mistral; Together; and who counts requests alone.
_REQUESTS = (
    "x-ratelimit-{}-requests",
    "anthropic-ratelimit-requests-{}",
    "x-ratelimit-{}-req-minute",
    "x-ratelimit-{}",
    "ratelimit-{}",
)
_TOKENS = (
    "x-ratelimit-{}-tokens",
    "anthropic-ratelimit-tokens-{}",
    "anthropic-ratelimit-input-tokens-{}",
    "x-ratelimit-{}-tokens-minute",
    "x-tokenlimit-{}",
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_EPOCH = 1e9  # a number of seconds as large as this is a date

Headers = Mapping[str, str]


def limits(headers: Headers) -> tuple[Limit | None, Limit | None]:
    """What is left of the requests, and of the tokens."""
    return _limit(headers, _REQUESTS), _limit(headers, _TOKENS)


def wait(headers: Headers) -> float | None:
    """For how many seconds the server asks to be left alone; None where it says nothing.

    Without a `Retry-After`, it is until what is used up is whole again.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (told := seconds(headers.get("retry-after"))) is not None:
        return told
    known = [limit for limit in limits(headers) if limit is not None]
    if used_up := [limit.reset for limit in known if limit.remaining < 1]:
        return max(used_up)
    resets = [
        told for form in (*_REQUESTS, *_TOKENS) if (told := seconds(headers.get(form.format("reset")))) is not None
    ]
    return min(resets, default=None)


def seconds(text: str | None) -> float | None:
    """From now on: of "20", "1.5", "6m0s", "120ms", an HTTP date, an RFC 3339 date, or a number since 1970."""
    if text is None:
        return None
    text = text.strip()
    number = _number(text)
    if number is not None:
        if number >= _EPOCH:
            number = number / (1000 if number >= _EPOCH * 1000 else 1) - time.time()
        return max(0.0, number)
    if _DURATION.fullmatch(text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            return max(0.0, read(text).timestamp() - time.time())
        except (ValueError, OverflowError, TypeError):
            continue
    return None


def _limit(headers: Headers, forms: tuple[str, ...]) -> Limit | None:
    for form in forms:
        remaining = _number(headers.get(form.format("remaining")))
        if remaining is not None:
            reset = seconds(headers.get(form.format("reset")))
            return Limit(remaining, UNSAID if reset is None else reset)
    return None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
