"""A limiter has no threads: its virtual time need not wait for any."""

from __future__ import annotations

from typing import Any

import pytest

from cachesaver.testing import jumping


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return jumping(request.param, patience=0)
