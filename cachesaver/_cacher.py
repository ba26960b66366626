"""Cacher: gives each namespace every sample of a prompt once, and buys what nobody has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from anyio.lowlevel import checkpoint

from ._cache import Cache
from ._desk import Desk
from ._errors import CacheUnavailable
from ._labels import check_label
from ._prompt import as_prompt
from ._rejection import Rejection
from ._request import REJECTED, Response, chosen
from ._stage import Inbox, Stage, Tickets, as_stage
from ._threads import completed

Mode = Literal["reuse", "offline", "refresh", "bypass", "repeat"]


class Cacher(Stage):
    """Reuses samples across namespaces, never within one.

    *scope* names the model, so that two models never share answers; it defaults to
    the model's `cache_scope`, else to its class's qualified name. *mode*: "reuse";
    "offline" raises `CacheMiss` instead of buying; "refresh" buys new samples and
    appends them; "bypass" neither reads nor writes; "repeat" is for what is a function of its
    prompt, such as an embedding: every request gets the list from its beginning, whoever asks.

    *shared*: other processes and stacks work in the same namespaces at the same
    time, and no sample is given to two requests of one namespace, whichever of
    them asks. Every request then needs an id, which names it among all of them.
    """

    def __init__(
        self, model: Any, cache: Cache, *, scope: str | None = None, mode: Mode = "reuse", shared: bool = False
    ) -> None:
        if mode not in get_args(Mode):
            raise ValueError(f"mode must be one of {', '.join(get_args(Mode))}; not {mode!r}")
        if shared and mode == "repeat":
            raise ValueError("with mode='repeat' samples are no namespace's own: leave `shared` out")
        if not isinstance(cache, Cache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"cache must be a cachesaver.Cache, not {type(cache).__name__}")
        super().__init__(as_stage(model))
        assert self.below is not None
        self.cache = cache
        self.mode: Mode = mode
        self.shared = shared
        self._desk: Desk | None = None
        self._scope_name = self.below.scope if scope is None else scope

    @property
    def scope(self) -> str:
        return self._scope_name

    @property
    def takes_prompts(self) -> bool:
        return False  # requests must arrive whole: which positions they get depends on who asks

    async def submit(self, tickets: Tickets) -> None:
        # A turn for everybody, before anything is dealt: tasks that ask side by side arrive in the same
        # order, whether they wait for purchases or are answered at once. Positions follow that order (S5).
        await checkpoint()
        if not self.submit_at_once(tickets):
            if self._desk is not None:
                self._desk.idle = False  # until it has dealt these
            await super().submit(tickets)

    def submit_at_once(self, tickets: Tickets) -> bool:
        """Answer or order what *tickets* ask here and now, if nobody waits in line; False if that cannot be."""
        return self._desk is not None and self._desk.deal_at_once(tickets)

    async def reject(self, response: Response, reason: str = REJECTED, *, which: Sequence[int] | None = None) -> None:
        if self.mode == "bypass":
            await super().reject(response, reason, which=which)
            return
        check_label("reason", reason)
        positions = chosen(response, which)
        if self.mode == "offline":
            raise CacheUnavailable('with mode="offline" nothing is stored; reject it in a run with mode="reuse"')
        request = response.request
        key = as_prompt(request.prompt).key(self.scope)
        rejection = Rejection(request.namespace, key, positions, reason)
        if self._desk is None:  # nothing of this run can know the samples
            rejection.settle((await completed(self.cache.settle([], [], rejection.marks, sole=False))).unknown)
        else:
            self._desk.reject(rejection)
        await rejection.result()

    @property
    def unfinished(self) -> bool:
        """Whether anything is being bought or stored."""
        return self._desk is not None and self._desk.unfinished

    @property
    def quiet(self) -> bool:
        return super().quiet and (self._desk is None or self._desk.quiet)

    async def run(self, inbox: Inbox) -> None:
        assert self.below is not None
        if self.mode == "bypass":
            async for tickets in inbox:
                await self.below.submit(tickets)
        else:
            self._desk = Desk(self, self.below, self.cache, scope=self.scope, mode=self.mode, shared=self.shared)
            try:
                await self._desk.serve(inbox)
            finally:
                self._desk = None
