"""Features of many images in a file: computed, shared and taken up again (features/resumable.py), then written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shitu_cli.errors import MACHINE_HINTS, DataError, EnvironmentProblem
from shitu_cli.features.detection.bodies import report_whole
from shitu_cli.features.resumable import Extraction, ResumableFeatures
from shitu_cli.features.writing import PIECE, FeatureRows, Name, check_out, one_line, write_features
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import Reporter

PATIENCE = 600.0  # seconds without any progress of other processes
PAUSE = 0.5  # seconds between two looks at it


@dataclass(frozen=True)
class Written:
    """`skipped` path → reason of images that are not in the files."""

    files: list[Path]
    count: int
    skipped: dict[str, str]


def extract_to_file(extraction: Extraction, out: Path, reporter: Reporter) -> Written:
    """Compute and write features; results of an interrupted call or of other processes are reused.

    Raises UsageError for an unknown suffix, EnvironmentProblem when the disk refuses.
    """
    check_out(out)
    with open_work(out, extraction) as work:
        work.compute(reporter)
        if len(work.done()) < work.blocks:
            raise EnvironmentProblem(
                f"another command that writes {out} has removed what this one had computed",
                hint="give each a file of its own: --out",
            )
        images, skipped = work.result()
        if len(skipped) == len(images):
            first = [*skipped.values()][:10]
            raise DataError(f"none of the images could be read ({len(images):,} tried)", details=first)
        files = write_features(out, _rows(work, images, skipped))
    shutil.rmtree(work_folder(out), ignore_errors=True)
    if extraction.detector is not None:
        report_whole(images, skipped, reporter)
    reasons = {images.name(n): why.removeprefix(f"{images.files[n]}: ") for n, why in skipped.items()}
    return Written(files, len(images) - len(skipped), reasons)


def wait_for_others(extraction: Extraction, out: Path, reporter: Reporter) -> None:
    """Wait until the other processes of the run have done their shares in the same folder.

    Raises EnvironmentProblem when they have not done anything for as long as `PATIENCE`.
    """
    waiting = "waiting for the other processes"
    with open_work(out, extraction) as work, reporter.progress(waiting, work.blocks, "blocks") as bar:
        before, changed = 0, time.monotonic()
        while (done := len(work.done())) < work.blocks:
            if done != before:
                bar.advance(done - before)
                before, changed = done, time.monotonic()
            elif time.monotonic() - changed > PATIENCE:
                raise EnvironmentProblem(
                    f"{work.blocks - done} of {work.blocks} blocks of images are missing, and the other processes "
                    f"of the run have done nothing for {PATIENCE / 60:.0f} minutes",
                    hint="do they write to the same folder? Without a shared disk, machines compute a --shard each",
                )
            time.sleep(PAUSE)


@contextmanager
def open_work(out: Path, extraction: Extraction) -> Iterator[ResumableFeatures]:
    """Open the unfinished features of `out`, new or of an earlier call, with errors as in `disk_errors_of`."""
    with disk_errors_of(out), ResumableFeatures(work_folder(out), extraction) as work:
        yield work


@contextmanager
def disk_errors_of(out: Path) -> Iterator[None]:
    """Turn the system's errors inside the context into one that names the file and says how to continue."""
    try:
        yield
    except OSError as error:
        todo = MACHINE_HINTS.get(error.errno or 0, "see that it can be written there")
        hint = f"{todo}; the same command continues from there"
        raise EnvironmentProblem(f"cannot write {out}: {error.strerror or error}", hint=hint) from None


def work_folder(out: Path) -> Path:
    """Return the folder of unfinished work, next to the file that it will become."""
    return out.with_name(f".{out.name}.part")


def _rows(work: ResumableFeatures, images: ImageFiles, skipped: dict[int, str]) -> FeatureRows:
    """Return the finished features without those of `skipped` images."""
    extractor = work.extraction.extractor

    def names() -> Iterator[Name]:
        return (name_of(images, n) for n in range(len(images)) if n not in skipped)

    def pieces() -> Iterator[tuple[list[Name], np.ndarray]]:
        for start in range(0, len(images), PIECE):
            stop = min(start + PIECE, len(images))
            kept = [n for n in range(start, stop) if n not in skipped]
            values = work.read(start, stop)[np.asarray(kept, np.int64) - start]
            yield [name_of(images, n) for n in kept], values

    shape = (len(images) - len(skipped), extractor.feature_size)
    return FeatureRows(extractor.fingerprint, Path.cwd(), shape, names, pieces)


def name_of(images: ImageFiles, number: int) -> Name:
    """Return path and label of an image as they are written into files."""
    return one_line(images.name(number)), one_line(images.labels[number])
