"""Together's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

from ._drop_in import AsyncDropIn, SyncDropIn, missing

try:
    import together
except ImportError as error:
    raise ImportError(missing("together", "together")) from error


class Together(SyncDropIn, together.Together):
    """`together.Together`, and what it asks a model for is cached; see `DropIn` for what it takes beside."""

    http_kind = together.DefaultHttpxClient


class AsyncTogether(AsyncDropIn, together.AsyncTogether):
    """`together.AsyncTogether`, on asyncio and on trio, and what it asks a model for is cached."""

    http_kind = together.DefaultAsyncHttpxClient
