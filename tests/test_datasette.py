"""A cache in the hands of other tools: Datasette and sqlite-utils, in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from cachesaver import Cache, Request, online
from cachesaver.testing import CountingModel


@pytest.fixture
def path(tmp_path: Path) -> Path:
    async def main() -> None:
        with Cache(tmp_path) as cache:
            async with online(CountingModel(), cache) as api:
                await api.batch_request([Request({"question": "2 + 2"}, n, f"votes-{n}") for n in (1, 3)])

    anyio.run(main)
    return tmp_path / "cache.db"


def output(*arguments: Any) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_datasette_shows_tables_and_views(path: Path) -> None:
    """D6: names that explain themselves, prompts as JSON."""
    shown = json.loads(output("datasette", path, "--get", "/cache/overview.json?_shape=array"))
    assert [(row["namespace"], row["position"]) for row in shown] == [
        ("votes-1", 0),
        ("votes-3", 0),
        ("votes-3", 1),
        ("votes-3", 2),
    ]
    assert json.loads(shown[0]["prompt"]) == {"question": "2 + 2"}
    tables = json.loads(output("datasette", path, "--get", "/cache.json"))
    assert {table["name"] for table in tables["tables"] if not table["hidden"]} == {
        *("prompts", "samples", "namespaces", "assignments", "spills", "rejections", "runs", "ledger"),
    }
    assert {view["name"] for view in tables["views"]} == {
        *("overview", "samples_per_prompt", "ledger_by_run", "ledger_by_namespace", "ledger_by_model"),
    }
    page = output("datasette", path, "--get", "/cache/ledger_by_namespace")
    assert "votes-3" in page


def test_sqlite_utils_reads_it(path: Path) -> None:
    rows = json.loads(output("sqlite_utils", "query", path, "SELECT samples, namespaces FROM samples_per_prompt"))
    assert rows == [{"samples": 3, "namespaces": 2}]
