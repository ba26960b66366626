"""Every Python block of README and docs is a program, and runs; every link leads to a file."""

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


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


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
    for run in range(2):
        for number, block in enumerate(blocks(page)):
            script = tmp_path / f"block_{number}.py"
            script.write_text(block, encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-W", "error", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert (done.returncode, complaints(page, done.stderr)) == (0, ""), (
                f"block {number} of {page.name}, run {run}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", prose(page))
    assert [link for link in links if not (page.parent / link).exists()] == []
