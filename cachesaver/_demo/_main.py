"""The demo from start to end: a server, a client, a cache, and the verdict as exit status."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import cast

import anyio
import click
from openai import AsyncOpenAI, OpenAIError
from rich.console import Console

from .. import Cache, CacheSaverError
from ._report import ablation
from ._server import ServerFailed, local_server


def run(folder: str, hosted_model: str | None) -> None:
    """Run it on *hosted_model* of the API in the environment, or on a local model; exits with 1 if it fails."""
    console = Console()
    try:
        with ExitStack() as stack:
            if hosted_model is None:
                console.print("Starting SmolLM2-135M-Instruct on this machine …")
                client = AsyncOpenAI(base_url=stack.enter_context(local_server()), api_key="none")
            else:
                console.print(f"Asking {hosted_model} at {os.environ.get('OPENAI_BASE_URL', 'api.openai.com')} …")
                client = AsyncOpenAI()
            cache = stack.enter_context(Cache(folder))
            good = anyio.run(_ablation, console, client, hosted_model or "SmolLM2-135M-Instruct", cache)
    except Exception as error:
        cause = innermost(error)
        if isinstance(cause, (ServerFailed, OpenAIError, CacheSaverError)):
            raise click.ClickException(str(cause)) from error
        raise
    if not good:
        sys.exit(1)


def innermost(error: Exception) -> Exception:
    """The first error in a group of groups: task groups of the program wrap what a request raises."""
    while isinstance(error, ExceptionGroup):
        error = cast("ExceptionGroup[Exception]", error).exceptions[0]
    return error


async def _ablation(console: Console, client: AsyncOpenAI, model: str, cache: Cache) -> bool:
    async with client:
        return await ablation(console, client, model, cache)
