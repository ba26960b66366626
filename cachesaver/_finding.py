"""Finding prompts and samples in a cache file: for `ls`, `show` and `explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ._looking import Look
from ._miss import differing, find_nearest
from ._prompt import Prompt, decode
from ._records import KnownPrompt
from ._selection import matches
from ._statements import KNOWN_PROMPTS

LOOKED_AT = 20_000  #: the newest prompts among which the nearest is looked for

_LIST = """
SELECT prompts.id AS id, scope, prompt, first_seen,
    (SELECT count(*) FROM samples WHERE prompt_id = prompts.id) AS samples
FROM prompts WHERE (? IS NULL OR instr(lower(prompt), lower(?))) AND prompts.id < ?
ORDER BY prompts.id DESC LIMIT 500"""
_IN_NAMESPACE = "SELECT DISTINCT prompt_id FROM assignments WHERE namespace_id IN ({})"
_SAMPLES = """
SELECT samples.position AS position, answer, bought_at, seconds, input_tokens, output_tokens, cost,
    reason AS rejected
FROM samples LEFT JOIN rejections USING (prompt_id, position) WHERE prompt_id = ? ORDER BY samples.position"""
_USES = """
SELECT position, name AS namespace, request_id, ordinal, delivered_at
FROM assignments JOIN namespaces ON namespaces.id = namespace_id WHERE prompt_id = ? ORDER BY assignments.id"""


@dataclass
class FoundPrompt:
    """A prompt of the file: its number there, and how many samples it has."""

    id: int
    scope: str
    prompt: Any
    first_seen: str
    samples: int


@dataclass
class FoundSample:
    """A sample of a prompt, and who drew it."""

    position: int
    answer: Any
    bought_at: str
    seconds: float
    input_tokens: int | None
    output_tokens: int | None
    cost: float | None
    rejected: str | None
    uses: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


@dataclass
class Explanation:
    """Why a prompt is a hit or a miss: what is known of it, or else of the most similar one."""

    scope: str | None
    samples: int = 0  #: that can be drawn
    rejected: int = 0
    drawn: list[int] = field(default_factory=list[int])  #: positions that the namespace has drawn
    nearest: KnownPrompt | None = None
    differences: list[str] = field(default_factory=list[str])

    @property
    def known(self) -> bool:
        """Whether the cache holds the prompt."""
        return self.scope is not None


def find_prompts(
    look: Look, text: str | None, scopes: Sequence[str], namespaces: Sequence[str], most: int
) -> list[FoundPrompt]:
    """The newest prompts that contain *text*, whose scope is like one of *scopes*, drawn in one of *namespaces*."""
    meant = _drawn_in(look, namespaces) if namespaces else None
    found: list[FoundPrompt] = []
    last = 2**62
    while len(found) < most and (page := look.rows(_LIST, (text, text, last))):
        here = (row for row in page if meant is None or row["id"] in meant)
        found += [_found(row) for row in here if not scopes or matches(row["scope"], scopes)]
        last = page[-1]["id"]
    return found[:most]


def prompt_named(look: Look, name: str) -> list[FoundPrompt]:
    """The prompt of this number, or all (at most a few) whose JSON contains this text."""
    if name.isdecimal():
        rows = look.rows(_LIST, (None, None, int(name) + 1))
        return [_found(row) for row in rows[:1] if row["id"] == int(name)]
    return find_prompts(look, name, (), (), 10)


def key_of(look: Look, number: int) -> bytes:
    """The key of the prompt of this number. Raises ValueError if there is none."""
    rows = look.rows("SELECT key FROM prompts WHERE id = ?", (number,))
    if not rows:
        raise ValueError(f"there is no prompt {number}; see what there is with: cachesaver ls")
    return rows[0][0]


def samples_of(look: Look, prompt: FoundPrompt) -> list[FoundSample]:
    """All samples of a prompt, in order."""
    samples = {row["position"]: _sample(row) for row in look.rows(_SAMPLES, (prompt.id,))}
    for row in look.rows(_USES, (prompt.id,)):
        use = dict(row)
        if (position := use.pop("position")) in samples:
            samples[position].uses.append(use)
    return list(samples.values())


def explain(look: Look, value: Any, scope: str | None, namespace: str | None) -> list[Explanation]:
    """What the file knows of the prompt *value*: one explanation for each scope that has it, or one of the nearest."""
    prompt = Prompt(value)
    scopes = [row[0] for row in look.rows("SELECT DISTINCT scope FROM prompts")]
    asked = [name for name in scopes if scope is None or matches(name, [scope])]
    found = {name: look.rows("SELECT id FROM prompts WHERE key = ?", (prompt.key(name),)) for name in asked}
    known = [_known(look, name, rows[0][0], namespace) for name, rows in found.items() if rows]
    return known or [_unknown(look, prompt, scope or next(iter(asked), ""))]


def _known(look: Look, scope: str, row: int, namespace: str | None) -> Explanation:
    samples = look.value("SELECT count(*) FROM samples WHERE prompt_id = ?", (row,))
    rejected = {line[0] for line in look.rows("SELECT position FROM rejections WHERE prompt_id = ?", (row,))}
    drawn = {use["position"] for use in look.rows(_USES, (row,)) if use["namespace"] == namespace} - rejected
    return Explanation(scope, samples - len(rejected), len(rejected), sorted(drawn))


def _unknown(look: Look, prompt: Prompt, scope: str) -> Explanation:
    nearest = find_nearest([KnownPrompt(*row) for row in look.rows(KNOWN_PROMPTS, (LOOKED_AT,))], prompt, scope)
    differences = [] if nearest is None else list(differing(nearest, prompt, scope))
    return Explanation(None, nearest=nearest, differences=differences)


def _drawn_in(look: Look, patterns: Sequence[str]) -> set[int]:
    rows = look.rows("SELECT id, name FROM namespaces")
    ids = ", ".join(str(row["id"]) for row in rows if matches(row["name"], patterns))
    return {row[0] for row in look.rows(_IN_NAMESPACE.format(ids))}


def _found(row: Any) -> FoundPrompt:
    return FoundPrompt(row["id"], row["scope"], json_or_text(row["prompt"]), row["first_seen"], row["samples"])


def _sample(row: Any) -> FoundSample:
    return FoundSample(**{**dict(row), "answer": json_or_text(row["answer"])})


def json_or_text(text: str) -> Any:
    """The value of a JSON text; the text itself where it is damaged."""
    try:
        return decode(text)
    except ValueError:
        return text
