"""Tickets made of others: several asked as one, and one asked in shares."""

from __future__ import annotations

from collections.abc import Sequence

from ._ticket import Ticket, disown, own_error


class Merged(Ticket):
    """Several equal tickets asked as one; its samples are dealt to them in order."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Ticket]) -> None:
        first = parts[0]
        super().__init__(first.prompt, sum(part.n for part in parts), first.namespace, first.request_id)
        self._parts = [own for part in parts for own in part.parts]
        for part in self._parts:
            part.delegates += (self,)
        for part in parts:
            disown(part)

    @property
    def wanted(self) -> bool:
        return any(part.wanted for part in self._parts)

    @property
    def parts(self) -> Sequence[Ticket]:
        return self._parts

    def settled(self) -> None:
        start = 0
        for part in self._parts:
            draws = self.draws[start : start + part.n]
            if start:
                draws = [draw._replace(duplicated=draw.rank > 0) for draw in draws]
            start += part.n
            part.answer(draws, own_error(self.error) if len(draws) < part.n else None)


class Share(Ticket):
    """Some of the samples that a larger ticket wants; that one is answered with its last share."""

    __slots__ = ("_shares", "_whole")

    def __init__(self, whole: Ticket, n: int, shares: list[Share]) -> None:
        super().__init__(whole.prompt, n, whole.namespace, whole.request_id, whole)
        self.label = whole.label
        self._whole = whole
        self._shares = shares

    @classmethod
    def all_of(cls, ticket: Ticket) -> Share:
        """A share of everything that *ticket* wants, to cut from."""
        if isinstance(ticket, Share):
            return ticket
        disown(ticket)
        shares: list[Share] = []
        shares.append(cls(ticket, ticket.n, shares))
        return shares[0]

    def cut(self, n: int) -> Share:
        """Take the first *n* samples off this share as one of their own."""
        first = Share(self._whole, n, self._shares)
        self._shares.insert(self._shares.index(self), first)
        self.n -= n
        return first

    @property
    def wanted(self) -> bool:
        return self._whole.wanted

    def settled(self) -> None:
        if all(share.answered for share in self._shares):
            errors = [share.error for share in self._shares if share.error is not None]
            draws = [draw for share in self._shares for draw in share.draws]
            self._whole.answer(draws, errors[0] if errors else None)
