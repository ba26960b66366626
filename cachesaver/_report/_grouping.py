"""Namespaces that share the beginning of their names, where there are too many to tell each of them apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping


def grouped(names: Mapping[int, str], most: int) -> dict[int, str]:
    """The group of each of *names*: itself, or as much of its path as leaves at most so many groups, and two.

    Where no path does that, each stays alone.
    """
    if len(names) > most:
        paths = {id: name.split("/") for id, name in names.items()}
        for depth in range(max(map(len, paths.values())) - 1, 0, -1):
            heads = {id: "/".join(path[:depth]) for id, path in paths.items()}
            if 2 <= len(set(heads.values())) <= most:
                return dict(zip(names, _labels(names, heads), strict=True))
    return dict(names)


def _labels(names: Mapping[int, str], heads: Mapping[int, str]) -> Iterable[str]:
    """The common beginning and how many namespaces it stands for, or the name of the only one."""
    sizes = Counter(heads.values())
    return [name if sizes[heads[id]] == 1 else f"{heads[id]}/… ({sizes[heads[id]]})" for id, name in names.items()]
