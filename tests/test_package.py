"""What `import cachesaver` gives, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cachesaver
import cachesaver.testing

DESIGNED = [
    *("Batcher", "Reorderer", "Deduplicator", "Cacher", "Dispatcher", "Stage", "online", "local"),
    *("Cache", "Request", "Response", "Sample", "RoundRobinLimiter", "UnlimitedLimiter", "LeakyBucket"),
    *("namespace", "request_id", "CacheSaverError", "CacheMiss", "CacheError", "Closed", "StageCrashed"),
    "AsyncRoundRobinLimiter",
]
HEAVY = [
    *("openai", "httpx", "sqlite_utils", "rich", "click", "hypothesis"),
    *("pytest", "trio", "asyncio", "torch", "xllamacpp"),
]


def test_the_public_names() -> None:
    """Those of the design are there; and every public name has a docstring."""
    public = [name for name in vars(cachesaver) if not name.startswith("_") and name not in ("models", "testing")]
    assert [name for name in DESIGNED if name not in public] == []
    undocumented = [name for name in public if not getattr(cachesaver, name).__doc__]
    assert undocumented == ["Inbox"]  # an alias has none


def test_public_names_come_from_private_modules() -> None:
    """Nobody needs to import from a module that starts with an underscore."""
    package = Path(cachesaver.__file__).parent
    modules = [path.name for path in package.glob("*.py") if not path.name.startswith("_")]
    assert modules == ["http.py"]  # a door of its own: httpx is not imported with the rest
    assert (package / "py.typed").exists()


def test_importing_loads_no_sdk_and_no_event_loop() -> None:
    program = f"import sys, cachesaver; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_library_names_no_event_loop() -> None:
    """anyio is the ground; the clocks for tests are the exception, and a loop that can be caught asleep."""
    package = Path(cachesaver.__file__).parent
    for path in package.rglob("*.py"):
        if path.parent.name != "testing" and path.name != "_sleeper.py":
            assert not re.search(r"^\s*(import|from) (asyncio|trio)\b", path.read_text(encoding="utf-8"), re.M), path
