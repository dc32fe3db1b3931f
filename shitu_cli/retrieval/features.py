"""Features of all pictures of a list, in the list's order."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class Processes(Protocol):
    """The processes that share the work (see train/ranks.py)."""

    @property
    def rank(self) -> int: ...

    @property
    def world(self) -> int: ...

    def gather(self, value: Any) -> list[Any]: ...


@dataclass(frozen=True)
class Alone:
    """One process."""

    rank: int = 0
    world: int = 1

    def gather(self, value: Any) -> list[Any]:
        return [value]


def extract_list(
    engine: Engine,
    split: SplitConfig,
    base_dir: Path,
    reporter: Reporter,
    what: str,
    *,
    cache: Path | None = None,
    scratch: Path | None = None,
    processes: Processes = Alone(),
    flip: bool = False,
) -> ListFeatures:
    """Compute the features of a split; `cache` is a directory that keeps them under a fingerprint of all they need.

    Several processes take whole batches each, write into one array in `scratch`, and all see the result: the numbers
    are those of one process. `flip` adds the features of the mirrored pictures. Raises DataError for a picture that
    cannot be read, unless the split says `on_error: skip`.
    """
    dataset = RecDataset(split.dataset, base_dir)
    kept = None if cache is None else cache / f"{_fingerprint(engine, dataset, flip)}.npy"
    found = _read_cached(kept, len(dataset), engine.feature_size) if kept is not None else None
    # All or none: one that looked before another had written would wait for it for ever.
    if not all(processes.gather(found is not None)):
        found = None
    if found is not None:
        reporter.info(f"{what}: features of {len(dataset):,} pictures from the cache")
        return ListFeatures(dataset, found, {})
    compute = functools.partial(
        extract_dataset,
        _flipped(engine) if flip else engine,
        dataset,
        reporter,
        what,
        batch_size=split.sampler.batch_size,
        num_workers=split.loader.num_workers,
    )
    if processes.world == 1:
        features, skipped = compute()
    else:
        features, skipped = _shared(compute, dataset, engine, split.sampler.batch_size, scratch, what, processes)
    if kept is not None and not skipped and processes.rank == 0:
        with atomic_write(kept) as file:
            np.save(file, features)
    return ListFeatures(dataset, features, skipped)


def _shared(
    compute: Callable[..., tuple[np.ndarray, dict[int, str]]],
    dataset: RecDataset,
    engine: Engine,
    batch_size: int,
    scratch: Path | None,
    what: str,
    processes: Processes,
) -> tuple[np.ndarray, dict[int, str]]:
    """Each process computes its batches into one array on disk, which is complete when all have told so."""
    assert scratch is not None
    path = scratch / f"{what}.npy"
    shape = (len(dataset), engine.feature_size)
    if processes.rank == 0:
        scratch.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    processes.gather(None)
    features = np.lib.format.open_memmap(path, mode="r+")
    # Whole batches, so that each holds the same pictures as with one process.
    batches = -(-len(dataset) // batch_size)
    start, stop = (
        min(len(dataset), batches * n // processes.world * batch_size) for n in (processes.rank, processes.rank + 1)
    )
    part, skipped = compute(start=start, stop=stop)
    features[start:stop] = part
    features.flush()
    told = processes.gather({"start": start, "stop": stop, "skipped": {str(n): why for n, why in skipped.items()}})
    ranges = sorted((item["start"], item["stop"]) for item in told)
    edges = [0, *(stop for _, stop in ranges)]
    assert [start for start, _ in ranges] == edges[:-1] and edges[-1] == len(dataset), "pictures are missing"
    return np.array(features), {int(n): why for item in told for n, why in item["skipped"].items()}


def _flipped(engine: Engine) -> Engine:
    """Features of a picture and of its mirror image, added: after normalising, their mean direction."""

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(engine.run(images) + engine.run(np.ascontiguousarray(images[..., ::-1])))

    return dataclasses.replace(engine, run=run)


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
    if not path.is_file():
        return None
    try:
        features = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    return features if features.shape == (count, size) and features.dtype == np.float32 else None


def _fingerprint(engine: Engine, dataset: RecDataset, flip: bool) -> str:
    """Of the weights, the preprocessing, and each picture's path, box, size and time of change."""
    digest = hashlib.sha256(
        f"{CACHE_VERSION}|{engine.fingerprint}|{engine.description}|{flip}|{dataset.config.transform_ops}".encode()
    )
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
