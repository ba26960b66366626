"""Anthropic's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from ._drop_in import AsyncDropIn, SyncDropIn, missing

try:
    import anthropic
except ImportError as error:
    raise ImportError(missing("anthropic", "anthropic")) from error


class Anthropic(SyncDropIn, anthropic.Anthropic):
    """`anthropic.Anthropic`, and what it asks a model for is cached; see `DropIn` for what it takes beside."""

    http_kind = anthropic.DefaultHttpxClient


class AsyncAnthropic(AsyncDropIn, anthropic.AsyncAnthropic):
    """`anthropic.AsyncAnthropic`, on asyncio and on trio, and what it asks a model for is cached."""

    http_kind = anthropic.DefaultAsyncHttpxClient
