"""Which samples of a cache are meant: by namespace, scope and age, for `slice` and `prune`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ._stored import StoredSample, Use


@dataclass(frozen=True)
class Selection:
    """Patterns as in a shell (`*`, `?`, `[…]`); what is left empty selects everything."""

    namespaces: Collection[str] = ()
    scopes: Sequence[str] = ()
    bought_before: str | None = None  #: an ISO time
    exactly: bool = False  #: the namespaces are names, not patterns

    def only(self, sample: StoredSample) -> StoredSample | None:
        """*sample* with those who drew it in these namespaces; None if it is not meant."""
        if not self._meant(sample):
            return None
        if not self.namespaces:
            return sample
        uses = tuple(use for use in sample.uses if self._in(use))
        return sample._replace(uses=uses) if uses else None

    def without(self, sample: StoredSample) -> StoredSample | None:
        """What is left of *sample* when what is meant is taken away; None if that is all of it."""
        if not self._meant(sample):
            return sample
        if not self.namespaces:
            return None
        uses = tuple(use for use in sample.uses if not self._in(use))
        return sample._replace(uses=uses) if uses or not sample.uses else None

    def _meant(self, sample: StoredSample) -> bool:
        young = self.bought_before is not None and not (sample.bought_at or "") < self.bought_before
        return not young and (not self.scopes or matches(sample.scope, self.scopes))

    def _in(self, use: Use) -> bool:
        return self.names(use.namespace)

    def names(self, namespace: str) -> bool:
        """Whether *namespace* is one of those that are meant."""
        return namespace in self.namespaces if self.exactly else matches(namespace, self.namespaces)


def matches(name: str, patterns: Collection[str]) -> bool:
    """Whether *name* is one of *patterns*, or is like one."""
    return name in patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
