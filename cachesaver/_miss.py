"""What to say when a sample is missing offline: what was asked, and what comes nearest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, cast

from ._errors import CacheMiss
from ._prompt import Prompt, decode
from ._records import KnownPrompt
from ._threads import completed

if TYPE_CHECKING:
    from ._cache import Cache

LOOKED_AT = 500  #: the newest prompts among which the nearest is looked for
SHOWN = 300  #: characters of a value in a message


async def cache_miss(cache: Cache, prompt: Prompt, scope: str, known: int) -> CacheMiss:
    """The error for a sample that *cache* lacks, with the nearest known prompt and how it differs."""
    scope = prompt.scope_under(scope)
    nearest = find_nearest(await completed(cache.known_prompts(LOOKED_AT)), prompt, scope)
    lines = [
        f"the cache holds {known} sample{'' if known == 1 else 's'} of this prompt, and this run needs one more",
        f"prompt: {shorten(prompt.asked)}",
        f"scope: {scope}",
    ]
    differences: tuple[str, ...] = ()
    if nearest is not None:
        differences = tuple(differing(nearest, prompt, scope))
        lines.append(f"nearest known prompt: {shorten(nearest.prompt)}")
        lines += [f"  differs in {difference}" for difference in differences]
    lines.append('ask for fewer samples, or run once with mode="reuse" to buy it')
    return CacheMiss(
        "\n".join(lines),
        prompt=prompt.fresh(),
        scope=scope,
        known=known,
        nearest=None if nearest is None else decode(nearest.prompt),
        differences=differences,
    )


def find_nearest(candidates: list[KnownPrompt], prompt: Prompt, scope: str) -> KnownPrompt | None:
    """The most similar known prompt; one of the same scope where there is a choice."""
    asked = fields(prompt.fresh())

    def likeness(candidate: KnownPrompt) -> tuple[float, bool]:
        known = fields(decode(candidate.prompt))
        same = sum(similar(asked[name], known[name]) for name in asked.keys() & known.keys())
        return same / max(len(asked), len(known)), candidate.scope == scope

    others = [known for known in candidates if known.scope != scope or known.prompt != prompt.asked]
    return max(filter(readable, others), key=likeness, default=None)


def readable(known: KnownPrompt) -> bool:
    """Whether it is a prompt as cachesaver writes them; the file may come from anybody."""
    try:
        Prompt(decode(known.prompt))
    except (TypeError, ValueError):
        return False
    return True


def differing(nearest: KnownPrompt, prompt: Prompt, scope: str) -> Iterator[str]:
    """The fields in which *nearest* differs, as "field: there -> here"."""
    if nearest.scope != scope:
        yield f"scope: {nearest.scope} -> {scope}"
    there, here = fields(decode(nearest.prompt)), fields(prompt.fresh())
    for name in [*there, *(name for name in here if name not in there)]:
        if there.get(name, missing) != here.get(name, missing):
            yield f"{name or 'prompt'}: {show(there, name)} -> {show(here, name)}"


missing = object()


def fields(value: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a JSON value by their paths, as in "messages[0].content"."""
    if isinstance(value, dict) and value:
        items = cast("dict[str, Any]", value).items()
        return {k: v for name, item in items for k, v in fields(item, f"{path}.{name}" if path else name).items()}
    if isinstance(value, list) and value:
        items = enumerate(cast("list[Any]", value))
        return {k: v for index, item in items for k, v in fields(item, f"{path}[{index}]").items()}
    return {path: value}


def similar(one: Any, other: Any) -> float:
    """1 for equal leaves, less for similar strings."""
    if one == other:
        return 1.0
    if isinstance(one, str) and isinstance(other, str):
        return SequenceMatcher(None, one[:SHOWN], other[:SHOWN]).quick_ratio()
    return 0.0


def show(leaves: dict[str, Any], name: str) -> str:
    return shorten(json.dumps(leaves[name], ensure_ascii=False)) if name in leaves else "(absent)"


def shorten(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
