"""Purchase: what the Cacher asks of the stage below for positions that nobody has."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ._claim import Claim
from ._prices import Price, cost
from ._records import Bought
from ._shelves import Shelf
from ._stats import paid
from ._ticket import Draw, Ticket

# Purchases of one Cacher are draws of one namespace at a Cacher below, one per
# position: so no position here ever holds the sample of another one.
NAMESPACE = "cachesaver/purchases"


class Purchase(Ticket):
    """A ticket for new positions; once answered it is *returned* to the Cacher."""

    __slots__ = ("_returned", "buyers", "positions", "shelf")

    def __init__(
        self,
        buyers: Sequence[Claim],
        shelf: Shelf,
        positions: list[int],
        returned: Callable[[Purchase], None],
    ) -> None:
        first = buyers[0].ticket
        super().__init__(first.prompt, len(positions), first.namespace, first.request_id, first)
        self.buyers = buyers
        self.shelf = shelf
        self.positions = positions
        self._returned = returned

    @property
    def wanted(self) -> bool:
        waiting = (claim for position in self.positions for claim in self.shelf.on_order.get(position, ()))
        return any(claim.wanted and claim.ticket.wanted for claim in waiting)

    def settled(self) -> None:
        self._returned(self)

    def bought(self, scope: str, price: Price | None) -> list[Bought]:
        """What is to be stored; *price* is that of the model, where anybody knows."""
        asked, scope = self.prompt.asked, self.prompt.scope_under(scope)
        return [
            Bought(self.shelf.key, scope, asked, position, draw.answer, _paid(draw, price))
            for position, draw in self.sold()
        ]

    def sold(self) -> list[tuple[int, Draw]]:
        """The positions that were bought, with what came for them."""
        return list(zip(self.positions, self.draws, strict=False))

    def unsold(self) -> list[int]:
        """The positions for which nothing came."""
        return self.positions[len(self.draws) :]


def _paid(draw: Draw, price: Price | None) -> float | None:
    """What one sample cost, where that is known."""
    usage = draw.answer.usage
    return None if price is None or usage is None else cost(price, *paid(usage, draw.rank))
