"""The documentation as a site: it builds without a warning, its links lead somewhere, no public name is missing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import click
import pytest

import cachesaver
from cachesaver._cli import main

from .test_docs import blocks

ROOT = Path(__file__).parent.parent
PACKAGE = Path(cachesaver.__file__).parent
MODULES = [
    "__init__.py",
    "http.py",
    "testing/__init__.py",
    *(f"models/{path.name}" for path in PACKAGE.glob("models/[!_]*.py")),
]
FETCHED = {"link": "href", "script": "src", "img": "src", "source": "src", "iframe": "src"}  # as soon as a page is open


class Page(HTMLParser):
    """The ids, the links, and what a browser fetches for one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.ids += [attributes[name] or "" for name in ("id", "name") if name in attributes]
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"] or "")
        if tag in FETCHED and attributes.get(FETCHED[tag]):
            self.fetched.append(attributes[FETCHED[tag]] or "")
        if attributes.get("srcset"):
            self.fetched += [part.split()[0] for part in (attributes["srcset"] or "").split(",")]


Site = dict[Path, Page]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as the command of the README builds it, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"python (-m mkdocs build [^`\n]*)", (ROOT / "README.md").read_text(encoding="utf-8"))
    done = subprocess.run(
        [sys.executable, *command.split(), "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "WARNING" in done.stderr) == (0, False), done.stderr
    return folder


@pytest.fixture(scope="module")
def site(folder: Path) -> Site:
    return {path: Page(path) for path in folder.rglob("*.html")}


def target(link: str, page: Path, folder: Path) -> Path:
    """The file that *link* means, read from a disk or from the root of a server."""
    path = unquote(urlsplit(link).path)
    if not path:
        return page
    found = folder / path.lstrip("/") if path.startswith("/") else (page.parent / path).resolve()
    return found / "index.html" if found.is_dir() else found


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).netloc)


def dead_links(site: Site, folder: Path) -> list[str]:
    dead: list[str] = []
    for path, page in site.items():
        for link in page.links:
            if is_elsewhere(link) or link.startswith("mailto:"):
                continue
            to = target(link, path, folder)
            anchor = unquote(urldefrag(link).fragment)
            if not to.exists() or (anchor and to in site and anchor not in site[to].ids):
                dead.append(f"{path.relative_to(folder)}: {link}")
    return dead


def fetched(site: Site, folder: Path) -> list[tuple[Path, str]]:
    """Scripts, styles, fonts and images, and the file that asks for each."""
    found = [(path, link) for path, page in site.items() for link in page.fetched]
    for path in folder.rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        found += [(path, link) for link in re.findall(r"""url\(\s*["']?([^"')]+)""", style)]
        found += [(path, link) for link in re.findall(r"""@import\s*["']([^"']+)""", style)]
    return [(path, link) for path, link in found if not link.startswith(("data:", "#"))]


def test_every_link_and_anchor_leads_somewhere(site: Site, folder: Path) -> None:
    assert dead_links(site, folder) == []
    assert sum(len(page.links) for page in site.values()) > 1000  # they were seen


def test_no_page_fetches_from_another_host(site: Site, folder: Path) -> None:
    """Who has no network sees the same, and no other host sees who reads."""
    found = fetched(site, folder)
    assert [link for _, link in found if is_elsewhere(link)] == []
    assert [link for path, link in found if not target(link, path, folder).exists()] == []
    assert len(found) > 100


def test_control_a_bad_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        """<p id="here"><a href="#here">good</a> <a href="#there">bad</a> <a href="no.html">bad</a>
        <img src="//example.org/x.png" srcset="https://example.org/y.png 2x"><script src="https://example.org/z.js"></script>"""
    )
    (tmp_path / "style.css").write_text(
        "@import 'https://example.org/a.css'; p { src: url(https://example.org/b.woff2) }"
    )
    site = {page: Page(page)}
    assert dead_links(site, tmp_path) == ["page.html: #there", "page.html: no.html"]
    elsewhere = [link.rpartition("/")[2] for _, link in fetched(site, tmp_path) if is_elsewhere(link)]
    assert elsewhere == ["x.png", "y.png", "z.js", "b.woff2", "a.css"]


def public_names() -> list[str]:
    """What a module gives under a name of its own, or passes on as `name as name`."""
    names: list[str] = []
    for file in MODULES:
        module = ".".join(["cachesaver", *file.removesuffix(".py").removesuffix("__init__").strip("/").split("/")])
        for node in ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                names += [f"{module.rstrip('.')}.{each.name}" for each in node.names if each.name == each.asname]
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                names.append(f"{module}.{node.name}")
    return names


def test_the_reference_has_every_public_name_once(site: Site, folder: Path) -> None:
    pages = [page for path, page in site.items() if path.parent == folder / "reference"]
    found = Counter(name for page in pages for name in set(page.ids))
    names = public_names()
    assert {"cachesaver.Batcher", "cachesaver.http.HTTPModel", "cachesaver.models.openai.OpenAI"} <= set(names)
    assert {name: found[name] for name in names if found[name] != 1} == {}


def commands(group: click.Group, name: str) -> list[str]:
    """The commands of *group* and of the groups in it, as the ids of their headings, loaded or not."""
    found: list[str] = []
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if not command.hidden:
            found += [
                f"{name}-{word}",
                *(commands(command, f"{name}-{word}") if isinstance(command, click.Group) else []),
            ]
    return found


def test_the_reference_has_every_command(site: Site, folder: Path) -> None:
    names = commands(main, "cachesaver")
    assert "cachesaver-verify" in names
    assert [name for name in names if name not in site[folder / "reference" / "cli.html"].ids] == []


def test_the_first_program_is_the_one_of_the_readme() -> None:
    assert blocks(ROOT / "docs" / "index.md")[0] == blocks(ROOT / "README.md")[0]
