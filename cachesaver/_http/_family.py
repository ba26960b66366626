"""httpx and httpx2: two libraries of one shape, between which the SDKs have split.

A request tells of which it is, and its answer must be of the same. Neither is
imported here: whoever made the request has done that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._pipe import Pipe


def family_of(one: object) -> Any:
    """The module, httpx or httpx2, that the class of *one* comes from."""
    return _family_of(one if isinstance(one, type) else type(one))


@cache
def _family_of(kind: type) -> Any:
    for base in kind.__mro__:
        root = base.__module__.partition(".")[0]
        if root in ("httpx", "httpx2"):
            return sys.modules[root]
    raise TypeError(f"{kind.__name__} is of neither httpx nor httpx2")


def trust_of(family: Any) -> Any:
    """The TLS context of *family* for the certificates that the environment names; to load them takes tens of ms."""
    return _trust_of(family, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@cache
def _trust_of(family: Any, *_: str | None) -> Any:
    return family.create_ssl_context()


@cache
def pipe_stream(family: Any) -> Any:
    """A class of response streams in *family* that hands out what comes through a pipe."""

    class PipeStream(family.SyncByteStream, family.AsyncByteStream):
        # One pass, whoever iterates: openai's async client iterates twice over a stream.
        def __init__(self, pipe: Pipe) -> None:
            self._pipe = pipe

        def __iter__(self) -> Iterator[bytes]:
            return iter(self._pipe)

        def __aiter__(self) -> AsyncIterator[bytes]:
            return aiter(self._pipe)

        def close(self) -> None:
            self._pipe.close()

        async def aclose(self) -> None:
            self._pipe.close()

    return PipeStream
