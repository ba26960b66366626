"""The benchmarks run: what they measure is for whoever runs them in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_the_short_form_of_the_sdks_benchmark() -> None:
    """Every way and colour of it, with a figure."""
    command = [sys.executable, "-m", "tests.benchmarks.sdk", "--short"]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("own thread") == done.stdout.count("entered stack") == 4
