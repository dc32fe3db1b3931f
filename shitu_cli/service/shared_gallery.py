"""An index on a Milvus server, which several servers of recognition may share."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np

from shitu_cli.index.store import IndexManifest, Item, Match, Store
from shitu_cli.reporting import SilentReporter
from shitu_cli.service.gallery import Addition, Changed, Removal, check_model, require_all, would_be_empty


class SharedView:
    """The index as it is at each question; `manifest` is that of when it was last looked at.

    Questions go one after the other: the client is not made for several threads.
    """

    is_quick = False

    def __init__(self, store: Store, asking: threading.Lock, manifest: IndexManifest) -> None:
        self._store, self._asking, self.manifest = store, asking, manifest

    def search(self, features: np.ndarray, top: int) -> list[list[Match]]:
        with self._asking:
            return self._store.search(features, top)

    def items(self) -> Iterator[Item]:
        with self._asking:
            return self._store.items()

    def item(self, id: int) -> Item | None:
        with self._asking:
            return next(iter(self._store.find((), (), (id,))), None)

    def labels(self) -> Counter[str]:
        return Counter(item.label for item in self.items())

    def label_count(self) -> None:
        return None

    def vectors(self, ids: np.ndarray) -> np.ndarray | None:
        return None


class SharedGallery:
    """A store whose changes are seen by all who use it."""

    def __init__(self, store: Store) -> None:
        self.store, self.place = store, store.place
        self._asking = threading.Lock()

    def latest(self) -> SharedView:
        with self._asking:
            return SharedView(self.store, self._asking, self.store.manifest())

    def change(self, change: Addition | Removal) -> tuple[SharedView, Changed]:
        with self._asking:
            done = self._remove(change) if isinstance(change, Removal) else self._add(change)
        return self.latest(), done

    def close(self) -> None:
        with self._asking:
            self.store.close()

    def _remove(self, change: Removal) -> Changed:
        items = self.store.find((), change.labels, change.ids)
        require_all(change, items)
        if not items:
            return Changed([])
        if len(items) >= self.store.manifest().count:
            raise would_be_empty()
        self.store.remove([item.id for item in items], SilentReporter())
        return Changed(items)

    def _add(self, change: Addition) -> Changed:
        table = change.table.distinct()
        check_model(self.store.manifest(), change.model, self.place)
        replaced = self.store.add(table, SilentReporter())
        removed = self.store.find((), (), change.instead_of) if change.instead_of else []
        if removed:
            self.store.remove([item.id for item in removed], SilentReporter())
        return Changed(self.store.find(table.paths, (), ()), replaced, removed)
