"""Every SDK, sync, on asyncio and on trio, plain and streamed: recorded live, replayed with the servers down.

    python -m tests.sdk.matrix

The local language model answers where it speaks the SDK's API, a stub of the
provider's API where it does not. A cell is ok where the replay is equal, field by
field; or it says whose fault it is that there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from cachesaver._demo._server import local_server

from .._provider_server import provider_server
from ._cells import COLOURS, SDK, SDKS

PACKAGES = {"gemini": "google-genai", "mistral": "mistralai", "openrouter": "openai", "vllm": "openai"}


@dataclass(frozen=True)
class Recorded:
    """One cell, recorded live: from which server, into which cache, and what came; or the SDK's own failure."""

    sdk: SDK
    colour: str
    url: str
    cachedir: Path
    answers: dict[str, Any] | None

    def replayed(self) -> dict[str, Any]:
        """The same calls again, on the same cache."""
        return self.sdk.run(self.colour, self.url, cachedir=self.cachedir)


@contextmanager
def servers() -> Iterator[dict[bool, str]]:
    """The URLs of the language model (True) and of the stub (False)."""
    with local_server() as real, provider_server() as stub:
        yield {True: real.removesuffix("/v1"), False: stub.url}


def record(folder: Path, sdks: tuple[SDK, ...] = SDKS) -> Iterator[Recorded]:
    """Record the cells of *sdks* one by one; the servers are down when it is over."""
    with servers() as urls:
        for sdk in sdks:
            for colour in COLOURS:
                cachedir, url = folder / f"{sdk.name}-{colour}", urls[sdk.real]
                answers = None if colour in sdk.blame else sdk.run(colour, url, cachedir=cachedir)
                yield Recorded(sdk, colour, url, cachedir, answers)


def verdict(cell: Recorded) -> str:
    """What the matrix says of a cell."""
    if cell.answers is None:
        return cell.sdk.blame[cell.colour]
    try:
        replayed = cell.replayed()
    except Exception as error:
        return f"FAILED: {error!r}"
    return "ok" if replayed == cell.answers else "DIFFERS"


@click.command()
def main() -> None:
    """Print the matrix; the exit status is 1 if a cell is neither ok nor the SDK's own fault."""
    table = Table("SDK", "server", *COLOURS, title="Plain and streamed: recorded live, replayed with the servers down")
    with TemporaryDirectory() as folder:
        verdicts = {(cell.sdk.name, cell.colour): verdict(cell) for cell in list(record(Path(folder)))}
    for sdk in SDKS:
        package = PACKAGES.get(sdk.name, "huggingface_hub" if sdk.name == "huggingface" else sdk.name)
        server = "language model" if sdk.real else "stub"
        cells = [verdicts[sdk.name, colour] for colour in COLOURS]
        table.add_row(f"{sdk.name} ({package} {version(package)})", server, *cells)
    Console().print(table)
    blamed = {reason for sdk in SDKS for reason in sdk.blame.values()}
    sys.exit(any(verdict not in {"ok", *blamed} for verdict in verdicts.values()))


if __name__ == "__main__":
    main()
