"""Measure the costs of prepare, extract and index build (--dry-run) from a few seconds of their work."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.errors import Command, Message
from shitu_cli.features.detection.bodies import bodies_of
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Extractor, InputDataset
from shitu_cli.features.list_features import pace_of
from shitu_cli.pace import Pace
from shitu_cli.preparation.audit import LookCache, look_at_all
from shitu_cli.preparation.choices import Choices
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.reading import read_sources
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import SilentReporter
from shitu_cli.runtime.memory import peak_memory_bytes
from shitu_cli.runtime.threads import compute_threads
from shitu_cli.steps import costs
from shitu_cli.steps.costs import Cost, Need, disk_need, memory_need, size_text, spread, total_size

_NAME_BYTES = 400  # of memory for the path and the label of an image, as Python holds them
_LOOKS = 64  # images for each thread in a step of the measurement
_VALUE_BYTES = {".npy": 4.0, ".npz": 4.0, ".jsonl": 22.0, ".parquet": 4.1}  # of a value in a file of features


def cost_of_extract(extractor: Extractor, images: ImageFiles, out: Path, detector: Detector | None = None) -> Cost:
    """Return what `extract` to the file `out` would cost, after a `detector` that cuts things out of the images."""
    count, values = len(images), len(images) * extractor.feature_size
    names = sum(len(images.name(n)) + len(images.labels[n]) + 2 for n in spread(count, 1000))
    file = int(values * _VALUE_BYTES.get(out.suffix, 4.0)) + names * count // max(1, min(count, 1000))
    peak = peak_memory_bytes() or 0
    return _cost_of_features(
        extractor,
        images,
        detector,
        needs=(
            memory_need(peak + count * _NAME_BYTES, held=peak, fit="--shard 1/4 computes a part of them"),
            disk_need(out.parent, values * 4 + file, fit="free some space, or --out on another disk"),
        ),
        remarks=["half of the disk space is only needed until the file is complete"] if out.suffix == ".npy" else [],
    )


def _cost_of_features(
    extractor: Extractor, images: ImageFiles, detector: Detector | None, *, needs: tuple[Need, ...], remarks: list[str]
) -> Cost:
    """Return the cost of computing the features of all images, with what is needed to keep them."""
    some = InputDataset(bodies_of(images.take(spread(len(images), 4096)), detector), extractor.transform)
    size, count = extractor.batch_size, len(images)
    pace = pace_of(extractor.engine, some, batch_size=size, count=count, seconds=costs.SECONDS)
    how = "" if detector is None else f", cut out by {detector.path}"
    return Cost(
        images=count,
        bytes_to_read=total_size(count, lambda n: images.files[n]),
        seconds={},
        total=pace.whole(),
        margin=pace.margin,
        basis=f"{extractor.engine.summary()} on a sample of the images{how}",
        needs=needs,
        remarks=remarks,
    )


def cost_of_index(
    extractor: Extractor,
    images: ImageFiles,
    place: Path | None,
    kind: str,
    detector: Detector | None = None,
) -> Cost:
    """Return what `index build` of these images in the folder `place` would cost; None for one that a server keeps."""
    count, vectors = len(images), len(images) * extractor.feature_size * 4
    stored = {"hnsw": vectors + count * 300, "ivf": vectors + count * 8, "binary": vectors // 32}.get(kind, vectors)
    peak = peak_memory_bytes() or 0
    remarks = [] if kind in ("flat", "binary") else [f"the time to build and tune the {kind} index is not included"]
    if place is None:
        index_bytes, disk = 0, list[Need]()
        remarks = [
            f"not included: the time to send {size_text(vectors)} of vectors to the server, and what the server needs"
        ]
        fit: Message = [
            "in parts: ",
            Command("extract", "--shard", "1/4"),
            ", then index add --features with each of them",
        ]
    else:
        index_bytes = vectors + stored
        disk = [disk_need(place, 2 * (stored + count * 100), fit="free some space, or --index on another disk")]
        fit = "--store milvus:ADDRESS keeps the vectors elsewhere; --kind binary needs a 32nd of the memory"
    memory = memory_need(peak + vectors + index_bytes + count * _NAME_BYTES, held=peak, fit=fit)
    return _cost_of_features(extractor, images, detector, needs=(memory, *disk), remarks=remarks)


def cost_of_prepare(sources: Sequence[Path], workspace: Path, choices: Choices, pack: Path | None = None) -> Cost:
    """Return what `prepare` of these folders and lists would cost, with shards in `pack`.

    Raises what reading them raises.
    """
    started = time.perf_counter()
    rows, _ = read_sources(list(sources), choices, Problems())
    reading = time.perf_counter() - started
    paths = [rows.location(number) for number in range(len(rows))]

    mixed, step = np.random.default_rng(0).permutation(len(paths)), _LOOKS * compute_threads()

    def looks() -> Iterator[int]:
        for start in range(0, len(paths), step):
            sample = [paths[n] for n in mixed[start : start + step]]
            look_at_all(sample, SilentReporter(), cache=LookCache(None), decode=not choices.quick)
            yield len(sample)

    pace = Pace(len(paths)).measure(looks(), costs.SECONDS)
    looking = pace.whole()
    lines = sum(len(path) + 8 for path in rows.paths)
    peak, size = peak_memory_bytes() or 0, total_size(len(paths), lambda n: paths[n])
    shards = [] if pack is None or size is None else [disk_need(pack, size, what="disk for shards")]
    return Cost(
        images=len(paths),
        bytes_to_read=size,
        seconds={"reading names and labels": reading, "looking at the images": looking},
        total=2 * reading + looking,
        margin=pace.margin,
        basis=f"a sample of the {'headers' if choices.quick else 'images'}",
        needs=(
            memory_need(peak + len(paths) * 2 * _NAME_BYTES, held=peak, fit="fewer images, or more memory"),
            disk_need(workspace, 2 * lines + len(paths) * 60, fit="free some space, or -w on another disk"),
            *shards,
        ),
    )
