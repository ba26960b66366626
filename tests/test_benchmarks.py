"""The benchmarks run: what they measure is for whoever runs them in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def short_form(name: str) -> str:
    """What it prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}", "--short"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_short_form_of_the_sdks_benchmark() -> None:
    """Every way and colour of it, with a figure."""
    printed = short_form("sdk")
    assert printed.count("own thread") == printed.count("entered stack") == 6


def test_the_short_form_of_the_speed_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    """Every table, and its ratios for whoever reads the log: no figure decides here."""
    printed = short_form("speed")
    with capsys.disabled():
        sys.stderr.write(f"\n{printed}")  # where workers of xdist still reach the log
    assert printed.count("ours, trio") == printed.count("ours, asyncio") == 2
    assert printed.count("met: ") > 5


def test_the_short_form_of_the_limiters_benchmark() -> None:
    """What a turn costs, and both servers."""
    printed = short_form("limiters")
    assert printed.count("ours, capacity") == 2
    assert printed.count("ours, told nothing") == printed.count("tenacity, semaphore of 12") == 2
