"""Every async test runs on asyncio and on trio, in virtual time; no test may leave anything behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from cachesaver import Cache, _desk
from cachesaver._demo._server import local_server
from cachesaver._owner import Owner
from cachesaver.testing import jumping

from ._leaks import Leaks


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.startswith("test_control_"):
            item.add_marker("control")


@pytest.fixture(scope="session")
def leaks_of_the_session() -> Iterator[Leaks]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Leaks(monkeypatch)


@pytest.fixture(autouse=True)
def leaks(leaks_of_the_session: Leaks) -> Iterator[Leaks]:
    """F6, L2: set up first and torn down last, so that it sees what fixtures leave as well."""
    leaks_of_the_session.begin()
    yield leaks_of_the_session
    if found := leaks_of_the_session.found():
        pytest.fail("the test leaves behind " + "\n".join(found), pytrace=False)


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping(request.param)


@pytest.fixture(autouse=True)
def place_of_reads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the tests, always the same, have the cache file read as on a slow disk: by its thread, after a wait."""
    if crc32(request.node.nodeid.encode()) % 2:
        monkeypatch.setattr(Owner, "look", Owner.submit)


@pytest.fixture(autouse=True)
def place_of_records(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the tests, always the same, have every answer wait for its record, as when too many are behind."""
    if crc32(request.node.nodeid.encode()) & 2:
        monkeypatch.setattr(_desk, "MOST_BEHIND", 0)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="session")
def language_model() -> Iterator[str]:
    """The base URL of a real, small language model."""
    with local_server() as base_url:
        yield base_url
