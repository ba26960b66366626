"""The examples, as a user runs them, on a real language model: twice, and the second time for nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, folder: Path, base_url: str) -> list[str]:
    environment = os.environ | {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": base_url, "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("name", "bought", "free"),
    [
        ("quick_start.py", "2 requests to the API", "0 requests to the API"),
        ("ablation.py", "18 samples asked, 12 bought", "18 samples asked, 0 bought"),
        ("ablation_trio.py", "18 samples asked, 12 bought", "18 samples asked, 0 bought"),
        ("ablation_grid.py", "72 samples asked, 40 bought", "72 samples asked, 0 bought"),
        ("debate.py", "18 samples asked, 12 bought", "18 samples asked, 0 bought"),
        ("judge.py", "18 samples asked, 15 bought", "18 samples asked, 0 bought"),
        ("self_consistency.py", "27 samples asked, 15 bought", "27 samples asked, 0 bought"),
    ],
)
def test_run_twice(name: str, bought: str, free: str, tmp_path: Path, language_model: str) -> None:
    """S2, S5: configurations buy what they share once; the second run buys nothing and prints the same."""
    first, second = (run(name, tmp_path, language_model) for _ in range(2))
    assert first[-1] == bought
    assert second[-1] == free
    assert first[:-1] == second[:-1]


@pytest.mark.parametrize("name", ["tree_of_thoughts.py"])
def test_run_twice_where_answers_decide_what_is_asked(name: str, tmp_path: Path, language_model: str) -> None:
    """S2, S5: how much is asked is up to the model; configurations begin alike, so less is bought."""
    first, second = (run(name, tmp_path, language_model) for _ in range(2))
    counts = re.fullmatch(r"(\d+) samples asked, (\d+) bought", first[-1])
    assert counts is not None
    asked, bought = map(int, counts.groups())
    assert 0 < bought < asked
    assert second[-1] == f"{asked} samples asked, 0 bought"
    assert first[:-1] == second[:-1]


def test_every_example_is_run() -> None:
    marks = test_run_twice.pytestmark  # type: ignore[attr-defined]
    decided = test_run_twice_where_answers_decide_what_is_asked.pytestmark  # type: ignore[attr-defined]
    run_twice = [*(name for name, *_ in marks[0].args[1]), *decided[0].args[1]]
    assert set(run_twice) == {path.name for path in EXAMPLES.glob("*.py")}
