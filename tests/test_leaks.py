"""The watch over what tests leave behind sees a leaked task, thread, descriptor and loan."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio
from anyio import sleep_forever

from cachesaver import RoundRobinLimiter

from ._leaks import DESCRIPTORS, Leaks

ROOT = Path(__file__).parent.parent
needs_proc = pytest.mark.skipif(not DESCRIPTORS.exists(), reason="the system does not tell")

# What is told by `found` is not told again, so these tests pass under the watch themselves.


def kinds(leaks: Leaks) -> list[str]:
    return [leak.split(":")[0] for leak in leaks.found()]


async def leave_a_task(tasks: list[Any]) -> None:
    """One that outlives the main task; on asyncio it is kept from being collected in *tasks*."""
    if trio.lowlevel.in_trio_run():
        trio.lowlevel.spawn_system_task(sleep_forever)
    else:
        tasks.append(asyncio.create_task(sleep_forever()))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_control_a_leaked_task(leaks: Leaks, backend: str) -> None:
    """F6: in a loop of the test's own."""
    anyio.run(leave_a_task, [], backend=backend)
    assert kinds(leaks) == ["a task"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_that_have_ended_are_no_leak(leaks: Leaks, backend: str) -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleep_forever)
            await anyio.to_thread.run_sync(int)  # the worker thread idles on
            tasks.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert leaks.found() == []


@pytest.mark.parametrize("of", ["a library", "a worker of trio"])
def test_control_a_leaked_thread(leaks: Leaks, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F6: also one of trio's, if it is not idle."""
    monkeypatch.setattr("tests._leaks.PATIENCE", 0.1)
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait()
        ended.set()

    if of == "a library":
        threading.Thread(target=work).start()
    else:
        trio.lowlevel.start_thread_soon(work, lambda outcome: None)
    try:
        assert kinds(leaks) == ["a thread"]
    finally:
        release.set()
        ended.wait(10)


@needs_proc
def test_control_a_leaked_descriptor(leaks: Leaks, tmp_path: Path) -> None:
    """F6: it is named, so that one sees whose it is."""
    number = os.open(tmp_path / "left", os.O_CREAT)
    try:
        assert leaks.found() == [f"a descriptor: {number} -> {tmp_path / 'left'}"]
    finally:
        os.close(number)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_control_a_leaked_loan(leaks: Leaks, backend: str) -> None:
    """L2: though the loop, and the limiter with it, are gone."""

    async def main() -> None:
        limiter = RoundRobinLimiter()
        limiter.add_resource("key", 3)
        await limiter.__aenter__()

    anyio.run(main, backend=backend)
    assert leaks.found() == ["a loan: ['number 1'], 0 wait, 0 keep the time"]


LEAKY = """
import asyncio, os, threading, time
import pytest
from anyio.to_thread import run_sync
from cachesaver import RoundRobinLimiter
from tests import _leaks
from tests.test_leaks import leave_a_task

_leaks.PATIENCE = 0.1

kept = []

@pytest.mark.anyio
async def test_task():
    await leave_a_task(kept)

def test_thread():
    threading.Thread(target=time.sleep, args=(10,), daemon=True).start()

def test_descriptor(tmp_path):
    kept.append(os.open(tmp_path, os.O_RDONLY))

@pytest.mark.anyio
async def test_loan():
    limiter = RoundRobinLimiter()
    limiter.add_resource("key")
    await limiter.__aenter__()

@pytest.mark.anyio
async def test_unraisable():
    open(os.devnull)

@pytest.mark.anyio
async def test_nothing():
    await run_sync(int)
"""


@needs_proc
def test_control_a_leak_fails_its_test(tmp_path: Path) -> None:
    """F6, L2: every test is watched, on both backends; a file that the collector closes fails its test, too."""
    (tmp_path / "test_leaky.py").write_text(LEAKY)
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-rEFP"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "CI"}  # there pytest says all twice
    environment["PYTHONPATH"] = str(ROOT)
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    told = [line.split(" - ")[0].split("::")[-1] for line in run.stdout.splitlines() if line.startswith("ERROR ")]
    failed = [line.split(" - ")[0].split("::")[-1] for line in run.stdout.splitlines() if line.startswith("FAILED ")]
    both = [f"{name}[{backend}]" for name in ("test_task", "test_loan") for backend in ("asyncio", "trio")]
    assert sorted(told) == sorted([*both, "test_thread", "test_descriptor"]), run.stdout
    assert failed == ["test_unraisable[asyncio]", "test_unraisable[trio]"], run.stdout
    assert run.stdout.count("the test leaves behind a ") == len(told)
