"""Recently read samples, in memory of bounded size."""

from __future__ import annotations

from collections import OrderedDict

from ._records import Answer

OVERHEAD = 350  #: bytes that an answer takes beside its text
Place = tuple[bytes, int]


class Memory:
    """Answers by place; the ones unused for longest go first. Pinned ones stay until unpinned."""

    def __init__(self, limit: int = 64 * 2**20) -> None:
        self._limit = limit  # bytes, about
        self._size = 0
        self._answers: OrderedDict[Place, Answer] = OrderedDict()
        self._pinned: dict[Place, Answer] = {}

    def get(self, place: Place) -> Answer | None:
        """The answer at *place*, if it is here."""
        answer = self._answers.get(place)
        if answer is None:
            return self._pinned.get(place)
        self._answers.move_to_end(place)
        return answer

    def put(self, place: Place, answer: Answer) -> None:
        """Remember *answer*, and forget the oldest beyond the limit."""
        if place in self._answers:
            return
        self._answers[place] = answer
        self._size += len(answer.body) + OVERHEAD
        while self._size > self._limit and len(self._answers) > 1:
            _, oldest = self._answers.popitem(last=False)
            self._size -= len(oldest.body) + OVERHEAD

    def pin(self, place: Place, answer: Answer) -> None:
        """Keep *answer* whatever happens: it is not stored yet."""
        self._pinned[place] = answer

    def unpin(self, place: Place) -> None:
        """The answer is stored."""
        self._pinned.pop(place, None)
