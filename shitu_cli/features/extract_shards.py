"""`extract` in shards: compute one of them, and join them all to the file that one process writes."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.errors import DataError, UsageError
from shitu_cli.features.detection.bodies import report_whole
from shitu_cli.features.feature_file import Written, disk_errors_of, name_of, open_work, work_folder
from shitu_cli.features.origin import from_here
from shitu_cli.features.resumable import Extraction
from shitu_cli.features.shard_file import Job, Shard, Share, Stretch, read_shard, write_shard
from shitu_cli.features.shards import check_shards, computed_differently, find_shards, stretches
from shitu_cli.features.writing import PIECE, FeatureRows, Name, check_out, write_features
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import Reporter
from shitu_cli.runtime.memory import require_room

KIND = "extract"
_PART = "images"


def own_images(images: ImageFiles, share: Share | None, batch_size: int) -> ImageFiles:
    """Return the images of a share, all of them without one."""
    return images if share is None else images.take(share.range(len(images), batch_size))


def extract_shard(extraction: Extraction, out: Path, share: Share, reporter: Reporter) -> Written:
    """Compute a share of the images and write it beside `out`; what an interrupted call has done is taken over.

    Raises EnvironmentProblem when the disk refuses.
    """
    extractor, images = extraction.extractor, extraction.images
    file, stretch = share.file(out), share.range(len(images), extractor.batch_size)
    own = images.take(stretch)
    settings: dict[str, Any] = {"batch_size": extractor.batch_size, "unit length": extraction.normalize}
    if extraction.detector is not None:
        settings["detector"] = extraction.detector.fingerprint
    with open_work(file, dataclasses.replace(extraction, images=own)) as work:
        work.compute(reporter)
        own, unreadable = work.result()
        reasons = {n: (own.name(n), why.removeprefix(f"{own.files[n]}: ")) for n, why in unreadable.items()}
        job = Job(
            kind=KIND,
            of=share.of,
            model=extractor.fingerprint,
            settings=json.dumps(settings),
            feature_size=extractor.feature_size,
            engine=extractor.engine.description,
        )
        skipped = {stretch.start + n: reason for n, reason in reasons.items()}
        part = Stretch(_PART, _order(images), len(images), stretch.start, stretch.stop, skipped)
        rows = (work.read(start, min(start + PIECE, len(own))) for start in range(0, len(own), PIECE))
        names = (name_of(own, n) for n in range(len(own)))
        write_shard(file, share, job, [(part, rows, names)])
    shutil.rmtree(work_folder(file), ignore_errors=True)
    if extraction.detector is not None:
        report_whole(own, unreadable, reporter)
    return Written([file], len(own) - len(reasons), dict(reasons.values()))


def _order(images: ImageFiles) -> str:
    """Return a hash of the names and labels of all images in their order."""
    digest = hashlib.sha256()
    for number in range(len(images)):
        digest.update("\t".join(name_of(images, number)).encode() + b"\n")
    return digest.hexdigest()


def merge_shards(sources: Sequence[str], out: Path | None, reporter: Reporter) -> Written:
    """Write the features of all shards of a job into one file, the same bytes as without shards.

    Args:
        sources: Shard files, their folders or patterns.
        out: The file to write; by default what the shards were made for, beside them.
        reporter: Receives warnings.

    Raises DataError if a shard is missing, damaged, or from another job, UsageError for a name that cannot be written.
    """
    shards = check_shards(find_shards(sources), KIND)
    target = out or _usual_name(shards)
    check_out(target)
    engines = sorted({shard.job.engine for shard in shards})
    if len(engines) > 1:
        reporter.warn(computed_differently(engines))
    skipped = {n: reason for shard in shards for n, reason in shard.part(_PART).skipped.items()}
    rows = _joined_rows(shards, skipped)
    if not rows.shape[0]:
        raise DataError(
            "none of the images could be read", details=[f"{name}: {why}" for name, why in skipped.values()][:10]
        )
    with disk_errors_of(target):
        files = write_features(target, rows)
    return Written(files, rows.shape[0], dict(value for _, value in sorted(skipped.items())))


def read_part(path: Path) -> tuple[np.ndarray, list[Name], str]:
    """Return the features float32 [N, D] of one shard, path and label of each, and the fingerprint of their model.

    Images that could not be read are not among them. Raises DataError for a damaged shard, or one of another command.
    """
    shard = read_shard(path)
    if shard.job.kind != KIND:
        raise DataError(f"{path} is a shard of shitu {shard.job.kind}, not of shitu {KIND}")
    part = shard.part(_PART)
    rows = [row - part.start for row in range(part.start, part.stop) if row not in part.skipped]
    require_room((part.stop - part.start) * shard.job.feature_size * 4, path)
    features = np.empty((part.stop - part.start, shard.job.feature_size), np.float32)
    at = 0
    for piece in shard.pieces(_PART, itertools.repeat(PIECE)):
        features[at : at + len(piece)] = piece
        at += len(piece)
    names = list(shard.names(_PART))
    paths = from_here([name for name, _ in names], shard.folder, path)
    names = [(place, label) for place, (_, label) in zip(paths, names, strict=True)]
    if len(rows) == len(names):
        return features, names, shard.job.model
    return features[np.asarray(rows, np.int64)], [names[row] for row in rows], shard.job.model


def _usual_name(shards: Sequence[Shard]) -> Path:
    """Return the file that the shards were made for, by their names."""
    ends = {shard.path: Share(shard.number, shard.job.of).file(Path("x")).name[1:] for shard in shards}
    names = {path.with_name(path.name.removesuffix(end)) for path, end in ends.items() if path.name.endswith(end)}
    if len(names) != 1 or len(ends) != len([path for path, end in ends.items() if path.name.endswith(end)]):
        raise UsageError("the shards have different names: which file are they for?", hint="--out features.npy")
    return names.pop()


def _joined_rows(shards: Sequence[Shard], skipped: Collection[int]) -> FeatureRows:
    """Return the features of all shards without those of `skipped` images."""
    first = shards[0]

    def names() -> Iterator[Name]:
        every = itertools.chain.from_iterable(shard.names(_PART) for shard in shards)
        return (name for number, name in enumerate(every) if number not in skipped)

    def pieces() -> Iterator[tuple[list[Name], np.ndarray]]:
        for start, several, rows in stretches(shards, _PART, PIECE):
            kept = [n for n in range(len(several)) if start + n not in skipped]
            for n in kept:
                if not np.isfinite(rows[n]).all():
                    raise DataError(f"the shards hold no numbers for {several[n][0]}", hint="compute that shard again")
            yield [several[n] for n in kept], rows[np.asarray(kept, np.int64)]

    folder = Path.cwd() if first.folder is None else first.path.parent / first.folder
    shape = (first.part(_PART).total - len(skipped), first.job.feature_size)
    return FeatureRows(first.job.model, folder, shape, names, pieces)
