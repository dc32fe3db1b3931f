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

import shitu_cli
from shitu_cli.config.schema import SplitConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.loader import SequentialLoader
from shitu_cli.errors import EnvironmentProblem
from shitu_cli.infer.engine import Engine
from shitu_cli.reporting import Reporter, counted
from shitu_cli.retrieval.cache import FeatureCache


@dataclass(frozen=True)
class ListFeatures:
    """`features` float32 [N, D] (maybe mapped, not to be changed); rows of NaN for `skipped` pictures (index → why)."""

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
    cache: FeatureCache | None = None,
    scratch: Path | None = None,
    processes: Processes = Alone(),
    normalize: bool = True,
    flip: bool = False,
) -> ListFeatures:
    """Compute the features of a split; `cache` keeps them under a fingerprint of all they depend on.

    Several processes take whole batches each, write into one array in `scratch`, and all see the result: the numbers
    are those of one process. `flip` adds the features of the mirrored pictures, `normalize` brings rows to unit
    length. Raises DataError for a picture that cannot be read, unless the split says `on_error: skip`.
    """
    dataset = RecDataset(split.dataset, base_dir)
    key = "" if cache is None else _fingerprint(engine, dataset, f"flip {flip}, unit length {normalize}")
    found = None if cache is None else cache.read(key, (len(dataset), engine.feature_size))
    # All or none: one that looked before another had written would wait for it for ever.
    if not all(processes.gather(found is not None)):
        found = None
    if found is not None:
        reporter.info(f"{what}: features of {counted(len(dataset), 'picture')} from the cache")
        return ListFeatures(dataset, found, {})
    engine = _flipped(engine) if flip else engine
    engine = _at_unit_length(engine) if normalize else engine
    compute = functools.partial(
        extract_dataset,
        engine,
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
    if cache is not None and not skipped and processes.rank == 0:
        try:
            cache.write(key, features)
        except EnvironmentProblem as problem:
            reporter.warn(f"{what}: the features are not kept for the next evaluation: {problem.message}")
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
        _take_space(path)
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
    if processes.rank == 0:
        path.unlink()  # mapped as it is, it lives until the processes end
    return features, {int(n): why for item in told for n, why in item["skipped"].items()}


def _take_space(path: Path) -> None:
    """Give a sparse file its blocks on disk: a full disk is an error now, and kills when mapped memory is written."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot write {path}: {error.strerror or error}",
            hint="free some space on that disk, or evaluate in one process: without --devices",
        ) from None


def _flipped(engine: Engine) -> Engine:
    """Features of a picture and of its mirror image, added: after normalising, their mean direction."""

    def run(images: np.ndarray) -> np.ndarray:
        return np.asarray(engine.run(images) + engine.run(np.ascontiguousarray(images[..., ::-1])))

    return dataclasses.replace(engine, run=run)


def _at_unit_length(engine: Engine) -> Engine:
    return dataclasses.replace(engine, run=lambda images: normalized(engine.run(images)))


def normalized(features: np.ndarray) -> np.ndarray:
    """Rows of float32 [N, D] at unit length; rows of zeros stay."""
    lengths = np.sqrt(np.einsum("nd,nd->n", features, features, dtype=np.float64))[:, None]
    return np.asarray(features / np.maximum(lengths, 1e-12), np.float32)


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


def _fingerprint(engine: Engine, dataset: RecDataset, how: str) -> str:
    """Of program, weights, preprocessing, and each picture's path, box, size and times of change.

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
