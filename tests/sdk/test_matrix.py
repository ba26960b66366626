"""Every SDK in three colours, plain and streamed: what was recorded live is replayed with the servers down."""

from __future__ import annotations

import pytest

from ._cells import COLOURS, SDKS
from .matrix import Recorded, record, verdict

# SDKs leave their generators unfinished at the last event of a stream, of which trio warns.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
CELLS = [(sdk.name, colour) for sdk in SDKS for colour in COLOURS]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Recorded]:
    return {(cell.sdk.name, cell.colour): cell for cell in record(tmp_path_factory.mktemp("matrix"))}


@pytest.mark.parametrize(("name", "colour"), CELLS)
def test_the_replay_is_equal_field_by_field(recorded: dict[tuple[str, str], Recorded], name: str, colour: str) -> None:
    """S5: without a server."""
    cell = recorded[name, colour]
    if cell.answers is not None:
        assert "".join(cell.answers["stream"]), "the model said nothing, so this proves nothing"
    assert verdict(cell) in ("ok", *cell.sdk.blame.values())
