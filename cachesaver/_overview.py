"""What is in a cache file, in a few numbers."""

from __future__ import annotations

from typing import Any

from ._looking import Look


def overview(look: Look) -> dict[str, Any]:
    """Counts of what the file holds, its size in bytes, and when the first and the last sample were bought."""
    tables = ("prompts", "samples", "namespaces", "assignments", "runs")
    counts: dict[str, Any] = {table: look.value(f"SELECT count(*) FROM {table}") for table in tables}
    first, last = look.rows("SELECT min(bought_at), max(bought_at) FROM samples")[0]
    return {
        **counts,
        "rejected": look.value("SELECT count(*) FROM rejections"),
        "bytes": look.path.stat().st_size,
        "first_bought": first,
        "last_bought": last,
    }
