"""One chat completion of n choices as n samples, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Completion = dict[str, Any]


def split(completion: Completion) -> list[Completion]:
    """A completion of one choice for each choice.

    Each carries its share of the usage: the whole prompt, which is paid once a
    call, and an equal part of the tokens that were made for all choices.
    """
    choices: list[dict[str, Any]] = completion.get("choices") or []
    shares = _shares(completion.get("usage"), len(choices))
    return [
        {**completion, "choices": [{**choice, "index": 0}], **({"usage": share} if share else {})}
        for choice, share in zip(choices, shares, strict=True)
    ]


def join(completions: Sequence[Completion], billed: Sequence[bool] = ()) -> Completion:
    """One completion with all the choices, in order.

    Its usage is what one call would have cost: for the choices that were *billed*
    now, or, where none was, for all of them.
    """
    last = completions[-1]  # the newest: its id, time and fingerprint stand for all
    if len(completions) == 1:
        return last
    choices = [{**one["choices"][0], "index": index} for index, one in enumerate(completions)]
    joined = {**last, "choices": choices}
    bought = [one for one, counts in zip(completions, billed, strict=True) if counts] if any(billed) else completions
    usages = [one.get("usage") for one in bought]
    if all(usages):
        made = sum(usage["completion_tokens"] for usage in usages if usage)
        joined["usage"] = _usage(usages[-1] or {}, made)
    return joined


def _shares(usage: dict[str, Any] | None, n: int) -> list[dict[str, Any] | None]:
    if not usage or n == 1:
        return [usage] * n
    made = int(usage.get("completion_tokens") or 0)
    return [_usage(usage, made // n + (index < made % n)) for index in range(n)]


def _usage(usage: dict[str, Any], made: int) -> dict[str, Any]:
    # The details of what was made are of one call, and no longer add up.
    kept = {name: value for name, value in usage.items() if name != "completion_tokens_details"}
    return {**kept, "completion_tokens": made, "total_tokens": int(usage.get("prompt_tokens") or 0) + made}
