"""Numbers, moments and names as a reader wants them; what comes out of a cache file is any text at all."""

from __future__ import annotations

import json
import math
from typing import Any, cast

NONE = "–"  #: for what is not known
_JOINERS = "\u200c\u200d"  # are not printable, and belong to the spelling of Persian, Hindi and emoji
_HOLDERS = ("messages", "contents", "input", "prompt", "message")  #: where requests to providers hold what is asked
_PARTS = ("content", "parts", "text")


def count(number: float) -> str:
    """A whole number, as 12,345, or 12.3 M from ten million."""
    return f"{number:,.0f}" if number < 10_000_000 else compact(number)


def compact(number: float) -> str:
    """A number in a narrow place, as 12k; three digits at the most."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * limit:  # else rounding would make it 1,000 of the next smaller
            return f"{_three(number / limit)}{unit}"
    return _three(number)


def dollars(amount: float) -> str:
    """An amount with as many digits as it needs: two behind the point, or three that are not zero."""
    if amount >= 1 or amount == 0:
        return f"${amount:,.2f}" if amount < 10_000_000 else f"${compact(amount)}"
    return f"${amount:#.3g}" if amount >= 0.0001 else f"${amount:.1e}"


def brief(number: float) -> str:
    """A whole number in a few large letters."""
    return count(number) if number < 1_000_000 else compact(number)


def brief_dollars(amount: float) -> str:
    """An amount in a few large letters."""
    return dollars(amount) if amount < 1000 else f"${brief(amount)}"


def share(part: float, whole: float) -> str:
    """A percentage, which is 100 % only where nothing is missing, and 0 % where nothing is there."""
    if not whole:
        return NONE
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "< 1 %"
    if 99 < percent < 100:
        return "> 99 %"
    return f"{percent:.0f} %"


def duration(seconds: float) -> str:
    """Seconds, as 12 s, 3.5 min or 7.2 h."""
    if seconds < 1:
        return "< 1 s"
    for limit, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= limit:
            return f"{_three(seconds / limit)} {unit}"
    return f"{_three(seconds)} s"


def size(octets: int) -> str:
    """The size of a file, as 12.3 MB."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB")):
        if octets >= limit:
            return f"{_three(octets / limit)} {unit}"
    return f"{_three(octets / 1e3)} kB"


def moment(text: str | None) -> str:
    """A date of a cache file, to the minute."""
    return NONE if text is None else clean(f"{text[:10]} {text[11:16]}")


def clean(text: str) -> str:
    """One line, without what no page can show or what turns its direction."""
    return "".join(one if one.isprintable() or one in _JOINERS else "\ufffd" for one in " ".join(text.split()))


def short(text: str, most: int) -> str:
    """At most so many characters: the beginning and the end, where names differ."""
    text = clean(text[: 50 * most] + text[-most:] if len(text) > 51 * most else text)
    if len(text) <= most:
        return text
    tail = most // 3
    return f"{text[: most - tail - 1].rstrip()}…{text[-tail:].lstrip()}"


def gist(prompt: str) -> str:
    """What is asked in *prompt*, the JSON of a cache file: the last text of a conversation, else all of it."""
    try:
        value = json.loads(prompt)
    except (ValueError, RecursionError):  # it is damaged, or was cut off
        return prompt
    if isinstance(value, dict):
        for name in _HOLDERS:
            text = _last_text(cast("dict[str, Any]", value).get(name))
            if text:
                return text
    return value if isinstance(value, str) else prompt


def _last_text(value: Any) -> str | None:
    if isinstance(value, list):
        texts = (_last_text(item) for item in reversed(cast("list[Any]", value)))
        return next((text for text in texts if text), None)
    if isinstance(value, dict):
        texts = (_last_text(cast("dict[str, Any]", value).get(name)) for name in _PARTS)
        return next((text for text in texts if text), None)
    return value if isinstance(value, str) else None


def _three(number: float) -> str:
    """Three digits, without zeros behind the point."""
    digits = max(0, 2 - math.floor(math.log10(number))) if number > 0 else 0
    text = f"{number:,.{min(digits, 6)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
