"""Incoming: one answer of a server as it arrives, on its way to become samples."""

from __future__ import annotations

import json
from typing import Any

from ._dialect import ErrorEvent
from ._exchange import Exchange, Refused
from ._frames import Frame
from ._outgoing import adds_usage
from ._samples import KEPT, samples


class Incoming:
    """One answer of a server as it arrives."""

    def __init__(self, exchange: Exchange, n: int) -> None:
        self._exchange = exchange
        self._question = exchange.question
        self._n = n
        self._frames = self._question.dialect.frames()
        answers = n if self._question.answers == 1 else self._question.answers
        self._assembly = self._question.dialect.assembly(answers) if self._question.stream else None
        self._shown = self._foreign = False
        self._content = b""
        self._raw: list[bytes] = []
        self._response: Any = None

    def head(self, response: Any) -> bool:
        """The status and headers are there; whether the rest is to be taken piece by piece."""
        self._response = response
        kind = response.headers.get("content-type", "")
        return response.status_code == 200 and self._assembly is not None and not kind.startswith("application/json")

    def content(self, content: bytes) -> None:
        """All of the rest."""
        self._assembly = None
        self._content = content
        if self._response.status_code != 200:
            raise self._refused()

    def piece(self, data: bytes) -> None:
        """The next piece of a stream."""
        self._raw.append(data)
        self._take(self._frames.feed(data))

    def end(self) -> None:
        """The stream is over. Raises an error of httpx or httpx2 where the answer is not."""
        self._take(self._frames.end())
        assert self._assembly is not None
        if self._foreign:
            self._content = b"".join(self._raw)
            raise self._refused()
        if not self._assembly.ended:
            message = "the stream ended before the answer was complete; nothing of it was stored"
            raise self._exchange.family.RemoteProtocolError(message, request=self._exchange.http)

    @property
    def complete(self) -> bool:
        """Whether all that makes the answer is there."""
        return self._assembly is not None and self._assembly.ended and not self._foreign

    def samples(self) -> list[Any]:
        """What came, to be stored."""
        question = self._question
        if self._assembly is None:
            try:
                answer = json.loads(self._content)
            except ValueError:
                raise self._refused() from None
            if not question.dialect.is_answer(answer):
                raise self._refused()
            return samples(question, answer, self._response.headers)[: self._n]
        return samples(question, self._assembly.body(), self._response.headers, self._assembly.cuts())[: self._n]

    def _take(self, frames: list[Frame]) -> None:
        assert self._assembly is not None
        for frame in frames:
            try:
                if not self._foreign:
                    self._assembly.add(frame)
            except ErrorEvent:
                if self._shown:
                    self._exchange.show([frame], final=True)
                self._content = b"".join(self._raw)
                raise self._refused() from None
            except ValueError:  # something new in it: the caller gets it, and nothing can be stored
                self._foreign = True
            self._show(frame)

    def _show(self, frame: Frame) -> None:
        if not self._shown:
            if not self._exchange.streams(self._n):
                return
            self._shown = True
            kept = [(name, self._response.headers[name]) for name in KEPT if name in self._response.headers]
            self._exchange.start(kept)
        if not self._is_extra(frame):
            self._exchange.show([frame], final=self.complete)

    def _is_extra(self, frame: Frame) -> bool:
        """Whether it is there only because we asked for it."""
        return adds_usage(self._exchange) and '"choices":[]' in frame.data.replace(" ", "")

    def _refused(self) -> Refused:
        response = self._response
        return Refused(response.status_code, response.headers.multi_items(), self._content)
