"""Pipe: the pieces of a stream on their way from the model to the caller, between any two threads or event loops."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Condition

from anyio import Event
from anyio.lowlevel import checkpoint

from .._threads import waker


class Pipe:
    """Holds what has arrived and was not taken. One consumer, sync or async; one pass.

    It is as large as one answer at most: a caller that reads slowly, or not at all,
    must not hold up the recording of what is paid for.
    """

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._changed = Condition()
        self._wake: Callable[[], None] | None = None

    def put(self, piece: bytes) -> None:
        """Hand on *piece*; dropped where nobody reads any more."""
        with self._changed:
            if not self._closed:
                self._pieces.append(piece)
            self._notify()

    def end(self, error: Exception | None = None) -> None:
        """Nothing more comes; *error* is raised when all else was taken."""
        with self._changed:
            self._ended, self._error = True, error
            self._notify()

    def close(self) -> None:
        """Nobody reads any more."""
        with self._changed:
            self._closed = True
            self._pieces.clear()

    def __iter__(self) -> Pipe:
        return self

    def __next__(self) -> bytes:
        with self._changed:
            while not self._ready:
                self._changed.wait()
            piece = self._take()
        if piece is None:
            raise StopIteration
        return piece

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> bytes:
        await checkpoint()
        while True:
            with self._changed:
                if self._ready:
                    piece = self._take()
                    break
                arrived = Event()
                self._wake = partial(waker(), arrived.set)
            await arrived.wait()
        if piece is None:
            raise StopAsyncIteration
        return piece

    @property
    def _ready(self) -> bool:
        return bool(self._pieces) or self._ended or self._closed

    def _take(self) -> bytes | None:
        if self._pieces:
            return self._pieces.popleft()
        error, self._error = self._error, None
        if error is not None and not self._closed:
            raise error
        return None

    def _notify(self) -> None:
        self._changed.notify()
        if self._wake is not None:
            self._wake()
            self._wake = None
