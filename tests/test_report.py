"""`report`: what stands on the page is what happened, whoever named the prompts; and a real browser shows it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from cachesaver import Cache, CacheError, Request, online
from cachesaver._prompt import Prompt
from cachesaver._records import Answer, Bought, Entry, Record, Run, Usage
from cachesaver._report import _text, report
from cachesaver._report._drawing import canvas, drawing, svg
from cachesaver._report._grouping import grouped
from cachesaver._tables import FIRST
from cachesaver.testing import CountingModel

from ._browser import FOUND, Page, browser

MADE = datetime(2026, 11, 26, 12, 30, tzinfo=UTC)
PRICES = {"model": (2.0, 8.0)}
INPUT, OUTPUT = 100, 50  #: tokens of each call, and of each sample
HOSTILE = (
    "<script>alert(1)</script><img src=https://example.org/x.png onerror=alert(2)>"
    " $\\frac{1}{ \x00\x1b\u202e ]]>&amp; \u65e5\u672c\u8a9e \N{FOX FACE}"
)


class PricedModel(CountingModel):
    """Its answers tell their tokens."""

    def make(self, prompt: Any) -> Any:
        return {"text": super().make(prompt), "usage": {"prompt_tokens": INPUT, "completion_tokens": OUTPUT}}


class Html(HTMLParser):
    """Numbers by their ids, rows of tables, and all that could run or fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.numbers: dict[str, float] = {}
        self.rows: dict[str, dict[str, list[str]]] = {}
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.cells: dict[str, str] = {}  #: of figures
        self._table = ""
        self._row: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes += attributes.items()
        if "id" in attributes:
            self.ids.append(attributes["id"])
            if "data-value" in attributes:
                self.numbers[attributes["id"]] = float(attributes["data-value"])
        if tag == "table":
            self._table = attributes["id"]
        if tag == "tr" and "data-name" in attributes:
            self._row = self.rows.setdefault(self._table, {})[attributes["data-name"]] = []
        if tag == "td" and self._row is not None:
            self._row.append(attributes.get("data-value", ""))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self.ids and "-cell-" in self.ids[-1] and data.strip():
            self.cells.setdefault(self.ids[-1], data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def chat(question: str) -> dict[str, Any]:
    return {
        "model": "model",
        "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": question}],
    }


async def work(cache: Cache, model: CountingModel, samples: int, methods: tuple[str, ...] = ("cot", HOSTILE)) -> int:
    """One run; how many samples it asked for."""
    requests = [
        Request(chat(question), n=samples, namespace=f"{method}/puzzle-{number}")
        for method, (number, question) in product(methods, enumerate(["2 + 2?", "tea or coffee?", HOSTILE]))
    ]
    async with online(model, cache) as api:
        await api.batch_request(requests)
    return samples * len(requests)


def made(path: Path, **options: Any) -> Html:
    return Html(report(path, made=MADE, **options))


@pytest.fixture(scope="module")
def priced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PricedModel, int]:
    """Three runs of a model whose price is known, on a file; and how much they asked."""
    path, model = tmp_path_factory.mktemp("priced") / "my cache.db", PricedModel()

    async def runs() -> int:
        with Cache(path, prices=PRICES) as cache:
            return sum([await work(cache, model, samples) for samples in (1, 2, 4)])

    return path, model, anyio.run(runs)


@pytest.fixture(scope="module", autouse=True)
def fonts() -> None:
    """matplotlib keeps the files of its fonts open: before the first test, so that they are nobody's leak."""
    with drawing():
        figure, axes = canvas(100, 100)
        axes.set_title("\u65e5")  # also that of the last resort
        svg(figure, "", "", "")


class TestNumbers:
    def test_are_those_of_the_model(self, priced: tuple[Path, PricedModel, int]) -> None:
        """S2, S3: what the page tells is what the model sold."""
        path, model, asked = priced
        page = made(path)
        assert model.sold == 12
        assert page.numbers["bought"] == page.numbers["fact-samples"] == model.sold
        assert page.numbers["asked"] == asked == 42
        assert page.numbers["reused"] == asked - model.sold
        assert [page.numbers[f"fact-{name}"] for name in ("prompts", "namespaces", "runs", "rejected")] == [3, 6, 3, 0]
        assert page.numbers["fact-size"] == path.stat().st_size
        assert "cachesaver report, made 2026-11-26 12:30 UTC" in page.text

    def test_money_is_that_of_the_calls(self, priced: tuple[Path, PricedModel, int]) -> None:
        path, model, _ = priced
        page = made(path)
        spent = (len(model.calls) * INPUT * 2.0 + model.sold * OUTPUT * 8.0) / 1e6
        assert page.numbers["spent"] == pytest.approx(spent)
        assert page.numbers["without"] == pytest.approx(page.numbers["spent"] + page.numbers["saved"])
        rows = page.rows["by-namespace"]
        marginal, average, without = (sum(float(row[place]) for row in rows.values()) for place in (-3, -2, -1))
        assert (marginal, average) == (pytest.approx(spent), pytest.approx(spent))
        assert without == pytest.approx(page.numbers["without"])

    def test_another_price(self, priced: tuple[Path, PricedModel, int]) -> None:
        path, _, _ = priced
        before, after = made(path), made(path, prices={"model": (20.0, 80.0)})
        for name in ("spent", "saved", "without"):
            assert after.numbers[name] == pytest.approx(10 * before.numbers[name])
        with pytest.raises(ValueError, match="must not be negative"):
            report(path, {"model": (-1, 1)})

    def test_runs_and_models(self, priced: tuple[Path, PricedModel, int]) -> None:
        page = made(priced[0])
        runs = list(page.rows["by-run"].values())
        assert [(row[0], row[3], row[4]) for row in runs] == [("3", "24", "6"), ("2", "12", "3"), ("1", "6", "3")]
        assert list(page.rows["by-model"]) == ["model"]

    def test_prompts_and_the_map(self, priced: tuple[Path, PricedModel, int]) -> None:
        """Each of two namespaces drew the same four samples of each prompt."""
        page = made(priced[0])
        assert [row[3:] for row in page.rows["prompts-first"].values()] == [["8", "4", "2"]] * 3
        cells = {place: number for place, number in page.cells.items() if place.startswith("namespaces-and-prompts")}
        places = [place.split("-")[-2:] for place in cells]
        assert set(cells.values()) == {"4"}
        assert sorted(row for row, _ in places) == list("012345")  # each namespace asked one prompt
        assert sorted(column for _, column in places) == list("001122")

    def test_without_a_price_tokens_are_told(self, tmp_path: Path) -> None:
        model = PricedModel()
        with Cache(tmp_path) as cache:
            anyio.run(work, cache, model, 2)
        page = made(tmp_path / "cache.db")
        assert page.numbers["spent"] == len(model.calls) * INPUT + model.sold * OUTPUT
        assert "$" not in page.text.replace("$\\frac", "")

    def test_without_tokens_samples_are_told(self, tmp_path: Path) -> None:
        with Cache(tmp_path) as cache:
            anyio.run(work, cache, CountingModel(), 2)
        page = made(tmp_path / "cache.db")
        assert (page.numbers["asked"], page.numbers["bought"], page.numbers["reused"]) == (12, 6, 6)
        assert not {"spent", "cost-over-time"} & {*page.numbers, *page.ids}

    def test_a_model_without_a_price_is_named(self, priced: tuple[Path, PricedModel, int], tmp_path: Path) -> None:
        with Cache(tmp_path, prices=PRICES) as cache:
            anyio.run(work, cache, PricedModel(), 1)

            async def other() -> None:
                async with online(PricedModel(), cache, scope="home-made") as api:
                    await api.request("plain")

            anyio.run(other)
        assert "No price is known of home-made" in made(tmp_path / "cache.db").text

    def test_rejected(self, tmp_path: Path) -> None:
        async def run(cache: Cache) -> None:
            async with online(CountingModel(), cache) as api:
                await api.reject(await api.request("p", n=2), "bad")

        with Cache(tmp_path) as cache:
            anyio.run(run, cache)
        assert made(tmp_path / "cache.db").numbers["fact-rejected"] == 2


class TestPage:
    def test_the_same_file_is_the_same_page(self, priced: tuple[Path, PricedModel, int]) -> None:
        """In another process too, with other hashes."""
        path = priced[0]
        program = (
            "import sys; from pathlib import Path; from datetime import datetime;"
            "from cachesaver._report import report;"
            "print(report(Path(sys.argv[1]), made=datetime.fromisoformat(sys.argv[2])))"
        )
        command = [sys.executable, "-W", "error", "-c", program, path, MADE.isoformat()]
        other = subprocess.run(command, capture_output=True, text=True, check=True)
        assert other.stderr == ""
        assert other.stdout == report(path, made=MADE) + "\n"

    def test_the_file_stays_as_it_is(self, priced: tuple[Path, PricedModel, int]) -> None:
        before = priced[0].read_bytes(), sorted(priced[0].parent.iterdir())
        report(priced[0])
        assert (priced[0].read_bytes(), sorted(priced[0].parent.iterdir())) == before

    def test_nothing_in_it_runs_or_fetches(self, priced: tuple[Path, PricedModel, int]) -> None:
        page = made(priced[0])
        assert not page.tags & {"script", "img", "image", "iframe", "object", "embed", "link", "base", "form", "a"}
        assert [name for name, _ in page.attributes if name.startswith("on")] == []
        assert [value for name, value in page.attributes if name in {"src", "href"} and not value.startswith("#")] == []
        assert "<script>alert(1)</script>" in page.text  # as letters
        assert not {"\x00", "\x1b", "\u202e"} & set(page.text)

    def test_figures_have_names_and_ids_of_their_own(self, priced: tuple[Path, PricedModel, int]) -> None:
        page = made(priced[0])
        assert len(page.ids) == len(set(page.ids))
        figures = [
            "reuse-over-time",
            "cost-over-time",
            "cost-by-namespace",
            "samples-per-prompt",
            "namespaces-and-prompts",
        ]
        for name in figures:
            assert {name, f"{name}-title", f"{name}-desc"} <= set(page.ids)
        targets = [value.removeprefix("#") for name, value in page.attributes if name == "href"]
        assert targets
        assert set(targets) <= set(page.ids)

    def test_an_empty_cache(self, tmp_path: Path) -> None:
        with Cache(tmp_path):
            pass
        page = made(tmp_path / "cache.db")
        assert "This cache is empty" in page.text
        assert (page.numbers["fact-samples"], page.tags & {"svg"}) == (0, set())

    def test_no_cache(self, tmp_path: Path) -> None:
        """D5."""
        with pytest.raises(CacheError, match="there is no cache"):
            report(tmp_path / "missing.db")
        assert list(tmp_path.iterdir()) == []

    def test_a_file_of_version_1(self, tmp_path: Path) -> None:
        """It has no ledger; what it holds is shown all the same, and it stays of version 1."""
        path = old(tmp_path)
        before = path.read_bytes()
        page = made(path)
        assert (page.numbers["fact-samples"], page.numbers["fact-runs"]) == (2, 0)
        assert "No run has been entered in the ledger" in page.text
        assert {"samples-per-prompt", "namespaces-and-prompts"} <= set(page.ids)
        assert "asked" not in page.numbers
        assert path.read_bytes() == before

    def test_a_run_that_is_still_going(self, tmp_path: Path) -> None:
        path = tmp_path / "cache.db"
        large(path, prompts=1)
        assert "The ledger tells of 1 of the 81 samples" in made(path).text

    def test_missing_packages_are_named(self) -> None:
        program = "import sys; sys.modules['matplotlib'] = None; import cachesaver._report"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "pip install 'cachesaver[report]'" in done.stderr.splitlines()[-1]

    def test_a_hundred_thousand_samples(self, tmp_path: Path) -> None:
        """What is large is counted by SQLite, not held in memory."""
        path = tmp_path / "cache.db"
        large(path, prompts=20_000)
        began = time.process_time()
        page = made(path)
        assert time.process_time() - began < 15
        assert page.numbers["fact-samples"] > 100_000
        assert len(page.rows["by-run"]) == len(page.rows["by-namespace"]) == 20
        assert "days with runs" in page.text
        assert len(page.rows["prompts-rest"]) == 28


def old(folder: Path) -> Path:
    """A cache as version 1 left it: two samples of one prompt."""
    now = "2025-01-01T00:00:00+00:00"
    path = folder / "old.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA application_id = {0x63616368}")
        connection.execute("PRAGMA user_version = 1")
        for statement in FIRST:
            connection.execute(statement)
        connection.execute("INSERT INTO prompts VALUES (1, ?, 'model', '\"p\"', ?)", (bytes(32), now))
        connection.execute("INSERT INTO namespaces VALUES (1, 'run')")
        for position in range(2):
            row = (1, position, '"answer"', now, 1.0, None, None, None, bytes(16))
            connection.execute("INSERT INTO samples VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
            row = (1, 1, None, position, position, now, bytes(16))
            connection.execute("INSERT INTO assignments VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)", row)
    return path


def large(path: Path, prompts: int) -> None:
    """Many prompts, of which the first have many samples; each hundred has its own runs and namespaces."""
    with Cache(path) as cache:
        for first in range(0, prompts, 2000):
            bought, records, entries = [], [], []
            for number in range(first, min(first + 2000, prompts)):
                asked = Prompt(f"question {number}")
                key = asked.key("model")
                for position in range(1 + (number * 7) % 3 + 400 // (number + 5) + 4 * (number > 1)):
                    answer = Answer('"yes"', 1.0, Usage(INPUT, OUTPUT))
                    bought.append(Bought(key, "model", asked.asked, position, answer, 0.001))
                    where = f"method-{number % 6}/seed-{position % 9}/{number // 100}"
                    records.append(Record(where, key, f"step-{position}", 0, position))
                if number % 100 == 0:
                    day = 1 + number // 100
                    run = Run(f"run-{day}", "grid.py", f"2026-{1 + day // 28:02}-{1 + day % 28:02}T08:00:00+00:00")
                    figures = (3, 900 + day, 1, 899 + day, 100, 50, 90_000, 45_000, 1.0, 899.0, 0.001, 0.899)
                    entries.append(Entry(run, f"method-{number % 6}/seed-0/{day - 1}", "model", *figures))
            cache.settle(bought, records, [], entries, sole=False).result()


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a", "b"], ["a", "b"]),  # few: each alone
        ([f"x/{n}" for n in range(9)] + ["y"], ["x/… (9)", "y"]),
        (
            [f"{m}/{n}/{s}" for m in "xy" for n in range(2) for s in range(5)],
            ["x/0/… (5)", "x/1/… (5)", "y/0/… (5)", "y/1/… (5)"],
        ),
        ([f"all/{n}" for n in range(9)], [f"all/{n}" for n in range(9)]),  # a single group would say nothing
        ([f"run-{n}" for n in range(9)], [f"run-{n}" for n in range(9)]),
    ],
)
def test_namespaces_are_put_together_as_finely_as_can_be_read(names: list[str], groups: list[str]) -> None:
    assert sorted(set(grouped(dict(enumerate(names)), 5).values())) == groups


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (_text.share(0, 0), "–"),
        (_text.share(999, 1000), "> 99 %"),
        (_text.share(1, 1000), "< 1 %"),
        (_text.share(1, 3), "33 %"),
        (_text.compact(1_234), "1.23k"),
        (_text.compact(999_999), "1M"),
        (_text.compact(12), "12"),
        (_text.count(12_345), "12,345"),
        (_text.dollars(0), "$0.00"),
        (_text.dollars(0.3), "$0.300"),
        (_text.dollars(1234.5), "$1,234.50"),
        (_text.dollars(0.0000123), "$1.2e-05"),
        (_text.brief_dollars(1_234_567), "$1.23M"),
        (_text.duration(5400), "1.5 h"),
        (_text.size(1_500_000), "1.5 MB"),
        (_text.short("a" * 99 + "z", 10), "aaaaaa…aaz"),
        (_text.clean("a\n\t b\x00\u202e"), "a b\ufffd\ufffd"),
        (_text.gist('{"messages": [{"content": "first"}, {"content": [{"type": "text", "text": "last"}]}]}'), "last"),
        (_text.gist('{"contents": [{"parts": [{"text": "gemini"}]}]}'), "gemini"),
        (_text.gist('{"x": 1}'), '{"x": 1}'),
        (_text.gist('{"messages": [{"conte'), '{"messages": [{"conte'),
    ],
)
def test_texts(shown: str, text: str) -> None:
    assert shown == text


@pytest.fixture(scope="module")
def files(priced: tuple[Path, PricedModel, int], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages about caches of all kinds."""
    folder = tmp_path_factory.mktemp("pages")
    caches = {"priced": priced[0], "empty": folder / "empty.db", "old": old(folder), "large": folder / "large.db"}
    with Cache(caches["empty"]):
        large(caches["large"], prompts=3000)
    for name, cache in caches.items():
        (folder / f"{name}.html").write_text(report(cache), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in caches}


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if FOUND is None:
        pytest.skip("there is no Chromium here: `chromium`, `chromium-browser` or `google-chrome`")
    with browser() as page:
        yield page


def colours(png: bytes) -> set[tuple[int, ...]]:
    image = Image.open(BytesIO(png)).convert("RGB")
    return {colour for _, colour in image.getcolors(image.width * image.height) or []}


class TestInABrowser:
    @pytest.fixture(params=["priced", "empty", "old", "large"])
    def file(self, request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
        return files[request.param]

    @pytest.mark.parametrize("width", [1200, 390])
    def test_it_is_shown_whole_and_asks_for_nothing(self, page: Page, file: Path, width: int) -> None:
        page.resize(width)
        page.open(file)
        assert page.requests == [file.as_uri()]
        assert page.messages == []
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.value("document.querySelectorAll('script').length") == 0
        png = page.screenshot()
        assert Image.open(BytesIO(png)).width == width
        assert len(colours(png)) > 20

    def test_no_letters_of_a_figure_are_cut_off_or_overlap(self, page: Page, file: Path) -> None:
        page.resize(1200)
        page.open(file)
        assert page.value(CUT_OFF) == []
        assert page.value(OVERLAPPING) == []

    def test_it_prints(self, page: Page, file: Path) -> None:
        page.open(file)
        pdf = page.pdf()
        assert pdf.startswith(b"%PDF")
        assert pdf.count(b"/Type /Page\n") >= 1

    def test_control_a_bad_page_is_noticed(self, page: Page, tmp_path: Path) -> None:
        file = tmp_path / "bad.html"
        file.write_text(
            "<title>bad</title><script>console.log('a word'); fetch('http://127.0.0.1:9/x'); nothing()</script>"
            "<img src='http://127.0.0.1:9/y.png'><p style='width: 3000px'>wide</p>"
            "<svg width=130 height=30><text x=110 y=20>cut off</text><text x=90 y=20>over</text></svg>"
        )
        page.resize(390)
        page.open(file)
        assert set(page.requests) == {file.as_uri(), "http://127.0.0.1:9/x", "http://127.0.0.1:9/y.png"}
        said = "\n".join(page.messages)
        assert "a word" in said
        assert "nothing is not defined" in said
        assert "net::ERR" in said
        assert page.value("document.documentElement.scrollWidth") > 390
        assert page.value(CUT_OFF) == ["cut off"]
        assert page.value(OVERLAPPING) == ["cut off | over"]


# Texts that reach beyond their figure, and pairs that lie on one another.
CUT_OFF = """
[...document.querySelectorAll("svg text")].filter(text => {
    const one = text.getBoundingClientRect(), all = text.ownerSVGElement.getBoundingClientRect();
    return one.left < all.left - 1 || one.right > all.right + 1 || one.top < all.top - 1 || one.bottom > all.bottom + 1;
}).map(text => text.textContent)
"""
OVERLAPPING = """
[...document.querySelectorAll("svg")].flatMap(svg => {
    const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([name, one], index) => texts.slice(index + 1).filter(([, other]) =>
        one.left < other.right - 1 && other.left < one.right - 1 &&
        one.top < other.bottom - 3 && other.top < one.bottom - 3
    ).map(([other]) => `${name} | ${other}`));
})
"""
