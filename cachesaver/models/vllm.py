"""A vLLM server, through OpenAI's SDK, with a cache underneath: change the import and nothing else."""

from __future__ import annotations

import os
from typing import Any

from ._drop_in import missing

try:
    from .openai import AsyncOpenAI as _AsyncOpenAI
    from .openai import OpenAI as _OpenAI
except ImportError as error:
    raise ImportError(missing("openai", "vllm")) from error

BASE_URL = "http://localhost:8000/v1"


class VLLM(_OpenAI):
    """`cachesaver.models.openai.OpenAI`, whose server and key default to `BASE_URL` and `VLLM_API_KEY`."""

    def __init__(self, *, base_url: Any = BASE_URL, api_key: Any = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or os.environ.get("VLLM_API_KEY", "EMPTY"), **options)


class AsyncVLLM(_AsyncOpenAI):
    """The same, on asyncio and on trio."""

    def __init__(self, *, base_url: Any = BASE_URL, api_key: Any = None, **options: Any) -> None:
        super().__init__(base_url=base_url, api_key=api_key or os.environ.get("VLLM_API_KEY", "EMPTY"), **options)


OpenAI, AsyncOpenAI = VLLM, AsyncVLLM  # as in OpenAI's own SDK
