"""`map(..., progress=True)`: the figures are right, every kind of display shows them, and off it costs nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio import get_running_tasks, move_on_after, sleep
from rich.console import Console
from rich.live import Live

import cachesaver
from cachesaver import Cache, Dispatcher, LeakyBucket, Request, RoundRobinLimiter, Stage, Stats, online
from cachesaver._display import Lines, Terminal, display_here
from cachesaver._figures import Figures, duration
from cachesaver._pace import POINTS, Pace
from cachesaver.testing import CountingModel, jumping

from ._terminal import HIDE, SHOW, frames, on_terminal

BACKENDS = ["asyncio", "trio"]


async def drain(api: Stage, source: Any, **options: Any) -> None:
    async with api.map(source, **options) as responses:
        async for _ in responses:
            pass


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on stderr; on stdout there must be nothing."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


class TestWords:
    def test_all_there_is_to_say(self) -> None:
        stats = Stats(hits=900, bought=300, merged=10, failed=2, seconds_saved=41.2, tokens_saved=12_000)
        figures = Figures(1200, 5000, 12, stats, (18.0, 2.5), 200.0)
        assert figures.line == (
            "cachesaver: 1,200 of 5,000 (24 %), 900 from the cache (74 %), 10 shared, 300 bought, 2 failed,"
            " 12 in flight, 41 s and 12,000 tokens saved, 2 keys rest (18 s), 3 min left"
        )

    def test_what_is_nothing_is_not_said(self) -> None:
        assert Figures(0).line == "cachesaver: 0 done, 0 from the cache, 0 bought"
        assert Figures(7, name="judging").line == "cachesaver: judging: 7 done, 0 from the cache, 0 bought"
        assert Figures(0, 0).line.startswith("cachesaver: 0 of 0 (0 %)")

    def test_money(self) -> None:
        """Once there is some."""
        counts = asdict(Stats(hits=1, bought=1, tokens_saved=5)) | {"cost_spent": 0.0123, "cost_saved": 1234.5}
        stats: Any = SimpleNamespace(**counts)
        line = Figures(1, stats=stats).line
        assert "1 bought for $0.0123," in line
        assert line.endswith("$1,234.50 and 5 tokens saved")

    def test_it_is_done_only_at_the_end(self) -> None:
        assert "(99 %)" in Figures(4999, 5000).line
        assert "(100 %)" in Figures(5000, 5000).line
        assert "(99 %)" in Figures(1, stats=Stats(hits=4999, bought=1)).line

    def test_one_key(self) -> None:
        assert "1 key rests (3 s)" in Figures(0, resting=(2.6,)).line

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(0, "0 s"), (119, "119 s"), (125, "2 min"), (3 * 3600, "3 h"), (47 * 3600, "47 h"), (10 * 86400, "10 days")],
    )
    def test_durations(self, seconds: float, words: str) -> None:
        assert duration(seconds) == words


class TestPace:
    """The ETA, a pure function of when how many were done."""

    def left(self, times: Iterator[tuple[float, int]] | list[tuple[float, int]], total: int | None) -> float | None:
        pace, seconds, done = Pace(), 0.0, 0
        for seconds, done in times:
            pace.note(seconds, done)
        return pace.seconds_left(seconds, done, total)

    def test_steady(self) -> None:
        assert self.left([(t / 5, t) for t in range(1, 501)], 1000) == pytest.approx(100)

    def test_what_the_cache_held_says_nothing_about_what_is_bought(self) -> None:
        """A run goes on: 4,000 at once, and then ten a second; known as soon as ten seconds are over."""
        assert self.left([(0.2, 4000), *((1 + t / 5, 4000 + 2 * t) for t in range(60))], 5000) == pytest.approx(
            (5000 - 4118) / 10, rel=0.05
        )

    def test_an_answer_a_minute(self) -> None:
        """And no answer for a while is none the less a pace."""
        assert self.left([(t, t // 60) for t in range(1, 1000)], 20) == pytest.approx(240, rel=0.25)

    def test_it_slows_down_while_nothing_comes(self) -> None:
        before = self.left([(t, t) for t in range(1, 21)], 40)
        after = self.left([(t, min(t, 20)) for t in range(1, 50)], 40)
        assert before is not None
        assert after is not None
        assert after > 2 * before

    def test_unknown(self) -> None:
        assert self.left([(5, 5)], None) is None
        assert self.left([(5, 0)], 10) is None
        assert self.left([], 10) is None

    def test_the_end(self) -> None:
        assert self.left([(5, 10)], 10) == 0

    def test_it_keeps_few_points(self) -> None:
        pace = Pace()
        for t in range(100_000):
            pace.note(t / 5, t)
        assert len(pace._points) <= 2 * POINTS


def test_what_stats_counted_since() -> None:
    """Of every field, whichever there are."""
    names = [field.name for field in fields(Stats)]
    earlier = Stats(**{name: number for number, name in enumerate(names)})
    later = Stats(**{name: 10 * number + 1 for number, name in enumerate(names)})
    assert later.since(earlier) == Stats(**{name: 9 * number + 1 for number, name in enumerate(names)})


@pytest.mark.anyio
class TestResting:
    """L5: a limiter tells which of its resources rest."""

    async def test_for_as_long_as_they_do(self) -> None:
        limiter = RoundRobinLimiter()
        limiter.add_resource("secret", 2)
        limiter.add_resource("other")
        assert limiter.resting == {}
        async with limiter as resource:
            resource.rest(20)
        assert limiter.resting == {"number 1": pytest.approx(20)}
        assert "secret" not in str(limiter.resting)
        await sleep(15)
        assert limiter.resting == {"number 1": pytest.approx(5)}
        await sleep(5.1)
        assert limiter.resting == {}

    async def test_with_what_shares_its_limits_whatever_the_model(self) -> None:
        limiter = RoundRobinLimiter()
        for key in "ab":
            limiter.add_resource(key, group="org", rate={"big": LeakyBucket(10), "small": LeakyBucket(10)})
        async with limiter.request(model="small"), limiter.request(model="big") as resource:
            resource.rest(20)
        assert limiter.resting == {name: pytest.approx(20) for name in ("number 1 (org)", "number 2 (org)")}

    async def test_what_is_retired_does_not_come_back_from_its_rest(self) -> None:
        limiter = RoundRobinLimiter()
        limiter.add_resource("a", 2)
        async with limiter as resource:
            resource.rest(20)
            resource.retire("revoked")
        assert limiter.resting == {}

    async def test_at_every_stage_above(self, cache: Cache) -> None:
        limiter = RoundRobinLimiter()
        limiter.add_resource("a")
        async with limiter as resource:
            resource.rest(20)
        assert online(CountingModel(), cache, limiter=limiter).resting == {"number 1": pytest.approx(20)}
        assert online(CountingModel(), cache).resting == {}


def test_resting_outside_of_any_loop() -> None:
    """In real time, from any thread."""
    limiter = RoundRobinLimiter()
    limiter.add_resource("a")

    async def rest() -> None:
        async with limiter as resource:
            resource.rest(20)

    anyio.run(rest)
    told: list[Any] = []
    asking = threading.Thread(target=lambda: told.append(limiter.resting))
    asking.start()
    asking.join()
    assert told == [{"number 1": pytest.approx(20, abs=1)}]


def test_resting_while_other_threads_change_the_limiter() -> None:
    limiter = RoundRobinLimiter()
    limiter.add_resource("a")
    ended = threading.Event()

    def adding() -> None:
        for number in range(3000):
            limiter.add_resource(number)
        ended.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=adding)
    try:
        thread.start()
        while not ended.is_set():
            assert limiter.resting == {}
    finally:
        thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.anyio
class TestLines:
    """Where there is no terminal, as under pytest."""

    # A clock that waits longer: on a busy machine the cache's thread takes a while.
    @pytest.mark.parametrize("anyio_backend", [jumping("asyncio", 0.3), jumping("trio", 0.3)], ids=BACKENDS)
    async def test_figures(self, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
        """A line after ten seconds and one at the end; of this map alone."""
        model = CountingModel(delay=15)
        async with online(model, cache) as api:
            await drain(api, [f"p{number}" for number in range(5)])
            asks = [Request(f"p{number}", 2, namespace="again", request_id=str(number)) for number in range(10)]
            await drain(api, asks, progress=True)
        first, last = lines(capsys)
        assert first.startswith("cachesaver: 0 of 10 (0 %), 0 from the cache, 0 bought, 10 in flight")
        assert last.startswith("cachesaver: 10 of 10 (100 %), 5 from the cache (25 %), 15 bought, 75 s saved")
        assert "left" not in last

    async def test_time_left(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with Dispatcher(CountingModel(delay=6)) as api:
            await drain(api, [f"p{number}" for number in range(6)], window=2, progress=True)
        assert lines(capsys)[0] == (
            "cachesaver: 2 of 6 (33 %), 0 from the cache (0 %), 2 bought, 2 in flight, 20 s left"
        )

    async def test_without_a_length(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with Dispatcher(CountingModel(delay=20)) as api:
            await drain(api, (f"p{number}" for number in range(3)), progress=True)
        first, last = lines(capsys)
        assert first == "cachesaver: 0 done, 0 from the cache, 0 bought, 3 in flight"
        assert last == "cachesaver: 3 done, 0 from the cache (0 %), 3 bought"

    async def test_more_than_the_source_had_promised(self, capsys: pytest.CaptureFixture[str]) -> None:
        prompts = ["p0"]

        def growing() -> Iterator[str]:
            for number, prompt in enumerate(prompts, 1):
                if number < 4:
                    prompts.append(f"p{number}")
                yield prompt

        class Growing:
            __len__ = prompts.__len__

            def __iter__(self) -> Iterator[str]:
                return growing()

        async with Dispatcher(CountingModel()) as api:
            await drain(api, Growing(), progress=True)
        assert lines(capsys)[-1].startswith("cachesaver: 4 of 4 (100 %)")

    async def test_its_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        async with Dispatcher(CountingModel()) as api:
            await drain(api, ["p"], progress="judging reviews")
        (line,) = lines(capsys)
        assert line.startswith("cachesaver: judging reviews: 1 of 1 (100 %)")

    @pytest.mark.parametrize("off", [{}, {"progress": False}])
    async def test_off(self, off: dict[str, bool], capsys: pytest.CaptureFixture[str]) -> None:
        async with Dispatcher(CountingModel(delay=20)) as api:
            await drain(api, ["p"], **off)
        assert lines(capsys) == []

    async def test_resources_that_rest(self, cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
        """L5: it says what the map waits for."""
        limiter = RoundRobinLimiter()
        limiter.add_resource("secret")
        async with limiter as resource:
            resource.rest(25)
        async with online(CountingModel(), cache, limiter=limiter) as api:
            await drain(api, ["p"], progress=True)
        first, *_, last = lines(capsys)
        assert first.endswith("0 bought, 1 in flight, 1 key rests (15 s)")
        assert "rest" not in last

    async def test_failures(self, capsys: pytest.CaptureFixture[str]) -> None:
        """F3, F4: the error is the model's own, and counted."""
        async with Dispatcher(CountingModel(failures=[OSError("no line")])) as api:
            with pytest.raises(OSError, match="no line"):
                await drain(api, ["a", "b"], window=1, progress=True)
        (line,) = lines(capsys)
        assert line.startswith("cachesaver: 1 of 2 (50 %), 0 from the cache, 0 bought, 1 failed")

    async def test_left_early(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What nobody takes is not done."""
        async with Dispatcher(CountingModel(delay=1)) as api:
            async with api.map([f"p{number}" for number in range(9)], window=3, progress=True) as responses:
                await anext(responses)
                await sleep(0.1)
        assert lines(capsys)[-1].startswith("cachesaver: 3 of 9 (33 %), 0 from the cache (0 %), 3 bought, 1 in flight")

    async def test_left_just_when_it_is_to_be_drawn(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A sleep that is over is not cancelled any more: what has ended must not come up again."""
        async with Dispatcher(CountingModel()) as api:
            async with api.map(["p"], progress=True):
                await sleep(Lines.period)  # of the two that wake now, trio takes either first
        assert ["left" in line for line in lines(capsys)] in ([False], [True, False])

    async def test_cancelled(self, capsys: pytest.CaptureFixture[str]) -> None:
        """F6: it still says how far it came."""
        async with Dispatcher(CountingModel(delay=100)) as api:
            with move_on_after(1):
                await drain(api, ["p", "q"], progress=True)
        assert lines(capsys) == ["cachesaver: 0 of 2 (0 %), 0 from the cache, 0 bought, 2 in flight"]

    async def test_the_users_own_error_is_plain(self, capsys: pytest.CaptureFixture[str]) -> None:
        """F4: not in a group."""
        async with Dispatcher(CountingModel()) as api:
            with pytest.raises(KeyError):
                async with api.map(["p"], progress=True) as responses:
                    async for _ in responses:
                        raise KeyError("mine")
        assert len(lines(capsys)) == 1

    async def test_a_jumping_clock_is_not_held_up(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Eleven days of virtual time are a few lines, not a hundred thousand."""
        start = time.monotonic()
        async with Dispatcher(CountingModel(delay=1e6)) as api:
            await drain(api, ["p"], progress=True)
        assert 3 < len(lines(capsys)) < 30
        assert time.monotonic() - start < 20

    async def test_above_a_live_display_of_the_program(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Two of them on one terminal would draw over one another."""
        terminal = io.StringIO()
        console = Console(file=terminal, force_terminal=True, width=200)
        with Live("its own", console=console, auto_refresh=False):
            async with Dispatcher(CountingModel()) as api:
                await drain(api, ["p"], progress=True)
        assert "cachesaver: 1 of 1 (100 %), 0 from the cache (0 %), 1 bought" in terminal.getvalue()
        assert "its own" in terminal.getvalue()
        assert lines(capsys) == []

    @pytest.mark.parametrize("lost", ["closed", "none", "full"])
    async def test_where_nobody_can_look_the_map_goes_on(self, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
        class Full(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError("no space left on device")

        stream = Full()
        if lost == "closed":
            stream.close()
        monkeypatch.setattr(sys, "stderr", None if lost == "none" else stream)
        model = CountingModel(delay=25)
        async with Dispatcher(model) as api:
            await drain(api, ["p"], progress=True)
        assert model.sold == 1

    async def test_it_takes_one_task_and_none_when_off(self) -> None:
        async def tasks(**options: Any) -> int:
            async with api.map(["p"], **options) as responses:
                await anext(responses)
                await sleep(0.01)
                return len(get_running_tasks())

        async with Dispatcher(CountingModel()) as api:
            assert await tasks(progress=True) == await tasks() + 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_sync(tmp_path: Path, backend: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """S5: run again, it says that nothing was bought."""
    told = []
    for _ in range(2):
        model = CountingModel()
        with Cache(tmp_path) as cache, cachesaver.sync(online(model, cache), backend=backend) as api:
            with api.map(["p", "q"], progress="plain") as responses:
                assert [response[0] for response in responses] == ["p#0", "q#0"]
        told += lines(capsys)
    assert told == [
        "cachesaver: plain: 2 of 2 (100 %), 0 from the cache (0 %), 2 bought",
        "cachesaver: plain: 2 of 2 (100 %), 2 from the cache (100 %), 0 bought",
    ]


PLAIN = """
import sys, anyio
from cachesaver import Dispatcher
from cachesaver.testing import CountingModel

async def main():
    async with Dispatcher(CountingModel()) as api:
        async with api.map(["p"], {options}) as responses:
            async for response in responses:
                print(response[0])

anyio.run(main, backend="{backend}")
print([name for name in sys.modules if name.partition(".")[0] in ("rich", "IPython")])
"""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("on", [False, True])
def test_a_process_without_a_terminal(on: bool, backend: str) -> None:
    """Off, nothing of rich is even imported; on, stderr gets plain lines, and stdout nothing, whatever CI wishes."""
    program = PLAIN.format(options="progress=True" if on else "", backend=backend)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FORCE_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    answer, modules = done.stdout.splitlines()
    assert answer == "p#0"
    assert ("rich.console" in modules) is on
    line = "cachesaver: 1 of 1 (100 %), 0 from the cache (0 %), 1 bought\n"
    assert done.stderr == (line if on else "")


LIVE = """
import anyio
from cachesaver import Dispatcher
from cachesaver.testing import CountingModel, jumping

async def drain(api, **options):
    async with api.map(prompts, window=2, **options) as responses:
        async for response in responses:
            print(f"<{response[0]}>")

async def main():
    async with Dispatcher(CountingModel(delay=DELAY)) as api:
        await drain(api, progress="fine")
        print("then")
        try:
            async with api.map(prompts, progress="wrong") as responses:
                await anext(responses)
                print("not ended", end="")
                1 / 0
        except ZeroDivisionError:
            print("an error")
        with anyio.move_on_after(DELAY / 2):
            await drain(api, progress="cut off")
        print("the end")

prompts = [f"p{number}" for number in range(4)]
DELAY = 0.7
anyio.run(main, backend="BACKEND")
"""


@pytest.mark.parametrize("backend", BACKENDS)
class TestTerminal:
    """A real one."""

    def test_live_and_left_clean(self, backend: str) -> None:
        """Whatever ends the map, the cursor is there and the next line is free."""
        status, written = on_terminal(LIVE.replace("BACKEND", backend))
        assert status == 0, written
        fine, wrong, cut_off, end = map_blocks(written, "then\n", "an error\n", "the end\n")
        assert "fine" in fine
        assert " 0 of 4 (0 %)" in fine  # while it ran
        assert " 2 of 4 (50 %), 1 s left" in fine
        assert " 4 of 4 (100 %)" in fine
        for answer in ("<p0#0>", "<p3#0>"):
            assert f"\x1b[2K{answer}" in fine  # above the display, which was drawn again below it
        assert 4 <= frames(fine) <= 30
        assert "not ended\n" in wrong  # nothing of it is lost
        for block, name in ((fine, "fine"), (wrong, "wrong"), (cut_off, "cut off")):
            assert f"\x1b[1m{name}\x1b[0m" in block
            assert block.count(HIDE) == block.count(SHOW) == 1
            assert block.endswith(f"\n{SHOW}")
        assert end == ""

    def test_ctrl_c(self, backend: str) -> None:
        """Typed at it: the terminal is in order before the traceback is printed."""
        program = LIVE.replace("DELAY = 0.7", "DELAY = 100").replace("BACKEND", backend)
        status, written = on_terminal(program, strike="2 in flight")
        assert status != 0
        display, _, traceback = written.partition("Traceback")
        assert "KeyboardInterrupt" in traceback
        assert display.endswith(f"\n{SHOW}") or f"\n{SHOW}" in display[display.rindex(HIDE) :]
        assert HIDE not in traceback

    def test_a_jumping_clock_is_not_held_up(self, backend: str) -> None:
        """Virtual time does not stop five times a second."""
        program = LIVE.replace("DELAY = 0.7", "DELAY = 1e6").replace(
            'backend="BACKEND"', f'**dict(zip(("backend", "backend_options"), jumping("{backend}")))'
        )
        start = time.monotonic()
        status, written = on_terminal(program)
        assert status == 0, written
        assert 10 < frames(written) < 200
        assert time.monotonic() - start < 20

    def test_stdout_that_goes_elsewhere(self, backend: str, tmp_path: Path) -> None:
        """It gets what was printed and no more, to the letter."""
        status, written = on_terminal(LIVE.replace("BACKEND", backend), stdout=tmp_path / "out")
        assert status == 0, written
        printed = (tmp_path / "out").read_text()
        assert printed == "<p0#0>\n<p1#0>\n<p2#0>\n<p3#0>\nthen\nnot endedan error\nthe end\n"
        assert "4 of 4 (100 %)" in written
        assert "<p" not in written


def map_blocks(written: str, *marks: str) -> list[str]:
    """*written*, cut at the *marks*."""
    blocks = []
    for mark in marks:
        block, found, written = written.partition(mark)
        assert found, written
        blocks.append(block)
    return [*blocks, written]


def test_two_at_once_share_a_terminal() -> None:
    """The second one writes lines above the first, and neither draws over the other."""
    program = """
import anyio
from cachesaver import Dispatcher
from cachesaver.testing import CountingModel

async def main():
    async with Dispatcher(CountingModel(delay=1)) as api, anyio.create_task_group() as tasks:
        async def drain(name, prompts):
            async with api.map(prompts, window=1, progress=name) as responses:
                async for _ in responses:
                    pass
        tasks.start_soon(drain, "long", ["a", "b"])
        await anyio.sleep(0.3)
        tasks.start_soon(drain, "short", ["c"])

anyio.run(main)
"""
    status, written = on_terminal(program)
    assert status == 0, written
    assert "cachesaver: short: 1 of 1 (100 %)" in written
    assert written.count(HIDE) == written.count(SHOW) == 1
    assert written.index("cachesaver: short") < written.index("2 of 2 (100 %)")


def test_where_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not live where the terminal cannot move its cursor."""

    class Screen(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Screen())
    for variables, kind in (
        ({"TERM": "xterm"}, Terminal),
        ({"TERM": "dumb"}, Lines),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert isinstance(display_here(), kind)
