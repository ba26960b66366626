"""What a cache file holds, read off its tables: SQLite counts, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._looking import Look
from . import _text

LONGEST = 100_000  #: characters of a prompt that are read to find out what it asks

_COUNTS = """
SELECT (SELECT count(*) FROM prompts) AS prompts, (SELECT count(*) FROM samples) AS samples,
    (SELECT count(*) FROM namespaces) AS namespaces, (SELECT count(*) FROM runs) AS runs,
    (SELECT count(*) FROM rejections) AS rejected,
    (SELECT bought_at FROM samples ORDER BY id LIMIT 1) AS first_purchase,
    (SELECT bought_at FROM samples ORDER BY id DESC LIMIT 1) AS last_purchase"""

# How many samples of each prompt each namespace drew; temporary tables are no part of the file.
_DRAWN = """
CREATE TEMP TABLE drawn AS
SELECT namespace_id, prompt_id, count(DISTINCT position) AS samples
FROM assignments GROUP BY namespace_id, prompt_id"""
_DRAWN_INDEX = "CREATE INDEX temp.drawn_by_prompt ON drawn (prompt_id, namespace_id, samples)"

_SAMPLES_PER_PROMPT = """
SELECT number, count(*) FROM (SELECT count(*) AS number FROM samples GROUP BY prompt_id)
GROUP BY number ORDER BY number"""
_NAMESPACES_PER_PROMPT = """
SELECT number, count(*) FROM (SELECT count(*) AS number FROM drawn GROUP BY prompt_id)
GROUP BY number ORDER BY number"""

_MOST_USED = f"""
WITH used AS (
    SELECT prompt_id, sum(samples) AS drawn, count(*) AS namespaces FROM drawn
    GROUP BY prompt_id ORDER BY drawn DESC, prompt_id LIMIT ?)
SELECT prompt_id, drawn, namespaces, scope, substr(prompt, 1, {LONGEST}) AS prompt,
    (SELECT count(*) FROM samples WHERE samples.prompt_id = used.prompt_id) AS samples
FROM used JOIN prompts ON prompts.id = prompt_id ORDER BY drawn DESC, prompt_id"""


@dataclass(frozen=True, slots=True)
class Facts:
    """What stands at the head of the page."""

    name: str
    octets: int
    prompts: int
    samples: int
    namespaces: int
    runs: int
    rejected: int
    first_purchase: str | None
    last_purchase: str | None


@dataclass(frozen=True, slots=True)
class UsedPrompt:
    """A prompt, how many samples of it there are, and how many were drawn by how many namespaces."""

    id: int
    scope: str
    gist: str
    samples: int
    drawn: int
    namespaces: int


Histogram = Sequence[tuple[int, int]]  #: a number, and how often it occurs


def read_facts(look: Look) -> Facts:
    """The facts of a cache file that is open."""
    path = look.path.absolute()
    (row,) = look.rows(_COUNTS)
    return Facts(f"{path.parent.name}/{path.name}".lstrip("/"), path.stat().st_size, *row)


def count_draws(look: Look) -> None:
    """Prepare the temporary table that the functions below and the map read."""
    look.rows(_DRAWN)
    look.rows(_DRAWN_INDEX)


def samples_per_prompt(look: Look) -> Histogram:
    """How many prompts have 1 sample, 2 samples, …"""
    return [(row[0], row[1]) for row in look.rows(_SAMPLES_PER_PROMPT)]


def namespaces_per_prompt(look: Look) -> Histogram:
    """How many prompts were drawn by 1 namespace, by 2 namespaces, …"""
    return [(row[0], row[1]) for row in look.rows(_NAMESPACES_PER_PROMPT)]


def most_used(look: Look, most: int) -> list[UsedPrompt]:
    """The prompts of which the most samples were drawn."""
    return [
        UsedPrompt(
            row["prompt_id"], row["scope"], _text.gist(row["prompt"]), row["samples"], row["drawn"], row["namespaces"]
        )
        for row in look.rows(_MOST_USED, (most,))
    ]
