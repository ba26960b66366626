"""Opens one folder after another, each in a fork, as its user would; and says what came of it.

    python _reader.py            a folder a line in, a line of JSON out

The forks begin warm, with all imported that reading takes: so whatever is
compiled or executed then comes from the folder.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import anyio

from cachesaver import Cache, Cacher, CacheSaverError, CacheSaverWarning
from cachesaver._cli import main as command
from cachesaver.testing import CountingModel

FORBIDDEN = {
    *("exec", "compile", "import", "pickle.find_class", "marshal.load", "marshal.loads", "socket.connect"),
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "ctypes.dlopen"),
    *("sqlite3.enable_load_extension", "sqlite3.load_extension"),
}
PATIENCE = 20  # seconds; what takes longer is killed


class Watch:
    """Notes what must not happen. An audit hook stays for the life of its process."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, _: object) -> None:
        if self.on and event in FORBIDDEN:
            self.seen.append(event)


async def read(path: Path) -> list[str]:
    """What becomes of two questions, one of which a whole cache can answer."""
    outcome: list[str] = []
    with Cache(path) as cache:
        async with Cacher(CountingModel(cache_scope="m"), cache, mode="offline") as api:
            for prompt in ("p", "unknown"):
                try:
                    outcome.append(f"answer {str((await api.request(prompt)).data)[:80]}")
                except CacheSaverError as error:
                    outcome.append(type(error).__name__)
    return outcome


def tried(path: Path) -> list[str]:
    try:
        return anyio.run(read, path)
    except CacheSaverError as error:
        return [type(error).__name__]


def run(*arguments: str) -> int:
    """The exit code of a command of ours."""
    try:
        command(arguments)
    except SystemExit as exit:
        return int(exit.code or 0)
    return 0


def looked_at(folder: Path, watch: Watch) -> dict[str, object]:
    """What happened while *folder* was read, verified and salvaged."""
    start, memory = time.process_time(), peak()
    watch.on = True
    outcome = tried(folder / "c.db")
    seconds = time.process_time() - start  # how busy the machine is must not decide
    codes = [run("verify", str(folder / "c.db")), run("salvage", str(folder / "c.db"), str(folder.parent / "new.db"))]
    watch.on = False
    return {"outcome": outcome, "codes": codes, "seen": watch.seen, "seconds": seconds, "megabytes": peak() - memory}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def forked(folder: Path, watch: Watch) -> None:
    """Look at it in a process of its own; the line that says so is the child's, unless it was killed."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            say({"outcome": [f"ended with {status}"]})
        return
    try:
        signal.alarm(PATIENCE)
        say(looked_at(folder, watch))
        os._exit(0)
    finally:
        os._exit(1)


def say(line: dict[str, object]) -> None:
    os.write(3, json.dumps(line).encode() + b"\n")


def main() -> None:
    warnings.simplefilter("ignore", CacheSaverWarning)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        with Cache(Path(folder, "c.db")):
            pass
        looked_at(Path(folder), watch)
    watch.seen.clear()
    say({})
    for line in sys.stdin:
        forked(Path(line.rstrip("\n")), watch)


if __name__ == "__main__":
    main()
