"""What a test leaves behind: tasks, threads, descriptors, and what a limiter has lent."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio._core._thread_cache import THREAD_CACHE

from cachesaver._limits import _limiter

PATIENCE = 2.0  #: seconds of real time in which a thread that was told to end must have ended
DESCRIPTORS = Path("/proc/self/fd")


class Leaks:
    """Compares what there is with what there was, and looks at each event loop when its main task is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # What exists only inside an event loop is gone when the test has ended,
        # so it is noted when the loop ends, or kept alive until it was looked at.
        self._tasks: list[str] = []
        self._pools: list[Any] = []
        self._threads: set[threading.Thread] = set()
        self._descriptors: set[tuple[str, str]] = set()
        self._hook(monkeypatch)

    def begin(self) -> None:
        """What there is now is nobody's leak."""
        self._tasks.clear()
        self._pools.clear()
        self._threads = set(threading.enumerate()) - idle_workers()  # one of those may be put to work, and left at it
        self._descriptors = descriptors()

    def found(self) -> list[str]:
        """What was left behind since the last call, or since `begin`."""
        # Threads first: one that is about to end may hold descriptors until then.
        leaks = [*self._tasks, *self._left_threads(), *self._left_descriptors(), *self._left_loans()]
        self.begin()
        return leaks

    def _left_threads(self) -> Iterator[str]:
        deadline = time.monotonic() + PATIENCE
        for thread in threading.enumerate():
            if thread not in self._threads and not ended(thread, deadline):
                yield f"a thread: {thread!r}"

    def _left_descriptors(self) -> Iterator[str]:
        for number, target in sorted(descriptors() - self._descriptors):
            yield f"a descriptor: {number} -> {target}"

    def _left_loans(self) -> Iterator[str]:
        for pool in self._pools:
            lent = [key.name for key in pool._turn if key.in_use]
            if lent or pool._line or pool._keepers or pool._served:
                yield f"a loan: {lent}, {len(pool._line)} wait, {len(pool._keepers)} keep the time"

    def _hook(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(asyncio.runners, "_cancel_all_tasks", self._before(asyncio.runners._cancel_all_tasks))
        monkeypatch.setattr(trio, "run", self._around(trio.run))
        monkeypatch.setattr(trio.lowlevel, "start_guest_run", self._around(trio.lowlevel.start_guest_run))
        monkeypatch.setattr(_limiter, "Pool", self._kept(_limiter.Pool))

    def _before(self, cancel_all: Callable[[asyncio.AbstractEventLoop], None]) -> Callable[..., None]:
        """Note what asyncio would cancel without a word when the main task is done."""

        def noting(loop: asyncio.AbstractEventLoop) -> None:
            left = [task for task in asyncio.all_tasks(loop) if not of_the_test_runner(task)]
            self._tasks += [f"a task: {task!r}" for task in left if not ends_a_generator(task.get_coro())]
            cancel_all(loop)

        return noting

    def _around(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Note the tasks that a main task of trio has left: system tasks, for all others have a nursery."""

        def running(main: Callable[..., Any], *args: Any, **options: Any) -> Any:
            async def noting(*args: Any) -> Any:
                before = set(trio_tasks())
                try:
                    return await main(*args)
                finally:
                    left = [task for task in trio_tasks() if task not in before]
                    self._tasks += [f"a task: {task!r}" for task in left if not task.name.startswith("close asyncgen")]

            return run(noting, *args, **options)

        return running

    def _kept(self, pool: type[Any]) -> type[Any]:
        """The same class; keeps its instances, which otherwise go with their limiter, loans and all."""

        class Kept(pool):
            def __init__(kept, **options: Any) -> None:
                super().__init__(**options)
                self._pools.append(kept)

        return Kept


def descriptors() -> set[tuple[str, str]]:
    """The open descriptors and what they lead to; none where the system does not tell."""
    found = set()
    if DESCRIPTORS.exists():
        for number in os.listdir(DESCRIPTORS):
            try:
                found.add((number, os.readlink(f"{DESCRIPTORS}/{number}")))
            except FileNotFoundError:  # the one that the listing itself needed
                continue
    return found


def ended(thread: threading.Thread, deadline: float) -> bool:
    """Whether *thread* ends, or idles, in time. Workers of anyio end with their loop on asyncio."""
    while thread.is_alive() and thread not in idle_workers():
        if time.monotonic() > deadline:
            return False
        thread.join(0.005)
    return True


def idle_workers() -> set[threading.Thread]:
    """The threads that wait in trio's cache for ten seconds, whoever needs one next."""
    return {worker._thread for worker in list(THREAD_CACHE._idle_workers)}


def of_the_test_runner(task: asyncio.Task[Any]) -> bool:
    """Whether it is the task of anyio's pytest plugin, in which the tests themselves run."""
    return getattr(task.get_coro(), "__qualname__", "") == "TestRunner._run_tests_and_fixtures"


def ends_a_generator(coroutine: Any) -> bool:
    """Whether it ends an async generator that nobody has exhausted: SDKs leave theirs at a stream's last event."""
    return type(coroutine).__name__ == "async_generator_athrow"


def trio_tasks() -> Iterator[trio.lowlevel.Task]:
    """All tasks of the running event loop of trio."""
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
