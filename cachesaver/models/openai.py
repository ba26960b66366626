"""OpenAI's SDK, with a cache underneath: change the import and nothing else.

`AsyncCachedOpenAIAPI` beside it takes chat completions as bodies, inside an `async with` block.
"""

from __future__ import annotations

from ._drop_in import AsyncDropIn, SyncDropIn, missing

try:
    import openai
except ImportError as error:
    raise ImportError(missing("openai", "openai")) from error

from ._openai_api import AsyncCachedOpenAIAPI as AsyncCachedOpenAIAPI


class OpenAI(SyncDropIn, openai.OpenAI):
    """`openai.OpenAI`, and what it asks a model for is cached; see `DropIn` for what it takes beside."""

    http_kind = openai.DefaultHttpxClient


class AsyncOpenAI(AsyncDropIn, openai.AsyncOpenAI):
    """`openai.AsyncOpenAI`, on asyncio and on trio, and what it asks a model for is cached."""

    http_kind = openai.DefaultAsyncHttpxClient


class AzureOpenAI(SyncDropIn, openai.AzureOpenAI):
    """`openai.AzureOpenAI`, and what it asks a model for is cached; see `DropIn` for what it takes beside."""

    http_kind = openai.DefaultHttpxClient


class AsyncAzureOpenAI(AsyncDropIn, openai.AsyncAzureOpenAI):
    """`openai.AsyncAzureOpenAI`, on asyncio and on trio, and what it asks a model for is cached."""

    http_kind = openai.DefaultAsyncHttpxClient
