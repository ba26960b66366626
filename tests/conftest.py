"""Every async test runs on asyncio and on trio, in virtual time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cachesaver import Cache
from cachesaver._demo._server import local_server
from cachesaver.testing import jumping


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping(request.param)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache(tmp_path / "cache") as cache:
        yield cache


@pytest.fixture(scope="session")
def language_model() -> Iterator[str]:
    """The base URL of a real, small language model."""
    with local_server() as base_url:
        yield base_url
