"""Features of all images of a list, in the list's order."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import shitu_cli
from shitu_cli.config.schema import SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import SequentialLoader
from shitu_cli.errors import DataError, EnvironmentProblem
from shitu_cli.features.cache import Features
from shitu_cli.features.engine import Engine
from shitu_cli.features.unit_length import normalized
from shitu_cli.files import sha256_of
from shitu_cli.reporting import Reporter, counted


@dataclass(frozen=True)
class ListFeatures:
    """`features` float32 [N, D] (maybe mapped, not to be changed); rows of NaN for `skipped` images (index → why)."""

    dataset: RecDataset
    features: np.ndarray
    skipped: dict[int, str]


class Processes(Protocol):
    """The processes that share the work (processes/collectives.py); the first of them gets whole what they gather."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, value: Any) -> list[Any]: ...

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None: ...


@dataclass(frozen=True)
class Alone:
    """One process."""

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        return rows


def extract_list(
    engine: Engine,
    split: SplitConfig,
    reporter: Reporter,
    what: str,
    *,
    cache: Features | None = None,
    processes: Processes = Alone(),
    normalize: bool = True,
    flip: bool = False,
    seed: tuple[int, ...] | None = None,
) -> ListFeatures | None:
    """Compute the features of a split; `cache` keeps them under a fingerprint of all they depend on.

    Several processes take whole batches each, and the first gets all, None the others: the numbers are those of one
    process. `flip` adds the features of the mirrored images, `normalize` brings rows to unit length. Transforms with
    random changes need a `seed` for them. Raises DataError for an image that cannot be read, unless the split says
    `on_error: skip`.
    """
    dataset = RecDataset(split.dataset)
    key = "" if cache is None else _fingerprint(engine, dataset, f"flip {flip}, unit length {normalize}, seed {seed}")
    found = None if cache is None else cache.read(key, (len(dataset), engine.feature_size))
    told = processes.gather([found is not None, sha256_of(dataset.list_path)])
    if len({digest for _, digest in told}) > 1:
        raise DataError(f"{dataset.list_path} is not the same on all machines", hint="copy it from the first to all")
    # All or none: one that looked before another had written would wait for it for ever.
    if not all(there for there, _ in told):
        found = None
    if found is not None:
        reporter.info(f"{what}: features of {counted(len(dataset), 'image')} from the cache")
        return ListFeatures(dataset, found, {}) if processes.rank == 0 else None
    engine = _flipped(engine) if flip else engine
    engine = _at_unit_length(engine) if normalize else engine
    batch_size = split.sampler.batch_size
    bounds = _shares(len(dataset), batch_size, processes.world)
    start, stop = bounds[processes.rank : processes.rank + 2]
    part, unreadable = extract_dataset(
        engine,
        dataset,
        reporter,
        what,
        batch_size=batch_size,
        num_workers=split.loader.num_workers,
        start=start,
        stop=stop,
        seed=seed,
    )
    told = processes.gather({str(n): why for n, why in unreadable.items()})
    features = processes.gather_array(part, np.diff(bounds).tolist())
    if features is None:
        return None
    skipped = {int(n): why for item in told for n, why in item.items()}
    if cache is not None and not skipped:
        try:
            cache.write(key, features)
        except EnvironmentProblem as problem:
            reporter.warn(f"{what}: the features are not kept for the next evaluation: {problem.message}")
    return ListFeatures(dataset, features, skipped)


def _shares(pictures: int, batch_size: int, processes: int) -> list[int]:
    """Where the share of each process begins and ends: whole batches, so that each holds the same images as alone."""
    batches = -(-pictures // batch_size)
    return [min(pictures, batches * n // processes * batch_size) for n in range(processes + 1)]


def _flipped(engine: Engine) -> Engine:
    """Features of an image and of its mirror image, added: after normalising, their mean direction."""

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(engine.run(images) + engine.run(np.ascontiguousarray(images[..., ::-1])))

    return dataclasses.replace(engine, run=run)


def _at_unit_length(engine: Engine) -> Engine:
    return dataclasses.replace(engine, run=lambda images: normalized(engine.run(images)))


def extract_dataset(
    engine: Engine,
    dataset: RecDataset,
    reporter: Reporter,
    what: str,
    *,
    batch_size: int,
    num_workers: int | None = None,
    start: int = 0,
    stop: int | None = None,
    seed: tuple[int, ...] | None = None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Features float32 [stop - start, D] and the images that could not be read (index → reason)."""
    stop = len(dataset) if stop is None else stop
    loader = SequentialLoader(
        dataset, batch_size, start, stop, num_workers=num_workers, on_error=dataset.config.on_error, seed=seed
    )
    features = np.full((stop - start, engine.feature_size), np.nan, np.float32)
    with reporter.progress(what, stop - start) as bar:
        for batch in loader:
            if len(batch.indices):
                features[batch.indices - start] = engine(batch.images)
            bar.advance(min(batch_size, stop - start))
    return features, dict(loader.skipped)


def _fingerprint(engine: Engine, dataset: RecDataset, how: str) -> str:
    """Of program, weights, preprocessing, and each image's path, box, size and times of change.

    The second time, of the file's status, cannot be set back: a copy that keeps the first one is noticed too.
    """
    parts = (shitu_cli.__version__, engine.fingerprint, engine.description, how, dataset.config.transform_ops)
    digest = hashlib.sha256("|".join(map(str, parts)).encode())
    for index in range(len(dataset)):
        path = dataset.path(index)
        try:
            state = os.stat(path)
        except OSError:
            digest.update(f"{path}|missing".encode("utf-8", "surrogateescape"))
            continue
        line = f"{path}|{dataset.images.box(index)}|{state.st_size}|{state.st_mtime_ns}|{state.st_ctime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
