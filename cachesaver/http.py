"""Caching under any HTTP client: a transport for httpx and httpx2, and the model that sends requests on.

transport = CachingTransport("cache_dir")
client = OpenAI(http_client=httpx2.Client(transport=transport))
"""

from __future__ import annotations

from ._http._model import HTTPModel as HTTPModel
from ._http._transport import CachingTransport as CachingTransport

__all__ = ["CachingTransport", "HTTPModel"]
