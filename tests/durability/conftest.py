"""One seeded source of chance for each test."""

from __future__ import annotations

import os
import random
import sys

import pytest

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # flock, SIGKILL and folder syncs are POSIX


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("CACHESAVER_SEED") or random.randrange(10**9))
    sys.stdout.write(f"CACHESAVER_SEED={seed}\n")  # pytest shows it when the test fails
    return random.Random(seed)
