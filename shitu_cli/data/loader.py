"""Load batches from a dataset, decoded ahead by threads; results never depend on their number.

OpenCV releases the interpreter lock, so threads decode on all cores without the start-up time, the copies and the
hangs of worker processes.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, runtime_checkable

import numpy as np

from shitu_cli.data.batch import Batch
from shitu_cli.errors import DataError
from shitu_cli.runtime.threads import compute_threads, image_threads
from shitu_cli.stores import WAITING

if TYPE_CHECKING:
    from shitu_cli.data.views import Views

Seed = tuple[int, ...] | None
AHEAD = 3  # batches being decoded while one is used
CHUNK = 8  # images per task


class _LazyGenerator:
    """`np.random.default_rng(0)`, made when a number is drawn.

    The transforms of a search draw none, and to load numpy.random takes as long as to decode several images.
    """

    @cached_property
    def _made(self) -> np.random.Generator:
        return np.random.default_rng(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


NO_RANDOMNESS = cast("np.random.Generator", _LazyGenerator())


class ImageSource(Protocol):
    """What a loader needs of a dataset."""

    labels: np.ndarray

    def load(self, index: int, rng: np.random.Generator) -> np.ndarray: ...

    def __len__(self) -> int: ...


@runtime_checkable
class Remote(Protocol):
    """A dataset that says whether its images are at addresses: then more threads read than compute, as most wait."""

    @property
    def is_remote(self) -> bool: ...


class Batches(Protocol):
    """What a loader needs of a sampler."""

    def set_epoch(self, epoch: int) -> None: ...

    def __iter__(self) -> Iterator[list[int]]: ...

    def __len__(self) -> int: ...


class _Group(NamedTuple):
    """The images of a batch; `seed` seeds the random numbers of each, None if none are used."""

    indices: Sequence[int]
    seed: Seed
    view: int = 0


class _Reader:
    """Decodes groups of images into batches, in order, some ahead; with `views`, in the view of the group."""

    def __init__(
        self, dataset: ImageSource, num_workers: int | None, on_error: str, views: Views | None = None
    ) -> None:
        self.dataset, self.on_error, self.views = dataset, on_error, views
        self.workers = _threads(dataset) if num_workers is None else num_workers
        self.skipped: dict[int, str] = {}

    def batches(self, groups: Iterable[_Group]) -> Generator[Batch, None, None]:
        """Yield one batch per group."""
        if self.workers == 0:
            for group in groups:
                stack = _Stack(len(group.indices))
                self._load(_with_repeats(group.indices), 0, stack, group)
                yield self._assemble(group, stack)
            return
        pool = image_threads(self.workers, "loader")
        waiting: deque[tuple[_Group, _Stack, list[Future[None]]]] = deque()
        try:
            for group in groups:
                entries, stack = _with_repeats(group.indices), _Stack(len(group.indices))
                parts = [
                    pool.submit(self._load, entries[start : start + CHUNK], start, stack, group)
                    for start in range(0, len(entries), CHUNK)
                ]
                waiting.append((group, stack, parts))
                if len(waiting) > AHEAD:
                    yield self._finish(*waiting.popleft())
            while waiting:
                yield self._finish(*waiting.popleft())
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _finish(self, group: _Group, stack: _Stack, parts: list[Future[None]]) -> Batch:
        for part in parts:
            part.result()
        return self._assemble(group, stack)

    def _load(self, entries: Sequence[tuple[int, int]], start: int, stack: _Stack, group: _Group) -> None:
        """Load a part of a group into the stack, from position `start` on."""
        for place, (index, repeat) in enumerate(entries, start):
            rng = NO_RANDOMNESS if group.seed is None else np.random.default_rng((*group.seed, index, repeat))
            try:
                if self.views is None:
                    stack.add(place, self.dataset.load(index, rng))
                else:
                    stack.add(place, self.views.load(index, group.view, rng))
            except DataError as error:
                if self.on_error != "skip":
                    raise
                self.skipped[index] = error.message

    def _assemble(self, group: _Group, stack: _Stack) -> Batch:
        if len(stack.shapes) > 1:
            raise DataError(
                "the transforms return images of different sizes: "
                + ", ".join(str(shape) for shape in sorted(stack.shapes)[:3]),
                hint="end transform_ops with a ResizeImage of a fixed size or a crop",
            )
        indices = np.asarray(group.indices, np.int64)[stack.is_filled]
        return Batch(stack.images(), self.dataset.labels[indices], indices, group.view)


def _threads(dataset: ImageSource) -> int:
    is_remote = isinstance(dataset, Remote) and dataset.is_remote
    return max(WAITING, compute_threads()) if is_remote else compute_threads()


class _Stack:
    """The images of one batch in one array, filled by several threads while each image is still in the CPU cache."""

    def __init__(self, count: int) -> None:
        self.is_filled = np.zeros(count, bool)
        self.shapes: set[tuple[int, ...]] = set()
        self._array: np.ndarray | None = None
        self._lock = Lock()

    def add(self, place: int, image: np.ndarray) -> None:
        with self._lock:
            self.shapes.add(image.shape)
            if self._array is None:
                self._array = np.empty((len(self.is_filled), *image.shape), image.dtype)
            array = self._array
        if image.shape == array.shape[1:]:
            array[place] = image
            self.is_filled[place] = True

    def images(self) -> np.ndarray:
        """Return the images that were added, in order."""
        if self._array is None:
            return np.empty((0, 1, 1, 3), np.uint8)
        return self._array if self.is_filled.all() else self._array[self.is_filled]


def _with_repeats(group: Sequence[int]) -> list[tuple[int, int]]:
    """Pair each index with its earlier occurrences in this batch: repeats by PKSampler must look different."""
    counts: Counter[int] = Counter()
    entries = []
    for index in group:
        entries.append((index, counts[index]))
        counts[index] += 1
    return entries


class BatchLoader:
    """Training batches: `for batch in loader.epoch(e)`. An image's random changes follow from
    (seed, epoch, batch, index), so that one that comes twice in an epoch looks different; with `views`, only what these
    leave open does.

    `num_workers` threads decode (None: one per core, 0: the calling thread). With `on_error` "skip", unreadable
    images are left out and noted in `skipped` (index → reason); "raise" raises a DataError that names the file.
    """

    def __init__(
        self,
        dataset: ImageSource,
        sampler: Batches,
        *,
        seed: int,
        num_workers: int | None = None,
        on_error: str = "raise",
        views: Views | None = None,
    ) -> None:
        self.dataset, self.sampler, self.seed, self.views = dataset, sampler, seed, views
        self._reader = _Reader(dataset, num_workers, on_error, views)
        self.skipped = self._reader.skipped

    def __len__(self) -> int:
        return len(self.sampler)

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of epoch `epoch` (from 0), from batch `start_step` on."""
        self.sampler.set_epoch(epoch)
        return self._reader.batches(
            _Group(indices, (self.seed, epoch, step), 0 if self.views is None else self.views.of_batch(epoch, step))
            for step, indices in enumerate(self.sampler)
            if step >= start_step
        )


class MixedLoader:
    """Training batches of a loader, each with one of another loader, whose images have no labels."""

    def __init__(self, labelled: BatchLoader, unlabelled: BatchLoader) -> None:
        self._loaders = labelled, unlabelled
        self.skipped = labelled.skipped

    def epoch(self, epoch: int, start_step: int = 0) -> Generator[Batch, None, None]:
        """Yield the batches of epoch `epoch` (from 0), from batch `start_step` on."""
        labelled, unlabelled = (loader.epoch(epoch, start_step) for loader in self._loaders)
        try:
            for batch, more in zip(labelled, unlabelled, strict=True):
                yield dataclasses.replace(batch, unlabelled=more) if len(more.indices) else batch
        finally:
            labelled.close()
            unlabelled.close()


class SequentialLoader:
    """Iterate over images `start` to `stop` in list order, for features; transforms are random only with a `seed`."""

    def __init__(
        self,
        dataset: ImageSource,
        batch_size: int,
        start: int = 0,
        stop: int | None = None,
        *,
        num_workers: int | None = None,
        on_error: str = "raise",
        seed: tuple[int, ...] | None = None,
    ) -> None:
        self.start, self.stop = start, len(dataset) if stop is None else stop
        self.batch_size, self._seed = batch_size, seed
        self._reader = _Reader(dataset, num_workers, on_error)
        self.skipped = self._reader.skipped

    def __len__(self) -> int:
        return -(-(self.stop - self.start) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        firsts = range(self.start, self.stop, self.batch_size)
        return self._reader.batches(
            _Group(range(first, min(first + self.batch_size, self.stop)), self._seed) for first in firsts
        )
