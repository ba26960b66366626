"""Token counts, where answers carry them."""

from __future__ import annotations

from typing import Any, cast

from ._records import Usage

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")


def usage_of(answer: Any) -> Usage | None:
    """The `usage` of a provider's answer, in OpenAI's or Anthropic's words; None without one."""
    if not isinstance(answer, dict):
        return None
    usage = cast("dict[str, Any]", answer).get("usage")
    if not isinstance(usage, dict):
        return None
    counts = cast("dict[str, Any]", usage)
    bought, made = _count(counts, _INPUT), _count(counts, _OUTPUT)
    return None if bought is None and made is None else Usage(bought or 0, made or 0)


def _count(counts: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        if type(counts.get(name)) is int:
            return cast("int", counts[name])
    return None
