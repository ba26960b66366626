"""Every block of README and docs runs: programs, commands and queries; every link leads to a file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ._provider_server import provider_server

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


KINDS = ("python", "sh", "sql")


def blocks(page: Path) -> list[tuple[str, str]]:
    """What a reader may run on a page, in its order; of commands those of ours."""
    found = re.findall(rf"^```({'|'.join(KINDS)})\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    return [(kind, block) for kind, block in found if kind != "sh" or is_ours(block)]


def is_ours(commands: str) -> bool:
    return all(line.startswith(("cachesaver ", "echo ")) for line in commands.splitlines())


def complaints(page: Path, stderr: str) -> str:
    """What *stderr* says; but for the lines of progress, on the page that is about them."""
    return re.sub(r"^cachesaver: .*\n", "", stderr, flags=re.M) if page.name == "progress.md" else stderr


def test_only_the_page_about_progress_may_show_it() -> None:
    stderr = "cachesaver: 1 done\nTraceback\n"
    assert {page.name for page in PAGES if complaints(page, stderr) != stderr} == {"progress.md"}
    assert complaints(Path("progress.md"), stderr) == "Traceback\n"


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """What a reader has set up: keys, and servers that answer."""
    with provider_server() as server:
        keys = {"OPENAI_API_KEY": "key", "ANTHROPIC_API_KEY": "key"}
        urls = {f"{name}_URL": f"{server.url}/v1" for name in ("OPENAI_BASE", "VLLM")}
        urls["ANTHROPIC_BASE_URL"] = server.url
        stand_ins = {"PYTHONPATH": str(ROOT / "tests" / "stand_ins")}
        yield {**os.environ, **keys, **urls, **stand_ins, "TQDM_DISABLE": "1"}  # no progress bars on stderr


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_every_block_runs(page: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """S5: in one folder, one after another, and then all of them once more."""
    if "cachesaver.models.transformers" in page.read_text(encoding="utf-8"):
        pytest.importorskip("torch")
    for number, (kind, block) in enumerate(blocks(page)):
        done = run_block(kind, block, tmp_path, environment)
        assert (done.returncode, kind == "sh" or complaints(page, done.stderr) == "") == (0, True), (
            f"block {number} of {page.name}: {done.stderr}"
        )
    for number, (kind, block) in enumerate(blocks(page)):
        if kind == "python":
            done = run_block(kind, block, tmp_path, environment)
            assert (done.returncode, complaints(page, done.stderr)) == (0, ""), f"again, block {number} of {page.name}"


def run_block(kind: str, block: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A program, a command, or a query of the page's cache, which has an answer."""
    python = [sys.executable, "-W", "error", "-c"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = {
        "python": [*python[:-1], folder / "block.py"],
        "sh": ["bash", "-euo", "pipefail", "-c", block],
        "sql": [*python, f"import sqlite3; assert sqlite3.connect('my_cache/cache.db').execute({block!r}).fetchone()"],
    }[kind]
    (folder / "block.py").write_text(block, encoding="utf-8")
    return subprocess.run(
        command, cwd=folder, env=environment | {"PATH": path}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []
