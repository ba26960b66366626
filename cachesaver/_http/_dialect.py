"""Dialect: how one API writes its answers, whole and streamed.

What is stored is the answer as it comes unstreamed, one sample a choice. A stream is
assembled into that as it arrives, and written out of that when it is asked again; so
streamed and unstreamed requests share their samples.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, cast

from ._frames import EventStream, Frame, Frames

Body = dict[str, Any]  #: an answer as JSON
Cuts = list[list[Any]]  #: where a stream cut its texts: [name of a text, characters], in order of arrival


class ErrorEvent(Exception):
    """The server reported an error in the middle of a stream."""


class Assembly(ABC):
    """One streamed answer on its way in."""

    def __init__(self) -> None:
        self.ended = False  # everything that makes the answer is there

    @abstractmethod
    def add(self, frame: Frame) -> None:
        """Take the next frame. Raises `ErrorEvent`, and ValueError for what is none of this dialect."""

    @abstractmethod
    def body(self) -> Body:
        """The answer as if it had not been streamed."""

    @abstractmethod
    def cuts(self) -> list[Cuts]:
        """For each sample of the body, how its texts were cut."""


class Dialect(ABC):
    """One API's way to write answers. Most give one answer a request."""

    frames: type[Frames] = EventStream
    n_field: str | None = None  #: the field of a request that says how many answers are wanted, "holder.field" within
    made: tuple[str, ...] = ()  #: an answer has one of these fields; what has none, whatever its status, is none
    usage_on_request = False  #: a stream tells its usage only if `stream_options` say so

    def streams(self, body: Body, path: str) -> bool:
        """Whether a request with this *body*, to this *path*, wants a stream."""
        return body.get("stream") is True

    def is_answer(self, body: Any) -> bool:
        """Whether this unstreamed *body* is an answer: some servers tell errors under a good status."""
        if not isinstance(body, dict):
            return not self.made
        fields = cast("Body", body)
        return not fields.get("error") and (not self.made or any(fields.get(name) is not None for name in self.made))

    def with_n(self, body: Body, n: int) -> Body:
        """*body*, asking for *n* answers."""
        assert self.n_field is not None
        holder, _, field = self.n_field.rpartition(".")
        return {**body, holder: {**body[holder], field: n}} if holder else {**body, field: n}

    @abstractmethod
    def assembly(self, n: int) -> Assembly:
        """An assembly for the stream of a request for *n* answers."""

    @abstractmethod
    def replay(self, bodies: Sequence[Body], cuts: Sequence[Cuts | None], asked: Body) -> Iterator[Frame]:
        """The stream of these samples. *asked* is the body of the request; without cuts, a text is one piece."""

    def split(self, body: Body) -> list[Body]:
        """A body for each sample in *body*."""
        return [body]

    def join(self, bodies: Sequence[Body], billed: Sequence[bool]) -> Body:
        """One body for all samples. Its usage is of those that were *billed* now; where none was, of all."""
        return bodies[0]


def parse(frame: Frame) -> Body:
    """The JSON object in *frame*. Raises ValueError where it holds something else."""
    value = json.loads(frame.data)
    if not isinstance(value, dict):
        raise ValueError(f"an event holds {type(value).__name__}, not an object")
    return cast("Body", value)


def frame(value: Body, event: str | None = None) -> Frame:
    """*value* as a frame."""
    # In ASCII, as some clients end lines at U+2028 also, and half a surrogate pair has no other way to be written.
    return Frame(json.dumps(value, separators=(",", ":")), event)


class Pieces:
    """Hands out texts piece by piece, as they were cut."""

    def __init__(self, texts: dict[str, str], cuts: Cuts | None) -> None:
        self._texts = texts
        self._cuts = cuts

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Pairs of a text's name and its next piece; what the cuts leave over comes at the end."""
        taken = dict.fromkeys(self._texts, 0)
        for name, length in self._cuts or ():
            text = self._texts.get(name, "")
            if piece := text[taken.get(name, 0) : taken.get(name, 0) + length]:
                taken[name] += length
                yield name, piece
        for name, text in self._texts.items():
            if rest := text[taken[name] :]:
                yield name, rest
