"""The command line, as users run it: through processes of its own, on caches that real stacks have made."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from cachesaver import Cache, Request, _copying, online
from cachesaver._cli import main
from cachesaver._schema import APPLICATION_ID
from cachesaver._tables import FIRST
from cachesaver.testing import CountingModel


class Chat(CountingModel):
    """Answers with a usage: a hundred tokens in, ten out."""

    def __init__(self) -> None:
        super().__init__(cache_scope="chat")

    def make(self, prompt: Any) -> Any:
        return {"text": super().make(prompt), "usage": {"prompt_tokens": 100, "completion_tokens": 10}}


PRICES = {"tiny": (1.0, 10.0)}  # so that a call for one sample costs 200 millionths of a dollar


def asked(question: str) -> dict[str, str]:
    return {"model": "tiny", "question": question}


def run(path: Path, *requests: Request, model: Chat | None = None, mode: Any = "reuse") -> Chat:
    """A run of its own over *requests*, one after another."""
    model = model or Chat()

    async def main() -> None:
        with Cache(path, prices=PRICES) as cache:
            async with online(model, cache, mode=mode) as api:
                for request in requests:
                    await api.batch_request([request])

    anyio.run(main)
    return model


def cli(*arguments: Any, status: int = 0, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "from cachesaver._cli import main; main()", *map(str, arguments)],
        env=os.environ | environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr or done.stdout
    return done


def told(*arguments: Any, status: int = 0, stdin: str = "") -> Any:
    return json.loads(cli(*arguments, "--json", status=status, stdin=stdin).stdout)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two runs: three samples of one prompt for two namespaces, and two of another with ids."""
    folder = tmp_path / "first"
    requests = [
        Request(asked("2 + 2"), 2, "votes-2/a"),
        Request(asked("2 + 2"), 3, "votes-3/a"),
        Request(asked("sea"), 1, "votes-2/b", "draft"),
        Request(asked("sea"), 1, "votes-2/b", "review"),
    ]
    run(folder, *requests)
    run(folder, *requests)
    return folder / "cache.db"


def rows(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


class TestStats:
    def test_what_was_saved(self, path: Path) -> None:
        """Every purchase is some namespace's marginal cost, and in equal parts everybody's average."""
        figures = told("stats", path)
        assert {name: figures[name] for name in ("prompts", "samples", "namespaces", "runs", "rejected")} == {
            "prompts": 2,
            "samples": 5,
            "namespaces": 3,
            "runs": 2,
            "rejected": 0,
        }
        by_namespace = {line["namespace"]: line for line in figures["by_namespace"]}
        a, b, c = (by_namespace[name] for name in ("votes-2/a", "votes-3/a", "votes-2/b"))
        counts = [(line["asked"], line["bought"], line["reused"]) for line in (a, b, c)]
        assert counts == [(4, 2, 2), (6, 1, 5), (4, 2, 2)]
        # A call costs 100 millionths for the prompt and as much for each sample.
        assert [round(line["cost_spent"] * 1e6) for line in (a, b, c)] == [300, 200, 400]
        assert [round(line["cost_shared"] * 1e6) for line in (a, b, c)] == [150, 350, 400]
        assert [round(line["cost_without"] * 1e6) for line in (a, b, c)] == [600, 800, 800]
        ((model),) = figures["by_model"]
        assert (model["model"], model["input_tokens_spent"], model["output_tokens_spent"]) == ("tiny", 400, 50)
        assert [line["bought"] for line in figures["by_run"]] == [5, 0]

    def test_a_line_that_does_not_fit_costs_no_sample(self, tmp_path: Path) -> None:
        """Token counts beyond all sums, and a program whose name is no UTF-8."""

        class Boasting(Chat):
            def make(self, prompt: Any) -> Any:
                return {"usage": {"prompt_tokens": 2**62, "completion_tokens": -1}}

        requests = [Request(asked(f"{number}")) for number in range(4)]
        run(tmp_path, *requests, model=Boasting())
        script = tmp_path / "exp\udce9rience.py"
        script.write_text(
            "import anyio\nfrom cachesaver import Cache, online\n"
            "async def main():\n    with Cache('.') as cache:\n"
            "        async with online(str.upper, cache) as api: await api.request('p')\n"
            "anyio.run(main)"
        )
        subprocess.run([sys.executable, script.name], cwd=tmp_path, check=True)
        figures = told("stats", tmp_path)
        assert (figures["samples"], figures["runs"]) == (5, 2)

    def test_as_tables(self, path: Path) -> None:
        done = cli("stats", path, COLUMNS="140")
        assert done.stderr == ""
        for text in ("2 prompts, 5 samples", "votes-3/a", "marginal", "average", "$0.0009"):
            assert text in done.stdout

    def test_prices_of_ones_own(self, path: Path, tmp_path: Path) -> None:
        prices = tmp_path / "prices.json"
        prices.write_text('{"tiny": [10, 0]}')
        (line,) = told("stats", path, "--by", "model", "--prices", prices)["by_model"]
        assert round(line["cost_spent"] * 1e6) == 4 * 1000
        prices.write_text('{"tiny": [10]}')
        assert "two numbers" in cli("stats", path, "--prices", prices, status=1).stderr

    def test_a_ledger_of_a_run_that_was_killed_is_that_of_its_commits(self, tmp_path: Path) -> None:
        """What is bought is in the samples; the ledger lacks what was not entered yet."""
        script = f"""
import anyio, os, signal
from cachesaver import Cache, online
async def main():
    with Cache({str(tmp_path)!r}) as cache:
        async with online(lambda prompt: prompt, cache) as api:
            await api.request("p")
            os.kill(os.getpid(), signal.SIGKILL)
anyio.run(main)
"""
        assert subprocess.run([sys.executable, "-c", script], check=False).returncode < 0
        figures = told("stats", tmp_path)
        assert (figures["samples"], figures["runs"]) == (1, 0)


class TestLooking:
    def test_ls(self, path: Path) -> None:
        assert [prompt["prompt"]["question"] for prompt in told("ls", path)] == ["sea", "2 + 2"]
        assert [prompt["samples"] for prompt in told("ls", path, "2 +")] == [3]
        assert [prompt["prompt"]["question"] for prompt in told("ls", path, "--namespace", "*/b")] == ["sea"]
        assert told("ls", path, "--scope", "other") == []
        assert len(told("ls", path, "--limit", "1")) == 1
        assert "2 + 2" in cli("ls", path).stdout

    def test_show(self, path: Path) -> None:
        shown = told("show", path, "2 + 2")
        assert [sample["position"] for sample in shown["samples"]] == [0, 1, 2]
        assert [use["namespace"] for use in shown["samples"][0]["uses"]] == ["votes-2/a", "votes-3/a"]
        assert told("show", path, shown["id"]) == shown
        text = cli("show", path, "sea").stdout
        assert "drawn in 'votes-2/b' as 'draft' (ordinal 0)" in text

    def test_show_needs_one(self, path: Path) -> None:
        assert "no prompt contains" in cli("show", path, "moon", status=1).stderr
        assert "give the number of one" in cli("show", path, "tiny", status=1).stderr

    def test_explain(self, path: Path) -> None:
        """S10: the same words as offline."""
        (one,) = told("explain", path, json.dumps(asked("2 + 3")))
        assert not one["known"]
        assert one["differences"] == ['question: "2 + 2" -> "2 + 3"']
        (one,) = told("explain", path, json.dumps(asked("2 + 2")), "--namespace", "votes-2/a")
        assert (one["known"], one["samples"], one["drawn"]) == (True, 3, [0, 1])
        assert "1 is left" in cli("explain", path, json.dumps(asked("2 + 2")), "--namespace", "votes-2/a").stdout
        question = path.parent / "question.json"
        question.write_text(json.dumps(asked("sea")))
        assert "holds 2 samples" in cli("explain", path, f"@{question}").stdout

    def test_nothing_is_changed_or_left_beside(self, path: Path) -> None:
        """D5: to look at a published file leaves it as it is."""
        path.with_name("cache.db.lock").unlink()
        path.with_name("cache.db-journal").unlink()
        before = path.read_bytes()
        for command in (["stats"], ["ls"], ["show", "sea"], ["explain", "x"], ["export"]):
            cli(command[0], path, *command[1:])
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == ["cache.db"]

    def test_a_file_that_cannot_be_written(self, path: Path) -> None:
        path.chmod(0o400)
        path.parent.chmod(0o500)
        try:
            assert told("stats", path)["samples"] == 5
        finally:
            path.parent.chmod(0o700)

    def test_what_is_no_cache(self, tmp_path: Path) -> None:
        assert "there is no cache" in cli("stats", tmp_path, status=1).stderr
        assert not list(tmp_path.iterdir())
        (tmp_path / "cache.db").write_bytes(b"something else, and long enough " * 100)
        assert cli("ls", tmp_path, status=1).stderr.startswith("Error: ")


class TestVersions:
    def test_a_file_of_the_first_version(self, path: Path, tmp_path: Path) -> None:
        """It is looked at as it is, and brought up to date by the first program that opens it to write."""
        old = tmp_path / "old.db"
        with closing(sqlite3.connect(old)) as connection:
            first = ";".join(FIRST)
            connection.executescript(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; {first}")
            connection.execute(f"ATTACH '{path}' AS new")
            for table in ("prompts", "samples", "namespaces", "assignments"):
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM new.{table}")
            connection.commit()
        before = old.read_bytes()
        assert (told("stats", old)["samples"], told("verify", old)["problems"]) == (5, [])
        assert cli("export", old).stdout == cli("export", path).stdout
        assert old.read_bytes() == before
        model = run(old, Request(asked("2 + 2"), 2, "votes-2/a"))
        assert model.sold == 0
        assert rows(old, "PRAGMA user_version") == [(2,)]
        assert told("stats", old)["runs"] == 1
        assert told("verify", old)["problems"] == []


class TestLines:
    def test_there_and_back(self, path: Path, tmp_path: Path) -> None:
        """Samples, their positions, who drew them, when, and what they cost: the same lines again."""
        cli("reject", path, 1, 1, "--reason", "a refusal")
        lines = cli("export", path).stdout
        (tmp_path / "lines.jsonl").write_text(lines)
        added = told("import", tmp_path / "second", tmp_path / "lines.jsonl")
        assert (added["samples"], added["prompts"], added["assignments"], added["rejections"]) == (5, 2, 7, 1)
        assert cli("export", tmp_path / "second").stdout == lines
        again = told("import", tmp_path / "second", stdin=lines)
        assert (again["samples"], again["known"], again["assignments"]) == (0, 5, 0)
        assert cli("export", tmp_path / "second").stdout == lines

    def test_the_program_runs_from_the_copy(self, path: Path, tmp_path: Path) -> None:
        """S5, S6: offline."""
        cli("import", tmp_path / "second", stdin=cli("export", path).stdout)
        run(tmp_path / "second", Request(asked("sea"), 1, "votes-2/b", "review"), mode="offline")

    def test_lines_from_elsewhere(self, tmp_path: Path) -> None:
        """Three fields are enough."""
        lines = "\n".join(json.dumps({"scope": "chat", "prompt": "p", "answer": answer}) for answer in ("a", "b"))
        assert told("import", tmp_path, stdin=lines)["samples"] == 2
        model = run(tmp_path, Request("p", 2))
        assert model.sold == 0

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("{", "line 2"),
            ("[]", "no JSON object"),
            ('{"scope": "s", "prompt": 1}', "'answer'"),
            ('{"scope": "", "prompt": 1, "answer": 1}', "must not be empty"),
            ('{"scope": "s", "prompt": 1, "answer": NaN}', "NaN"),
            ('{"scope": "s", "prompt": 1, "answer": 1, "position": -1}', "position"),
            (
                '{"scope": "s", "prompt": 1, "answer": 1, "uses": [{"namespace": "", "ordinal": 0}]}',
                "must not be empty",
            ),
        ],
    )
    def test_a_bad_line_is_named(self, line: str, problem: str, tmp_path: Path) -> None:
        done = CliRunner().invoke(
            main, ["import", str(tmp_path)], input=f'{{"scope": "s", "prompt": 1, "answer": 1}}\n{line}\n'
        )
        assert done.exit_code == 1
        assert "line 2" in done.output
        assert problem in done.output


class Stubborn(Chat):
    """Says the same to everything."""

    def make(self, prompt: Any) -> Any:
        return "yes"


def add_all(path: Path, source: Path, meanwhile: Any) -> Any:
    """Merge, and do something else when the first samples are in."""
    done: list[int] = []

    def step(count: int) -> None:
        if not done:
            meanwhile()
        done.append(count)

    return _copying.merge(path, source, step)


class TestCopies:
    """What must hold of every copy."""

    def test_equal_answers_are_samples_of_their_own(self, tmp_path: Path) -> None:
        """S5: three times the same, bought at the same moment, are three."""
        requests = [Request(asked("?"), 3, "votes")]
        run(tmp_path / "a", *requests, model=Stubborn())
        lines = cli("export", tmp_path / "a").stdout
        assert told("import", tmp_path / "b", stdin=lines)["samples"] == 3
        assert told("import", tmp_path / "b", stdin=lines)["known"] == 3
        assert told("merge", tmp_path / "c", tmp_path / "a")["samples"] == 3
        told("slice", tmp_path / "a", tmp_path / "d.db", "--namespace", "votes")
        for copy in ("b", "c", "d.db"):
            run(tmp_path / copy, *requests, mode="offline")

    def test_while_a_program_writes_to_it(self, tmp_path: Path) -> None:
        """D2, S5: neither loses a sample to the other."""
        ours, theirs = Request(asked("?"), 600, "ours"), Request(asked("?"), 550, "theirs")
        run(tmp_path / "a", ours)
        added = add_all(tmp_path / "b" / "cache.db", tmp_path / "a" / "cache.db", lambda: run(tmp_path / "b", theirs))
        assert (added.samples, told("stats", tmp_path / "b")["samples"]) == (600, 650)
        run(tmp_path / "b", ours, theirs, mode="offline")

    def test_a_prompt_that_is_damaged_stays_where_it_is(self, path: Path, tmp_path: Path) -> None:
        """D5: it must not become the answer to another one."""
        path.write_bytes(path.read_bytes().replace(b'"question":"2 + 2"', b'"question":"2 + 3"', 1))
        assert "salvage" in cli("slice", path, tmp_path / "x.db", "--scope", "chat", status=1).stderr
        assert "salvage" in cli("export", path, status=1).stderr

    def test_salvage_keeps_rejections_and_the_ledger(self, path: Path, tmp_path: Path) -> None:
        cli("reject", path, 1, 0)
        saved = told("salvage", path, tmp_path / "saved.db")["saved"]
        assert (saved["rejections"], saved["runs"], saved["ledger"]) == (1, 2, 6)
        assert cli("export", tmp_path / "saved.db").stdout == cli("export", path).stdout
        assert told("stats", tmp_path / "saved.db")["by_run"] == told("stats", path)["by_run"]

    def test_not_over_the_cache_itself(self, path: Path) -> None:
        """D5."""
        before = path.read_bytes()
        assert "the cache itself" in cli("export", path, path, status=1).stderr
        assert path.read_bytes() == before

    def test_into_an_older_copy(self, path: Path, tmp_path: Path) -> None:
        """S5: what was drawn anew since the copy was made is drawn there, too."""
        cli("import", tmp_path / "old", stdin=cli("export", path).stdout)
        cli("reject", path, 1, 0)
        request = Request(asked("2 + 2"), 2, "votes-2/a")
        run(path, request)
        told("merge", tmp_path / "old", path)
        drawn = "SELECT ordinal, position FROM overview WHERE namespace = 'votes-2/a' AND rejected IS NULL ORDER BY 1"
        assert rows(tmp_path / "old" / "cache.db", drawn) == rows(path, drawn) == [(0, 2), (1, 1)]

    def test_positions_far_apart(self, tmp_path: Path) -> None:
        """A prompt that was imported can be read."""
        places = (0, 50_000, 100_000, 150_000)
        samples = [{"scope": "chat", "prompt": "p", "answer": f"{p}", "position": p} for p in places]
        cli("import", tmp_path, stdin="\n".join(map(json.dumps, samples)))
        run(tmp_path, Request("p", 4), mode="offline")

    def test_nothing_is_meant(self, path: Path, tmp_path: Path) -> None:
        assert "nothing in" in cli("slice", path, tmp_path / "x.db", "--namespace", "votes2/*", status=1).stderr
        assert not list(tmp_path.glob("x.db*"))


class TestMerge:
    def test_two_machines(self, path: Path, tmp_path: Path) -> None:
        """Both bought samples of the same prompt: all are kept, and programs of either run again for nothing."""
        theirs = [Request(asked("2 + 2"), 2, "theirs"), Request(asked("moon"), 1, "theirs")]
        run(tmp_path / "second", *theirs, model=Chat())
        added = told("merge", path, tmp_path / "second")
        assert (added["samples"], added["moved"], added["prompts"]) == (3, 2, 1)
        assert run(path, *theirs).sold == 0
        assert run(path, Request(asked("2 + 2"), 3, "votes-3/a")).sold == 0
        assert run(path, Request(asked("2 + 2"), 5, "new")).sold == 0
        assert {line["name"] for line in map(_named, told("stats", path)["by_namespace"])} >= {"theirs", "votes-2/a"}
        again = told("merge", path, tmp_path / "second")
        assert (again["samples"], again["assignments"]) == (0, 0)
        assert told("verify", path)["problems"] == []

    def test_a_copy_that_went_its_own_way(self, path: Path, tmp_path: Path) -> None:
        """What both hold is not doubled, and of draws that both have made this one's count."""
        cli("import", tmp_path / "copy", stdin=cli("export", path).stdout)
        run(tmp_path / "copy", Request(asked("2 + 2"), 4, "votes-3/a"), Request(asked("2 + 2"), 1, "late"))
        run(path, Request(asked("2 + 2"), 4, "votes-3/a"))
        added = told("merge", path, tmp_path / "copy")
        assert (added["samples"], added["known"], added["moved"], added["refused"]) == (1, 5, 1, 1)
        assert run(path, Request(asked("2 + 2"), 4, "votes-3/a"), mode="offline").sold == 0

    def test_into_itself(self, path: Path) -> None:
        assert "the same file" in cli("merge", path, path, status=1).stderr


def _named(line: dict[str, Any]) -> dict[str, Any]:
    return {"name": line["namespace"]}


class TestSlice:
    def test_what_a_namespace_used(self, path: Path, tmp_path: Path) -> None:
        """S5: it runs from the slice alone; D2: positions are what they were."""
        manifest = told("slice", path, tmp_path / "paper.db", "--namespace", "votes-2/*")
        assert (manifest["prompts"], manifest["samples"], manifest["assignments"]) == (2, 4, 4)
        assert manifest["namespaces"] == ["votes-2/a", "votes-2/b"]
        assert json.loads((tmp_path / "paper.db.manifest.json").read_text()) == manifest
        lines = cli("export", tmp_path / "paper.db").stdout
        assert sha256(lines.encode()).hexdigest() == manifest["content_sha256"]
        run(tmp_path / "paper.db", Request(asked("2 + 2"), 2, "votes-2/a"), mode="offline")
        assert {line["namespace"] for line in told("stats", tmp_path / "paper.db")["by_namespace"]} == {
            "votes-2/a",
            "votes-2/b",
        }

    def test_what_a_run_used(self, path: Path, tmp_path: Path) -> None:
        run(path, Request(asked("moon"), 1, "other"))
        name = told("stats", path)["by_run"][1]["run"].split()[0]
        manifest = told("slice", path, tmp_path / "paper.db", "--run", name)
        assert (manifest["samples"], manifest["namespaces"]) == (5, ["votes-2/a", "votes-2/b", "votes-3/a"])
        assert "knows no run" in cli("slice", path, tmp_path / "x.db", "--run", "nonsense", status=1).stderr

    def test_verify_compares_with_the_manifest(self, path: Path, tmp_path: Path) -> None:
        paper = tmp_path / "paper.db"
        cli("slice", path, paper, "--scope", "chat")
        cli("verify", paper)
        run(paper, Request(asked("moon"), 1, "votes-2/a"))
        problems = told("verify", paper, status=1)["problems"]
        assert any("content_sha256" in problem for problem in problems)

    def test_it_needs_to_be_told_what(self, path: Path, tmp_path: Path) -> None:
        assert "say what to take" in cli("slice", path, tmp_path / "x.db", status=2).stderr
        cli("slice", path, tmp_path / "x.db", "--scope", "chat")
        assert "exists already" in cli("slice", path, tmp_path / "x.db", "--scope", "chat", status=1).stderr

    def test_damage_does_not_travel(self, path: Path, tmp_path: Path) -> None:
        """And half a file is not left behind."""
        path.write_bytes(path.read_bytes().replace(b'"completion_tokens":10', b'"completion_tokens":11', 1))
        assert "salvage" in cli("slice", path, tmp_path / "x.db", "--scope", "chat", status=1).stderr
        assert not list(tmp_path.glob("x.db*"))


class TestPrune:
    def test_it_shows_first_and_writes_when_told(self, path: Path, tmp_path: Path) -> None:
        arguments = ("prune", path, tmp_path / "new.db", "--namespace", "votes-2/*")
        done = cli(*arguments)
        assert "taken away: 2 samples of 1 prompts, 4 assignments" in done.stdout
        assert "--yes" in done.stderr
        assert not (tmp_path / "new.db").exists()
        cli(*arguments, "--yes")
        assert [prompt["prompt"]["question"] for prompt in told("ls", tmp_path / "new.db")] == ["2 + 2"]
        assert run(tmp_path / "new.db", Request(asked("2 + 2"), 3, "votes-3/a"), mode="offline").sold == 0
        assert len(told("ls", path)) == 2

    def test_by_age(self, path: Path, tmp_path: Path) -> None:
        assert told("prune", path, tmp_path / "a.db", "--older-than", "1d")["gone"]["samples"] == 0
        assert told("prune", path, tmp_path / "b.db", "--older-than", "2100-01-01", "--yes")["gone"]["samples"] == 5
        assert told("stats", tmp_path / "b.db")["samples"] == 0
        assert "no age such as" in cli("prune", path, tmp_path / "c.db", "--older-than", "soon", status=2).stderr

    def test_all_of_the_options_must_hold(self, path: Path, tmp_path: Path) -> None:
        arguments = ("--scope", "chat", "--older-than", "1d")
        assert told("prune", path, tmp_path / "a.db", *arguments)["gone"]["samples"] == 0


class TestDiff:
    def test_equal_and_not(self, path: Path, tmp_path: Path) -> None:
        cli("import", tmp_path / "copy", stdin=cli("export", path).stdout)
        assert told("diff", path, tmp_path / "copy")["equal"]
        run(tmp_path / "copy", Request(asked("2 + 2"), 4, "more"), Request(asked("moon"), 1, "more"))
        run(path, Request(asked("2 + 2"), 4, "mine"), Request(asked("sun"), 1, "mine"))
        found = told("diff", path, tmp_path / "copy", status=1)
        assert (found["same"], found["different"]) == (5, 1)
        assert found["only_a"] == {"prompts": 1, "samples": 1, "namespaces": ["mine"]}
        assert found["only_b"] == {"prompts": 1, "samples": 1, "namespaces": ["more"]}
        assert "only in B: sample 0 of" in cli("diff", path, tmp_path / "copy", status=1).stdout


class TestReject:
    def test_it_is_drawn_anew(self, path: Path) -> None:
        (prompt,) = told("ls", path, "2 +")
        assert told("reject", path, prompt["id"], 0, "--reason", "a refusal")["rejected"] == [0]
        assert told("show", path, prompt["id"])["samples"][0]["rejected"] == "a refusal"
        model = run(path, Request(asked("2 + 2"), 2, "votes-2/a"))
        assert model.sold == 0  # the third was there
        assert "has no sample 9" in cli("reject", path, prompt["id"], 9, status=1).stderr
        assert "there is no prompt 77" in cli("reject", path, 77, 0, status=1).stderr


def test_a_reader_that_has_read_enough(path: Path) -> None:
    """No traceback where `head` has gone."""
    command = f"{sys.executable} -c 'from cachesaver._cli import main; main()' export {path} | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("{", "")


def test_every_command_has_a_short_help() -> None:
    """Nothing is cut off in the list of commands."""
    listed = CliRunner().invoke(main, ["--help"]).output
    assert "..." not in listed.split("Commands:")[1]
    assert all(command.short_help for command in main.commands.values())
