"""Random programs against the reference: requests, errors, cancellations, restarts; hypothesis finds the shortest."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from typing import Any

import pytest
from anyio import CancelScope, create_task_group
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from cachesaver import Cache, Cacher, Response, Stage, local, online
from cachesaver.testing import CountingModel

from ._reference import Reference

EXAMPLES = int(os.environ.get("CACHESAVER_EXAMPLES", "60"))  #: random programs; the long run makes 3,000 of them
STACKS: list[Callable[..., Stage]] = [online, local, Cacher]
PROMPTS = st.sampled_from(["p", "q"])
NAMESPACES = st.sampled_from(["a", "b", "c"])
IDS = st.sampled_from([None, None, "x", "y"])
Asked = tuple[str, int, str, str | None]
REQUESTS = st.tuples(PROMPTS, st.integers(1, 3), NAMESPACES, IDS)


class Scripted(CountingModel):
    """Takes some turns of the event loop for a call."""

    async def request(self, prompt: Any, n: int = 1) -> list[Any]:
        for _ in range(5):
            await checkpoint()
        return await super().request(prompt, n)


class Program(RuleBasedStateMachine):
    """What a program gets is what the reference says, and no sample more is bought."""

    backend = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self.reference = Reference()
        self.model = Scripted()
        self.contents: dict[tuple[str, int], str] = {}  # what stands at each position, once seen
        self.transcript: list[tuple[Asked, list[int]]] = []  # of this run
        self.faultless = True  # in this run
        self.flushes = 0
        self._folder = tempfile.TemporaryDirectory()
        self._portal_life = start_blocking_portal(self.backend)
        self._portal = self._portal_life.__enter__()
        self._life = ExitStack()

    @initialize(stack=st.sampled_from(STACKS))
    def begin(self, stack: Callable[..., Stage]) -> None:
        self._enter(stack)

    @rule(asked=REQUESTS)
    def ask(self, asked: Asked) -> None:
        """One request, and the answers that the reference expects."""
        expected = self.reference.ask(*asked)
        self._check(asked, expected, self._portal.call(self.api.request, *asked))

    @rule(asked=REQUESTS)
    def fail(self, asked: Asked) -> None:
        """S14: a failed request has consumed nothing; one that needed no purchase does not fail."""
        if self._recalls(asked):
            return
        self.model.failures.append(OSError("no line"))
        try:
            response = self._portal.call(self.api.request, *asked)
        except OSError:
            self.faultless = False
            self.reference.fail(*asked)
        else:
            self.model.failures.clear()
            self._check(asked, self.reference.ask(*asked), response)

    @rule(asked=REQUESTS, ticks=st.integers(0, 25))
    def cancel(self, asked: Asked, ticks: int) -> None:
        """F6, S14: a cancelled one neither; what it has bought stays."""
        if self._recalls(asked):
            return
        response = self._portal.call(self._cancelled, asked, ticks)
        if response is not None:
            self._check(asked, self.reference.ask(*asked), response)
        else:
            self.faultless = False
            self.reference.stock[asked[0]] = self._sold(asked[0])
            self.reference.record(self._recorded(*asked))

    @rule(asked=st.lists(REQUESTS, min_size=2, max_size=4, unique_by=lambda asked: asked[:1] + asked[2:3]))
    def together(self, asked: list[Asked]) -> None:
        """S2, S4: requests of several namespaces at once buy what the one that wants most lacks."""
        asked = [(prompt, n, namespace, None) for prompt, n, namespace, _ in asked]
        named = {draw[:2] for draw in self.reference.recorded if draw[2] is not None}
        if named & {(namespace, prompt) for prompt, _, namespace, _ in asked}:
            return  # there the order of arrival counts
        expected = [self.reference.ask(*each) for each in asked]
        for each, positions, response in zip(asked, expected, self._portal.call(self._together, asked), strict=True):
            self._check(each, positions, response)

    @rule(stack=st.sampled_from(STACKS), crash=st.booleans())
    def restart(self, stack: Callable[..., Stage], crash: bool) -> None:
        """S8: a new run, after a good end or a bad one."""
        self._leave(crash=crash)
        self._enter(stack)

    @rule(stack=st.sampled_from(STACKS))
    def replay(self, stack: Callable[..., Stage]) -> None:
        """S5: the same run again gets the same, free."""
        transcript = self.transcript if self.faultless else []
        self._leave(crash=False)
        self._enter(stack)
        for asked, positions in transcript:
            assert self.reference.ask(*asked) == positions, "the reference itself must replay"
            self._check(asked, positions, self._portal.call(self.api.request, *asked))

    @invariant()
    def bought_is_what_was_needed(self) -> None:
        """S2, S3: exactly."""
        assert {prompt: self._sold(prompt) for prompt in "pq"} == {
            prompt: self.reference.stock[prompt] for prompt in "pq"
        }

    def teardown(self) -> None:
        self._leave(crash=False)
        self._portal_life.__exit__(None, None, None)
        self._folder.cleanup()

    def _check(self, asked: Asked, expected: list[int], response: Response) -> None:
        assert response.positions == expected
        for position, value in zip(expected, response.data, strict=True):
            assert self.contents.setdefault((asked[0], position), value) == value
        assert len(set(self.contents.values())) == len(self.contents)
        self.transcript.append((asked, expected))

    def _recalls(self, asked: Asked) -> bool:
        """Whether the id is one of an earlier run; to have looked for it changes what unstable ids get."""
        prompt, _, namespace, request_id = asked
        return request_id is not None and (namespace, prompt, request_id, 0) in self.reference.earlier

    def _recorded(self, prompt: str, n: int, namespace: str, request_id: str | None) -> dict[Any, int]:
        """What the file holds of a caller that may have left just after it was written down."""
        with closing(sqlite3.connect(self.cache.path)) as connection:
            rows = connection.execute(
                "SELECT ordinal, position FROM overview WHERE prompt = ? AND namespace = ? AND request_id IS ?",
                (f'"{prompt}"', namespace, request_id),
            ).fetchall()
        return {(namespace, prompt, request_id, ordinal): position for ordinal, position in rows}

    def _sold(self, prompt: str) -> int:
        return self.model.made[prompt]

    def _enter(self, stack: Callable[..., Stage]) -> None:
        self.reference.restart()
        self.transcript, self.faultless = [], True
        self.cache = self._life.enter_context(Cache(self._folder.name))
        running: AbstractContextManager[Stage] = self._portal.wrap_async_context_manager(stack(self.model, self.cache))
        self.api = self._life.enter_context(running)

    def _leave(self, *, crash: bool) -> None:
        life, self._life = self._life, ExitStack()
        if not crash:
            life.close()
            return
        with pytest.raises(ZeroDivisionError), life:
            raise ZeroDivisionError

    async def _cancelled(self, asked: Asked, ticks: int) -> Response | None:
        responses: list[Response] = []

        async def ask() -> None:
            responses.append(await self.api.request(*asked))

        with CancelScope() as scope:
            async with create_task_group() as tasks:
                tasks.start_soon(ask)
                for _ in range(ticks):
                    await checkpoint()
                scope.cancel()
        await self._flush()
        return responses[0] if responses else None

    async def _flush(self) -> None:
        """Wait until what was sent before has been bought and stored: all purchases go through in order."""
        for _ in range(2):
            self.flushes += 1
            await self.api.request(f"another prompt {self.flushes}")  # a hit would overtake them
            while self.model.running:
                await checkpoint()

    async def _together(self, asked: list[Asked]) -> list[Response]:
        responses: dict[int, Response] = {}

        async def ask(number: int) -> None:
            responses[number] = await self.api.request(*asked[number])

        async with create_task_group() as tasks:
            for number in range(len(asked)):
                tasks.start_soon(ask, number)
        return [responses[number] for number in range(len(asked))]


@pytest.mark.filterwarnings("ignore::cachesaver.CacheSaverWarning")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("way", ["at once", "queued"])
def test_random_programs(backend: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S1, S2, S3, S5, S6, S7, S8, S9, S14, F6; with both ways through a Cacher, and never by how quick the disk is."""
    if way == "at once":
        monkeypatch.setattr("cachesaver._threads.AT_ONCE", 60.0)
    else:
        monkeypatch.setattr("cachesaver.Cacher.submit_at_once", lambda *_: False)
    program = type("Program", (Program,), {"backend": backend})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        program,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=20, deadline=None, suppress_health_check=checks),
    )
