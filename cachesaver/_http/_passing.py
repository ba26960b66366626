"""Passing: what is no generation goes to the server and back untouched."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from ._family import family_of, trust_of

if TYPE_CHECKING:
    from ._home import Home


class Passing:
    """Sends requests on, with *client* where one is given."""

    def __init__(self, client: Any = None) -> None:
        self._client = client
        self._clients: dict[Any, Any] = {}
        self._process = os.getpid()

    def send(self, request: Any) -> Any:
        """The server's response, to be read and closed."""
        family = family_of(request)
        if self._client is not None:
            rebuilt = _rebuilt(self._client, request)
            if family_of(self._client) is family:
                return self._client.send(rebuilt, stream=True)
            return _translated(self._client.send(rebuilt), family)
        if self._process != os.getpid():  # a fork: the connections are the parent's
            self._clients, self._process = {}, os.getpid()
        client = self._clients.get(family)
        if client is None:  # of two threads that both make one, both use the first
            client = self._clients.setdefault(family, family.Client(verify=trust_of(family), timeout=None))
        return client.send(request, stream=True)

    async def send_async(self, request: Any, home: Callable[[], Home]) -> Any:
        """The same in any event loop. *home* gives the one that a given client lives in."""
        family = family_of(request)
        if self._client is not None:
            return await to_thread.run_sync(lambda: home().run(lambda: _whole(self._client, request)))
        # One for each request: its connections belong to this event loop, and nobody would close them with it.
        client = family.AsyncClient(verify=trust_of(family), timeout=None)
        try:
            response = await client.send(request, stream=True)
        except BaseException:
            await client.aclose()
            raise
        stream = _closing_stream(family)(response, client)
        return family.Response(
            response.status_code, headers=response.headers, stream=stream, extensions=response.extensions
        )

    def close(self) -> None:
        """Close its connections."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.close()


async def _whole(client: Any, request: Any) -> Any:
    return _translated(await client.send(_rebuilt(client, request)), family_of(request))


def _rebuilt(client: Any, request: Any) -> Any:
    """*request* in the family of *client*."""
    headers = [(name, v) for name, v in request.headers.multi_items() if name.lower() != "transfer-encoding"]
    timeout = {name: value for name, value in request.extensions.items() if name == "timeout"}
    return client.build_request(
        request.method, str(request.url), headers=headers, content=request.content, extensions=timeout
    )


def _translated(response: Any, family: Any) -> Any:
    """*response*, which was read, in *family*."""
    dropped = ("content-encoding", "transfer-encoding", "content-length")
    headers = [(name, v) for name, v in response.headers.multi_items() if name.lower() not in dropped]
    return family.Response(response.status_code, headers=headers, content=response.content)


@cache
def _closing_stream(family: Any) -> Any:
    """A class of response streams that close the client with the response."""

    class ClosingStream(family.AsyncByteStream):
        def __init__(self, response: Any, client: Any) -> None:
            self._response = response
            self._client = client

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for piece in self._response.aiter_raw():
                yield piece

        async def aclose(self) -> None:
            try:
                await self._response.aclose()
            finally:
                await self._client.aclose()

    return ClosingStream
