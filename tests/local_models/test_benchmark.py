"""The benchmark of agents runs: what it measures is for whoever runs it in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_the_short_form_of_the_agents_benchmark() -> None:
    """Every way to ask, with all of its agents but for the one that is cut short."""
    pytest.importorskip("torch")
    command = [sys.executable, "-m", "tests.benchmarks.agents", "--short"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("by length") == 4  # as each is done, and in the table
    assert done.stdout.count("tokens/s") == 1
