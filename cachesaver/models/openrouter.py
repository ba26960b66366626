"""OpenRouter, through OpenAI's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

import os
from typing import Any

from ._drop_in import missing

try:
    from .openai import AsyncOpenAI as _AsyncOpenAI
    from .openai import OpenAI as _OpenAI
except ImportError as error:
    raise ImportError(missing("openai", "openrouter")) from error

BASE_URL = "https://openrouter.ai/api/v1"


class OpenRouter(_OpenAI):
    """`cachesaver.models.openai.OpenAI`, whose server and key default to `BASE_URL` and `OPENROUTER_API_KEY`."""

    def __init__(self, *, base_url: Any = BASE_URL, api_key: Any = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or os.environ.get("OPENROUTER_API_KEY"), **options)


class AsyncOpenRouter(_AsyncOpenAI):
    """The same, on asyncio and on trio."""

    def __init__(self, *, base_url: Any = BASE_URL, api_key: Any = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or os.environ.get("OPENROUTER_API_KEY"), **options)


OpenAI, AsyncOpenAI = (
    OpenRouter,
    AsyncOpenRouter,
)  # as in OpenAI's own SDK
