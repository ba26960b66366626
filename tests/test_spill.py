"""What could not be stored by the end of a run is in a file, and the next opening takes it in."""

from __future__ import annotations

import stat
import threading
from concurrent.futures import Future
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from anyio import create_task_group, sleep

from cachesaver import Cache, CacheBusy, CacheFull, CacheSaverWarning, online
from cachesaver._prompt import Prompt
from cachesaver._records import Answer, Bought, Record, Usage
from cachesaver._spill import waiting
from cachesaver.testing import CountingModel

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:the cache could not be written")]


class FullCache(Cache):
    """On a disk that is full."""

    def settle(self, *what: Any, **how: Any) -> Future[Any]:
        failed: Future[Any] = Future()
        failed.set_exception(CacheFull("as scripted"))
        return failed


def sale(prompt: str, position: int, text: str) -> Bought:
    asked = Prompt(prompt)
    return Bought(asked.key("model"), "model", asked.asked, position, Answer(f'"{text}"', 1.5, Usage(1, 2)))


def samples(cache: Cache) -> int:
    return sum(known.samples for known in cache.known_prompts(100).result())


async def test_nothing_bought_is_lost_on_a_full_disk(tmp_path: Path) -> None:
    """D5, S8: callers get their answers, the run ends with a warning, and the next run buys nothing."""
    model = CountingModel()

    async def program(cache: Cache) -> list[Any]:
        async with online(model, cache) as api:
            return [(await api.request(prompt, n=2, request_id="x")).data for prompt in ("p", "q", "p")]

    with FullCache(tmp_path) as cache, pytest.warns(CacheSaverWarning, match="next opening takes them in"):
        first = await program(cache)
    (file,) = waiting(cache.path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert model.sold == 6
    with Cache(tmp_path) as cache:
        assert waiting(cache.path) == []
        assert await program(cache) == first
    assert model.sold == 6


async def test_a_cache_that_was_closed_too_early(tmp_path: Path) -> None:
    """D5: the stack outlives its cache; what it bought is beside the file."""
    model = CountingModel(delay=1)
    cache = Cache(tmp_path)
    cache.__enter__()

    async def program() -> None:
        async with online(model, cache) as api, create_task_group() as tasks:
            tasks.start_soon(api.request, "p")
            await sleep(0.5)
            cache.close()

    with pytest.warns(CacheSaverWarning, match="next opening takes them in"):
        await program()
    with cache:
        assert samples(cache) == 1


async def test_a_stack_cut_off_in_the_middle_of_a_commit(tmp_path: Path) -> None:
    """F7, D5: the disk hangs for longer than the stack may take to end, and then fails."""

    class HangingCache(Cache):
        def settle(self, *what: Any, **how: Any) -> Future[Any]:
            futures.append(Future())
            return futures[-1]

    futures: list[Future[Any]] = []
    with HangingCache(tmp_path) as cache:
        with pytest.raises(ZeroDivisionError) as error:
            async with online(CountingModel(), cache) as api:
                async with create_task_group() as tasks:
                    for prompt in "pq":  # the second comes back while the first is being committed
                        tasks.start_soon(api.request, prompt)
                        await sleep(1)
                    tasks.cancel_scope.cancel()
                raise ZeroDivisionError
        assert ["next opening takes them in" in note for note in error.value.__notes__] == [True]
        futures[0].set_exception(CacheBusy("as scripted"))
    with Cache(tmp_path) as cache:
        assert samples(cache) == 2


class TestTakingIn:
    def test_what_is_stored_already_is_not_doubled(self, tmp_path: Path) -> None:
        """D2, D5: an opening that was killed between its commit and the end of the file."""
        sales = [sale("p", 0, "a"), sale("p", 1, "b")]
        with Cache(tmp_path) as cache:
            cache.commit(sales, []).result()
        cache.spill(sales, [Record("n", sales[0].key, "x", 0, 0)])
        with cache:
            assert samples(cache) == 2
        assert waiting(cache.path) == []

    def test_an_opening_killed_before_the_file_was_gone(self, tmp_path: Path) -> None:
        """D2, D5: the same file again brings nothing, even if its positions were taken; another like it does."""
        with Cache(tmp_path) as cache:
            cache.commit([sale("p", 0, "first")], []).result()
        cache.spill([sale("p", 0, "late")], [])
        content = waiting(cache.path)[0].read_bytes()
        for again in (False, True, True):
            if again:
                (tmp_path / f"{cache.path.name}.again.spill").write_bytes(content)
            with cache:
                assert samples(cache) == 2
            assert waiting(cache.path) == []
        cache.spill([sale("p", 0, "late")], [])
        with cache:
            assert samples(cache) == 3

    def test_many_openings_at_once_take_it_in_once(self, tmp_path: Path) -> None:
        """D2."""
        with Cache(tmp_path) as cache:
            cache.commit([sale("q", 0, "z")], []).result()
        cache.spill([sale("p", position, f"{position}") for position in range(50)], [])
        caches = [Cache(tmp_path) for _ in range(8)]
        threads = [threading.Thread(target=each.__enter__) for each in caches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert samples(caches[0]) == 51
        for each in caches:
            each.close()

    def test_a_taken_position_is_left_as_it_is(self, tmp_path: Path) -> None:
        """D2: what was spilled is kept behind it."""
        cache = Cache(tmp_path)
        cache.path.parent.mkdir(exist_ok=True)
        cache.spill([sale("p", 0, "late")], [])
        cache.path.parent.joinpath("keep").touch()
        spilled = waiting(cache.path)[0].rename(tmp_path / "aside")
        with cache:
            cache.commit([sale("p", 0, "first")], []).result()
        spilled.rename(tmp_path / f"{cache.path.name}.1.spill")
        with cache:
            found = cache.read([(sale("p", 0, "").key, position) for position in range(2)]).result()
        assert [answer.body for answer in found.values() if isinstance(answer, Answer)] == ['"first"', '"late"']

    def test_damaged_lines_are_kept_aside(self, tmp_path: Path) -> None:
        """D5: the others are taken in; nothing is thrown away."""
        cache = Cache(tmp_path)
        path = cache.spill([sale("p", 0, "a"), sale("q", 0, "b"), sale("r", 0, "c")], [])
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + lines[1] + lines[2].replace(b"b", b"x") + lines[3][:-20])
        content = path.read_bytes()
        with cache:
            assert samples(cache) == 1
        (aside,) = tmp_path.glob("*.damaged")
        assert aside.read_bytes() == content

    @pytest.mark.parametrize(
        "line",
        [
            b"",
            b"\n",
            b"not json\n",
            b"[" * 100_000,
            b'{"sample": {"key": "00"}}\n',
            b"\xff\xfe\n",
            b'["sample"]\n',
        ],
    )
    def test_a_strangers_file(self, tmp_path: Path, line: bytes) -> None:
        """D3: it is no reason to fail, and nothing of it is believed, with a right checksum either."""
        from hashlib import blake2b

        cache = Cache(tmp_path)
        seal = blake2b(line.rstrip(b"\n"), digest_size=16).hexdigest().encode()
        (tmp_path / "cache.db.1.spill").write_bytes(line + seal + b" " + line)
        with cache:
            assert samples(cache) == 0

    def test_a_sample_under_a_false_key(self, tmp_path: Path) -> None:
        """D3, S12: the key is that of its prompt, or it is damaged."""
        real = sale("p", 0, "a")
        cache = Cache(tmp_path)
        cache.spill([Bought(sha256(b"other").digest(), real.scope, real.prompt, 0, real.answer)], [])
        with cache:
            assert samples(cache) == 0
        assert len(list(tmp_path.glob("*.damaged"))) == 1

    def test_a_symlink_is_not_followed(self, tmp_path: Path) -> None:
        """D4."""
        cache = Cache(tmp_path / "cache")
        with cache:
            pass
        target = Cache(tmp_path / "other.db").spill([sale("p", 0, "a")], [])
        (cache.path.parent / "cache.db.1.spill").symlink_to(target)
        with cache:
            assert samples(cache) == 0
        assert target.exists()

    def test_one_that_cannot_be_opened_blocks_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """D5: what is stored can be used all the same, and the file waits."""

        def refused(path: Path) -> int:
            raise PermissionError(13, "Permission denied", str(path))

        cache = Cache(tmp_path)
        cache.spill([sale("p", 0, "a")], [])
        monkeypatch.setattr("cachesaver._spill.locked", refused)
        with pytest.warns(CacheSaverWarning, match="waits to be taken in"):
            cache.__enter__()
        assert samples(cache) == 0
        cache.close()
        assert len(waiting(cache.path)) == 1

    def test_a_folder_that_takes_no_file(self, tmp_path: Path) -> None:
        """D5: it goes to the folder for temporary files, and the path is told."""
        path = Cache(tmp_path / "gone").spill([sale("p", 0, "a")], [])
        assert path.name.startswith("cache.db.")
        assert path.parent.is_dir()
        path.unlink()
