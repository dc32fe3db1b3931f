"""Features of all pictures of a list, in the list's order."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.config.schema import SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import SequentialLoader
from shitu_cli.infer.engine import Engine
from shitu_cli.reporting import Reporter
from shitu_cli.workspace import atomic_write

CACHE_VERSION = 1


@dataclass(frozen=True)
class ListFeatures:
    """`features` float32 [N, D] as the engine gives them; rows of NaN for `skipped` pictures (index → reason)."""

    dataset: RecDataset
    features: np.ndarray
    skipped: dict[int, str]


def extract_list(
    engine: Engine, split: SplitConfig, base_dir: Path, reporter: Reporter, what: str, cache: Path | None = None
) -> ListFeatures:
    """Compute the features of a split; `cache` is a directory that keeps them under a fingerprint of all they need.

    Raises DataError for a picture that cannot be read, unless the split says `on_error: skip`.
    """
    dataset = RecDataset(split.dataset, base_dir)
    kept = None if cache is None else cache / f"{_fingerprint(engine, dataset)}.npy"
    if kept is not None and kept.is_file():
        features = _read_cached(kept, len(dataset), engine.feature_size)
        if features is not None:
            reporter.info(f"{what}: features of {len(dataset):,} pictures from the cache")
            return ListFeatures(dataset, features, {})
    features, skipped = extract_dataset(
        engine, dataset, reporter, what, batch_size=split.sampler.batch_size, num_workers=split.loader.num_workers
    )
    if kept is not None and not skipped:
        with atomic_write(kept) as file:
            np.save(file, features)
    return ListFeatures(dataset, features, skipped)


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
) -> tuple[np.ndarray, dict[int, str]]:
    """Features float32 [stop - start, D] and the pictures that could not be read (index → reason)."""
    stop = len(dataset) if stop is None else stop
    loader = SequentialLoader(
        dataset, batch_size, start, stop, num_workers=num_workers, on_error=dataset.config.on_error
    )
    features = np.full((stop - start, engine.feature_size), np.nan, np.float32)
    with reporter.progress(what, stop - start) as bar:
        for batch in loader:
            if len(batch.indices):
                features[batch.indices - start] = engine(batch.images)
            bar.advance(min(batch_size, stop - start))
    return features, dict(loader.skipped)


def _read_cached(path: Path, count: int, size: int) -> np.ndarray | None:
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return features if features.shape == (count, size) and features.dtype == np.float32 else None


def _fingerprint(engine: Engine, dataset: RecDataset) -> str:
    """Of the weights, the preprocessing, and each picture's path, box, size and time of change."""
    digest = hashlib.sha256(f"{CACHE_VERSION}|{engine.fingerprint}|{dataset.config.transform_ops}".encode())
    for index in range(len(dataset)):
        path = dataset.path(index)
        try:
            state = os.stat(path)
        except OSError:
            digest.update(f"{path}|missing".encode("utf-8", "surrogateescape"))
            continue
        line = f"{path}|{dataset.images.box(index)}|{state.st_size}|{state.st_mtime_ns}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
