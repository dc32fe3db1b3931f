"""Features of all images of a list, in the list's order."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import shitu_cli
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import ImageSource, Remote, SequentialLoader
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.cache import Cache
from shitu_cli.features.engine import Engine
from shitu_cli.features.shard_file import Share
from shitu_cli.features.unit_length import normalized
from shitu_cli.files import sha256_of
from shitu_cli.pace import Pace
from shitu_cli.processes.sharing import Processes
from shitu_cli.reporting import Reporter, counted
from shitu_cli.stores import state_of

if TYPE_CHECKING:
    from shitu_cli.config.schema import SplitConfig

BATCH = 32  # images at once if no list says it


@dataclass(frozen=True)
class ListFeatures:
    """The features float32 [N, D] of a list, read-only as they may be mapped from disk.

    `skipped` maps the index of an unreadable image to the reason; its row is NaN.
    """

    dataset: RecDataset
    features: np.ndarray
    skipped: dict[int, str]


def extract_list(
    engine: Engine,
    split: SplitConfig,
    reporter: Reporter,
    what: str,
    *,
    cache: Cache | None = None,
    processes: Processes = Processes(),
    normalize: bool = True,
    flip: bool = False,
    seed: tuple[int, ...] | None = None,
) -> ListFeatures | None:
    """Compute the features of all images of a list; return them in the first process, None in the others.

    Args:
        engine: What computes the features.
        split: The list, the transforms, and the size of batches.
        reporter: Receives progress.
        what: The name of the list in progress lines.
        cache: Keeps the features under a fingerprint of all that they depend on.
        processes: Take whole batches each, so that the numbers are those of one process.
        normalize: Bring rows to unit length.
        flip: Add the features of the mirrored images.
        seed: Seeds the random changes of transforms that make any.

    Raises DataError for an image that cannot be read, unless the split says `on_error: skip`.
    """
    dataset = RecDataset(split.dataset)
    key = "" if cache is None else _fingerprint(engine, dataset, f"flip {flip}, unit length {normalize}, seed {seed}")
    kept = None if cache is None else cache.read(key, (len(dataset), engine.feature_size))
    answers = processes.gather([kept is not None, sha256_of(dataset.list_path)])
    if len({digest for _, digest in answers}) > 1:
        raise DataError(f"{dataset.list_path} is not the same on all machines", hint="copy it from the first to all")
    # All or none: one that looked before another had written would wait for it for ever.
    if not all(is_kept for is_kept, _ in answers):
        kept = None
    if kept is not None:
        reporter.info(f"{what}: features of {counted(len(dataset), 'image')} from the cache")
        return ListFeatures(dataset, kept, {}) if processes.rank == 0 else None
    engine = prepared_engine(engine, flip=flip, normalize=normalize)
    whole = range(len(dataset))
    shared = extract_shared(engine, split, dataset, whole, reporter, what, processes=processes, seed=seed)
    if shared is None:
        return None
    features, skipped = shared
    if cache is not None and not skipped:
        try:
            cache.write(key, features)
        except EnvironmentProblem as problem:
            reporter.warn(f"{what}: the features are not kept for the next evaluation: {problem.message}")
    return ListFeatures(dataset, features, skipped)


def extract_shared(
    engine: Engine,
    split: SplitConfig,
    dataset: RecDataset,
    part: range,
    reporter: Reporter,
    what: str,
    *,
    processes: Processes,
    seed: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, dict[int, str]] | None:
    """Return what `extract_part` does, computed by all processes together, in the first one; None in the others."""
    shares = [Share(number, processes.world) for number in range(1, processes.world + 1)]
    ranges = [share.range(len(part), split.sampler.batch_size) for share in shares]
    own = part[ranges[processes.rank].start : ranges[processes.rank].stop]
    rows, unreadable = extract_part(engine, split, dataset, own, reporter, what, seed=seed)
    reasons = processes.gather({str(n): why for n, why in unreadable.items()})
    features = processes.gather_array(rows, [len(each) for each in ranges])
    if features is None:
        return None
    return features, {int(n): why for item in reasons for n, why in item.items()}


def prepared_engine(engine: Engine, *, flip: bool, normalize: bool) -> Engine:
    """Return an engine that also adds the features of the mirrored image, or brings features to unit length."""
    engine = _flipped(engine) if flip else engine
    return _at_unit_length(engine) if normalize else engine


def _flipped(engine: Engine) -> Engine:
    """Return an engine that adds the features of the mirror image: after normalising, their mean direction."""

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(engine.run(images) + engine.run(np.ascontiguousarray(images[..., ::-1])))

    return dataclasses.replace(engine, run=run)


def _at_unit_length(engine: Engine) -> Engine:
    return dataclasses.replace(engine, run=lambda images: normalized(engine.run(images)))


def extract_part(
    engine: Engine,
    split: SplitConfig,
    dataset: RecDataset,
    part: range,
    reporter: Reporter,
    what: str,
    *,
    seed: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the features float32 [len(part), D] of some images of a split, which `dataset` reads.

    The second result maps the index of an image that cannot be read to the reason; its row is NaN.
    """
    loader = SequentialLoader(
        dataset,
        split.sampler.batch_size,
        part.start,
        part.stop,
        num_workers=split.loader.num_workers,
        on_error=split.dataset.on_error,
        seed=seed,
    )
    return _compute(engine, loader, reporter, what), dict(loader.skipped)


def extract_images(
    engine: Engine, images: ImageSource, reporter: Reporter, what: str, *, flip: bool = False
) -> tuple[np.ndarray, dict[int, str]]:
    """Return unit features float32 [N, D] of images that are in no list, and the unreadable ones (index → reason)."""
    loader = SequentialLoader(images, BATCH, on_error="skip")
    engine = _at_unit_length(_flipped(engine) if flip else engine)
    return _compute(engine, loader, reporter, what), dict(loader.skipped)


def _compute(engine: Engine, loader: SequentialLoader, reporter: Reporter, what: str) -> np.ndarray:
    """Return a row of features for each image of the loader; NaN for those that cannot be read."""
    count = loader.stop - loader.start
    features = np.full((count, engine.feature_size), np.nan, np.float32)
    with reporter.progress(what, count) as bar:
        for number, batch in enumerate(loader):
            if len(batch.indices):
                features[batch.indices - loader.start] = engine(batch.images)
            bar.advance(min(loader.batch_size, count - number * loader.batch_size))
    return features


def pace_of(
    engine: Engine,
    images: ImageSource,
    *,
    batch_size: int,
    num_workers: int | None = None,
    count: int | None = None,
    seconds: float,
) -> Pace:
    """Compute features of random images for about `seconds`; return the pace of `count` images, by default of all.

    Nothing is kept and unreadable images are skipped: this serves only to find out what all of them cost.
    """
    batch_size = min(batch_size, max(8, len(images) // 12))  # of few images, enough steps to see how fast they are
    loader = SequentialLoader(_Mixed(images), batch_size, num_workers=num_workers, on_error="skip")

    def steps() -> Iterator[int]:
        for number, batch in enumerate(loader):
            if len(batch.indices):
                engine(batch.images)
            yield min(batch_size, len(images) - number * batch_size)

    return Pace(len(images) if count is None else count).measure(steps(), seconds)


class _Mixed:
    """The images in random order: neighbours in a list are of one class, and often of one size."""

    def __init__(self, images: ImageSource) -> None:
        self._images, self._order = images, np.random.default_rng(0).permutation(len(images))
        self.labels = images.labels[self._order]
        self.is_remote = isinstance(images, Remote) and images.is_remote

    def __len__(self) -> int:
        return len(self._order)

    def load(self, index: int, rng: np.random.Generator) -> np.ndarray:
        return self._images.load(int(self._order[index]), rng)


def _fingerprint(engine: Engine, dataset: RecDataset, how: str) -> str:
    """Return a hash of program, weights, preprocessing, and each image's path, box, size and times of change.

    The second time, of the file's status, cannot be set back: a copy that keeps the first one is noticed too.
    """
    parts = (shitu_cli.__version__, engine.fingerprint, engine.description, how, dataset.config.transform_ops)
    digest = hashlib.sha256("|".join(map(str, parts)).encode())
    for index in range(len(dataset)):
        location = dataset.location(index)
        state = state_of(location)
        if state is None:
            digest.update(f"{location}|missing".encode("utf-8", "surrogateescape"))
            continue
        line = f"{location}|{dataset.images.box(index)}|{state.size}|{state.version}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
