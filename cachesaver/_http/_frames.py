"""The two ways in which answers are streamed: server-sent events, and one JSON value a line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from codecs import getincrementaldecoder
from typing import NamedTuple


class Frame(NamedTuple):
    """One event of a stream: its data, and its name where the stream names events."""

    data: str
    event: str | None = None


class Frames(ABC):
    """Cuts bytes into frames as they arrive, wherever the network has cut them."""

    media_type: str

    def __init__(self) -> None:
        self._decode = getincrementaldecoder("utf-8")().decode
        self._rest = ""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that *data* completes."""
        lines = (self._rest + self._decode(data)).split("\n")
        self._rest = lines.pop()
        return [frame for line in lines if (frame := self._line(line.removesuffix("\r"))) is not None]

    def end(self) -> list[Frame]:
        """The frame that the end of the stream completes, if there is one."""
        last = self.feed(b"\n\n") if self._rest else self.feed(b"\n")
        return last

    @abstractmethod
    def _line(self, line: str) -> Frame | None:
        """The frame that this line ends."""

    @staticmethod
    @abstractmethod
    def write(frame: Frame) -> bytes:
        """*frame* as it stands in a stream."""


class EventStream(Frames):
    """`text/event-stream`, by the HTML standard's chapter on server-sent events."""

    media_type = "text/event-stream"

    def __init__(self) -> None:
        super().__init__()
        self._event: str | None = None
        self._data: list[str] = []

    def _line(self, line: str) -> Frame | None:
        if not line:
            frame = Frame("\n".join(self._data), self._event) if self._data else None
            self._event, self._data = None, []
            return frame
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        return None

    @staticmethod
    def write(frame: Frame) -> bytes:
        name = "" if frame.event is None else f"event: {frame.event}\n"
        data = "".join(f"data: {line}\n" for line in frame.data.split("\n"))
        return f"{name}{data}\n".encode()


class JsonLines(Frames):
    """`application/x-ndjson`."""

    media_type = "application/x-ndjson"

    def _line(self, line: str) -> Frame | None:
        return Frame(line) if line.strip() else None

    @staticmethod
    def write(frame: Frame) -> bytes:
        return f"{frame.data}\n".encode()
