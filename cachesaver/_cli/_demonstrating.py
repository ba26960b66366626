"""`cachesaver demo`."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack

import click


@click.command(short_help="Run a small ablation on a real model, twice.")
@click.option("--openai", "hosted", is_flag=True, help="Ask the API of OPENAI_BASE_URL, with OPENAI_API_KEY. It costs.")
@click.option("--model", help="The model to ask there.  [default: gpt-4.1-nano]")
@click.option("--cache", "path", type=click.Path(), help="Where to keep the samples; else they are dropped at the end.")
def demo(hosted: bool, model: str | None, path: str | None) -> None:
    """Run a small ablation on a real language model, run it again, and compare.

    The model runs on this machine, with no key and no network.
    """
    if model and not hosted:
        raise click.UsageError("--model goes with --openai: the local server has one model only")
    try:
        from .._demo._main import run
    except ImportError as error:
        raise click.ClickException(f"{error}. The demo needs: pip install 'cachesaver[demo]'") from error
    with ExitStack() as stack:
        folder = path or stack.enter_context(tempfile.TemporaryDirectory())
        run(folder, (model or "gpt-4.1-nano") if hosted else None)
