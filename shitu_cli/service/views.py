"""Snapshots of an index to answer from: they stay as they are while the index changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np

from shitu_cli.index.store import IndexManifest, Item, Match
from shitu_cli.index.vectors import VectorIndex

SMALL = 1 << 22  # numbers in an index that a search compares one by one in about a millisecond


class View(Protocol):
    """One state of an index; `manifest` is None while there is none yet."""

    @property
    def manifest(self) -> IndexManifest | None: ...

    @property
    def is_quick(self) -> bool:
        """Whether a search for one vector takes no longer than its share of a search for many."""

    def search(self, features: np.ndarray, top: int) -> list[list[Match]]:
        """Return the best `top` matches of each vector [N, D]."""

    def items(self) -> Iterator[Item]:
        """Yield all items in order of id."""

    def item(self, id: int) -> Item | None:
        """Return the item of that id."""

    def labels(self) -> Counter[str]:
        """Return how many items each label has."""

    def label_count(self) -> int | None:
        """Return how many different labels there are; None if counting would read the whole index."""

    def vectors(self, ids: np.ndarray) -> np.ndarray | None:
        """Return the vectors float32 [N, D] of ids int64 [N]; None if the index does not give them back."""


def count_of(view: View) -> int:
    """Return how many items an index has."""
    return 0 if view.manifest is None else view.manifest.count


class FileView:
    """An index in memory, None for one that does not exist yet."""

    def __init__(self, index: VectorIndex | None) -> None:
        self.index = index

    @property
    def manifest(self) -> IndexManifest | None:
        return None if self.index is None else self.index.manifest

    @property
    def is_quick(self) -> bool:
        manifest = self.manifest
        return manifest is None or manifest.kind in ("hnsw", "ivf") or manifest.count * manifest.size <= SMALL

    def search(self, features: np.ndarray, top: int) -> list[list[Match]]:
        return [[] for _ in features] if self.index is None else self.index.search(features, top)

    def items(self) -> Iterator[Item]:
        index = self.index
        if index is not None:
            yield from (Item(n, index.labels[n], index.paths[n]) for n in self._ids)

    def item(self, id: int) -> Item | None:
        if self.index is None or id not in self.index.labels:
            return None
        return Item(id, self.index.labels[id], self.index.paths[id])

    def labels(self) -> Counter[str]:
        return self._labels

    def label_count(self) -> int:
        return len(self._labels.keys() - {""})

    def vectors(self, ids: np.ndarray) -> np.ndarray | None:
        if self.index is None or self.index.manifest.kind == "binary":
            return None
        # An ivf index writes a table into itself to give vectors back, which a search beside it must not see.
        index = self.index.copy() if self.index.manifest.kind == "ivf" else self.index
        return index.vectors(ids)

    @cached_property
    def _ids(self) -> list[int]:
        return [] if self.index is None else sorted(self.index.labels)

    @cached_property
    def _labels(self) -> Counter[str]:
        return Counter() if self.index is None else Counter(self.index.labels.values())
