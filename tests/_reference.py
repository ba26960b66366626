"""The sampling semantics in one screen: which position each request gets, and how many samples are bought."""

from __future__ import annotations

from collections import Counter, defaultdict


class Reference:
    """A cache and its runs, one request after another, without time, batches or failures."""

    def __init__(self) -> None:
        self.stock: Counter[str] = Counter()  # samples bought, by prompt
        self.recorded: dict[tuple[str, str, str | None, int], int] = {}
        self.twins: defaultdict[tuple[str, str | None, int], set[int]] = defaultdict(set)  # all that was ever recorded
        self.restart()

    def restart(self) -> None:
        """A new run starts every namespace at the beginning."""
        self.used: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self.asked: Counter[tuple[str, str, str | None]] = Counter()
        self.earlier = dict(self.recorded)
        self.stolen: set[tuple[str, str, int]] = set()
        self.an_id_was_found = False

    def record(self, drawn: dict[tuple[str, str, str | None, int], int]) -> None:
        """Who got which position; of an id the latest counts in its own namespace."""
        self.recorded |= drawn
        for draw, position in drawn.items():
            self.twins[draw[1:]].add(position)

    def fail(self, prompt: str, n: int, namespace: str, request_id: str | None) -> None:
        """This request fails and consumes nothing; but where its id is recorded, an id was found."""
        first = self.asked[namespace, prompt, request_id]
        draws = [(namespace, prompt, request_id, ordinal) for ordinal in range(first, first + n)]
        self.an_id_was_found |= request_id is not None and any(draw in self.recorded for draw in draws)

    def ask(self, prompt: str, n: int, namespace: str, request_id: str | None) -> list[int]:
        """The positions that this request gets."""
        ordinals = range(self.asked[namespace, prompt, request_id], self.asked[namespace, prompt, request_id] + n)
        self.asked[namespace, prompt, request_id] += n
        return [self._draw(prompt, namespace, request_id, ordinal) for ordinal in ordinals]

    def _draw(self, prompt: str, namespace: str, request_id: str | None, ordinal: int) -> int:
        used = self.used[namespace, prompt]
        mine = {draw[2:]: at for draw, at in self.recorded.items() if draw[:2] == (namespace, prompt)}
        theirs = {at for draw, at in self.earlier.items() if draw[:2] == (namespace, prompt) and draw[2] != request_id}
        twins = self.twins[prompt, request_id, ordinal]
        own = mine.get((request_id, ordinal))
        known = [at for at in range(self.stock[prompt]) if at not in used]
        if own in known:
            self.an_id_was_found |= request_id is not None
            position = own
        elif request_id is not None and twins and min(twins) in known and min(twins) not in mine.values():
            position = min(twins)
        elif unclaimed := [at for at in known if at not in mine.values()]:
            position = unclaimed[0]
        elif not self.an_id_was_found and (others := [at for at in known if at in theirs]):
            position = others[0]
            self.stolen.add((namespace, prompt, position))
        else:
            position = self.stock[prompt]
            self.stock[prompt] += 1
        assert position is not None
        used.add(position)
        # Of an id the latest counts, else the order of arrival, unless that was stolen.
        if own is None or request_id is not None or (namespace, prompt, own) in self.stolen:
            self.record({(namespace, prompt, request_id, ordinal): position})
        return position
