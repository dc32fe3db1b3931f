"""The index that a server answers from and changes: a directory that other processes may replace, or a server's.

Changes are durable before they are acknowledged. Those that arrive while another one is being written are written
together: a hundred clients who add photos at once cost a few writes of the index instead of a hundred.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shitu_cli.errors import ShituError
from shitu_cli.files import file_state
from shitu_cli.index import is_index
from shitu_cli.index.files import MANIFEST, PATIENCE, VECTORS, FileStore, load_index, save_index
from shitu_cli.index.store import BuildOptions, FeatureTable, IndexManifest, Item
from shitu_cli.index.vectors import VectorIndex
from shitu_cli.service.refusals import CONFLICT, NOT_FOUND, TOO_MANY, UNAVAILABLE, Refusal
from shitu_cli.service.views import FileView, View


@dataclass(frozen=True)
class Addition:
    """Photos for an index: their features with labels and paths, and the model that computed them.

    `instead_of` are ids of items that leave the index in the same step, as far as they are still there.
    """

    table: FeatureTable
    model: str
    model_path: str
    instead_of: Collection[int] = ()


@dataclass(frozen=True)
class Removal:
    """What is to leave an index, by id or by label; every one of them must be there, unless `missing_ok`."""

    ids: Collection[int] = ()
    labels: Collection[str] = ()
    missing_ok: bool = False


@dataclass(frozen=True)
class Changed:
    """The result of a change: the items that it added or removed, and how many items of the same path it replaced.

    `removed` are the items that were removed in favour of the added ones.
    """

    items: list[Item]
    replaced: int = 0
    removed: Sequence[Item] = ()


class Gallery(Protocol):
    """An index to answer from and to change."""

    place: str

    def latest(self) -> View:
        """Return the index as it is now; the errors are those of its store."""

    def change(self, change: Addition | Removal) -> tuple[View, Changed]:
        """Make a change durable, then return the index with it; Refusal if it cannot be made."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass
class _Waiting:
    """A change that waits to be written, and what became of it."""

    change: Addition | Removal
    done: Changed | None = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        return self.done is not None or self.error is not None


class FileGallery:
    """The index in a directory. With `create`, it may be missing at first: the first addition builds it.

    Once it was there, its absence is an error: it may be being copied, and an addition would begin another one.
    """

    def __init__(self, folder: Path, *, create: bool = False, most_waiting: int = 64) -> None:
        self.folder, self.place, self.create = folder, str(folder), create
        self.most_waiting = most_waiting
        self._reading, self._writing, self._queueing = threading.Lock(), threading.Lock(), threading.Lock()
        self._view: FileView | None = None
        self._state: tuple[int, ...] = ()
        self._queue: list[_Waiting] = []

    def latest(self) -> FileView:
        with self._reading:
            state = self._files()
            if self._view is None or state != self._state:
                missing = self.create and not is_index(self.folder)
                self._view = FileView(None if missing else load_index(self.folder))
                self._state, self.create = state, missing
            return self._view

    def change(self, change: Addition | Removal) -> tuple[FileView, Changed]:
        """See Gallery. The first caller to reach the disk writes for all that wait with it."""
        waiting = _Waiting(change)
        with self._queueing:
            if len(self._queue) >= self.most_waiting:
                raise Refusal(TOO_MANY, "too many changes wait to be written", retry_after=2)
            self._queue.append(waiting)
        with self._writing:
            if not waiting.over:
                with self._queueing:
                    together, self._queue = self._queue, []
                self._write(together)
            view = self._view
        if waiting.error is not None:
            raise waiting.error
        assert waiting.done is not None and view is not None
        return view, waiting.done

    def close(self) -> None:
        self._view = None

    def _write(self, together: list[_Waiting]) -> None:
        """Make these changes and save them in one step; what fails leaves the index as it was."""
        try:
            with FileStore(self.folder).writing(PATIENCE):
                index = self.latest().index
                index = None if index is None else index.copy()  # other threads are searching it
                results: list[tuple[_Waiting, Changed]] = []
                for waiting in together:
                    try:
                        index, done = _changed(index, waiting.change, self.place)
                        results.append((waiting, done))
                    except (ShituError, Refusal) as error:  # raised before anything is changed
                        waiting.error = error
                if index is not None and results:
                    save_index(index, self.folder)
                    with self._reading:
                        self._view, self._state, self.create = FileView(index), self._files(), False
                for waiting, done in results:
                    waiting.done = done
        except BaseException as error:
            for waiting in together:
                if waiting.done is None:
                    waiting.error = error if isinstance(error, Exception) else RuntimeError("stopped")
            if not isinstance(error, Exception):
                raise

    def _files(self) -> tuple[int, ...]:
        """Return what differs between generations: each change writes new files, an evaluation a new manifest."""
        return file_state(self.folder / VECTORS) + file_state(self.folder / MANIFEST)


def _changed(index: VectorIndex | None, change: Addition | Removal, place: str) -> tuple[VectorIndex | None, Changed]:
    """Return the index after a change, which is made in place; raises before anything is changed."""
    if isinstance(change, Removal):
        items = [] if index is None else _items_of(index, change)
        require_all(change, items)
        if index is None or not items:
            return index, Changed([])
        if len(items) == len(index):
            raise would_be_empty()
        index.remove([item.id for item in items])
        return index, Changed(items)
    table = change.table.distinct()
    if index is None:
        index, replaced = VectorIndex.build(table, _options(change)), 0
    else:
        check_model(index.manifest, change.model, place)
        replaced = index.add(table)
    first = (index.manifest.next_id or 0) - len(table.labels)
    removed = _items_of(index, Removal(change.instead_of))
    if removed:
        index.remove([item.id for item in removed])
    return index, Changed(_numbered(table, first), replaced, removed)


def _items_of(index: VectorIndex, change: Removal) -> list[Item]:
    ids, labels = set(change.ids), set(change.labels)
    if not labels:  # without a walk through all of them
        return [Item(n, index.labels[n], index.paths[n]) for n in sorted(ids & index.labels.keys())]
    return [item for item in index.items() if item.id in ids or item.label in labels]


def _numbered(table: FeatureTable, first: int) -> list[Item]:
    rows = zip(table.labels, table.paths, strict=True)
    return [Item(n, label, path) for n, (label, path) in enumerate(rows, first)]


def require_all(change: Removal, items: Collection[Item]) -> None:
    """Raise a Refusal that names everything that is not in the index."""
    if change.missing_ok:
        return
    ids, labels = {item.id for item in items}, {item.label for item in items}
    absent = [f"id {id}" for id in change.ids if id not in ids]
    absent += [f"label {label or '(none)'}" for label in change.labels if label not in labels]
    if absent:
        raise Refusal(NOT_FOUND, "not in the index", details=absent, hint="GET /items lists what is")


def would_be_empty() -> Refusal:
    return Refusal(CONFLICT, "that would leave the index empty", hint="add something else first")


def _options(change: Addition) -> BuildOptions:
    return BuildOptions(model=change.model, model_path=change.model_path)


def check_model(manifest: IndexManifest, model: str, place: str) -> None:
    """Raise a Refusal if features of this model cannot be compared with those of the index."""
    if not manifest.fits(model):
        raise Refusal(
            UNAVAILABLE,
            f"{place} has just been built with another model than this server uses",
            hint="try again in a few seconds: if that model is there, the server changes to it",
            retry_after=5,
        )
