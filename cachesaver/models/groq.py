"""Groq's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from ._drop_in import AsyncDropIn, SyncDropIn, missing

try:
    import groq
except ImportError as error:
    raise ImportError(missing("groq", "groq")) from error


class Groq(SyncDropIn, groq.Groq):
    """`groq.Groq`, and what it asks a model for is cached; see `DropIn` for what it takes beside."""

    http_kind = groq.DefaultHttpxClient


class AsyncGroq(AsyncDropIn, groq.AsyncGroq):
    """`groq.AsyncGroq`, on asyncio and on trio, and what it asks a model for is cached."""

    http_kind = groq.DefaultAsyncHttpxClient
