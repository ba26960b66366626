"""Token counts, where answers carry them."""

from __future__ import annotations

from typing import Any, cast

from ._records import Usage

# Where providers tell them: OpenAI and Anthropic; Gemini; Cohere, in its second and its first version; Ollama.
_HOLDERS = (("usage",), ("usageMetadata",), ("usage", "tokens"), ("meta", "tokens"), ())
_INPUT = ("prompt_tokens", "input_tokens", "promptTokenCount", "prompt_eval_count")
_OUTPUT = ("completion_tokens", "output_tokens", "candidatesTokenCount", "eval_count")
MOST = 2**40  #: tokens; more are no count, and would not fit into the sums of a ledger
_THOUGHT = ("thoughtsTokenCount",)  # what Gemini counts beside its output


def usage_of(answer: Any) -> Usage | None:
    """The tokens that a provider's answer tells of, in the words of any of them; None without any."""
    for holder in _HOLDERS:
        counts = answer
        for name in holder:
            counts = cast("dict[str, Any]", counts).get(name) if isinstance(counts, dict) else None
        if isinstance(counts, dict):
            told = cast("dict[str, Any]", counts)
            asked, made = _count(told, _INPUT), _count(told, _OUTPUT)
            if asked is not None or made is not None:
                return Usage(asked or 0, (made or 0) + (_count(told, _THOUGHT) or 0))
    return None


def _count(counts: dict[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        count = counts.get(name)
        if type(count) is int and 0 <= count < MOST:
            return count
    return None
