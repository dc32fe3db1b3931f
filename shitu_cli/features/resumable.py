"""Features of very many images, computed in blocks that survive an interruption and are shared by processes.

The features are written to one file, in the order of the images, and not through mapped memory: the process stays small
however many there are, and a full disk is an error rather than a signal. A block is marked as done when its features
are synced. Marks and features are in a directory named after everything that decides the bytes: another model, other
images or another batch size start from the beginning, and processes need not agree on anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from shitu_cli.boundary import own_file, place_to_write
from shitu_cli.data.images import Box
from shitu_cli.errors import ShituError
from shitu_cli.features.detection.bodies import Body, bodies_of
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Extractor, ImageInput
from shitu_cli.files import atomic_write_json
from shitu_cli.inputs import read_json
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import Reporter
from shitu_cli.stores import state_of

BLOCK_IMAGES = 512  # at most this many are computed again per process after an interruption


@dataclass(frozen=True)
class Extraction:
    """The features to compute: those of `images` by an `extractor`, of unit length if they are to `normalize`.

    A `detector` crops each image without a box to the surest box that it finds there.
    """

    extractor: Extractor
    images: ImageFiles
    normalize: bool = True
    detector: Detector | None = None

    def key(self) -> str:
        """Return a hash of everything that decides the features."""
        extractor, count = self.extractor, len(self.images)
        what = (extractor.fingerprint, extractor.engine.description, extractor.batch_size, self.normalize, count)
        digest = hashlib.sha256(repr(what).encode())
        if self.detector is not None:
            digest.update(self.detector.fingerprint.encode())
        for number in range(count):
            state = state_of(self.images.files[number])
            seen = "missing" if state is None else f"{state.size} {state.version}"
            digest.update(f"{self.images.name(number)}\t{seen}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()


class FinishedBlock(NamedTuple):
    """The results of some neighbouring images by number: why some cannot be read, and the boxes found in others."""

    skipped: dict[int, str]
    boxes: dict[int, Box]

    @classmethod
    def of(cls, values: Any) -> FinishedBlock:
        """Return the block that a mark describes; a mark is JSON, whose keys are texts."""
        boxes = {int(n): tuple(map(float, box)) for n, box in values["boxes"].items()}
        return cls({int(n): str(why) for n, why in values["skipped"].items()}, boxes)  # type: ignore[arg-type]


class ResumableFeatures:
    """The features float32 [len(images), feature_size] of an extraction in the making, below the directory `part`.

    Raises OSError when the disk refuses.
    """

    def __init__(self, part: Path, extraction: Extraction) -> None:
        self.extraction, self.images, extractor = extraction, extraction.images, extraction.extractor
        # Whole batches, so that each holds the same images with any number of processes and interruptions.
        self.block = -(-BLOCK_IMAGES // extractor.batch_size) * extractor.batch_size
        self.folder = place_to_write(part / extraction.key()[:24])
        self.folder.mkdir(parents=True, exist_ok=True)
        self._row = extractor.feature_size * 4  # bytes
        self._file = own_file(self.folder / "features.f32", os.O_RDWR | os.O_CREAT)

    def __enter__(self) -> ResumableFeatures:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._file)

    @property
    def blocks(self) -> int:
        """The number of blocks of all images."""
        return -(-len(self.images) // self.block)

    def compute(self, reporter: Reporter, *, rank: int = 0, world: int = 1) -> None:
        """Compute what is not done of the share of process `rank` of `world`."""
        share = range(self.blocks * rank // world, self.blocks * (rank + 1) // world)
        done = self.done()
        missing = [number for number in share if number not in done]
        inputs = bodies_of(self.images, self.extraction.detector)
        what = "extracting" if world == 1 else f"extracting (process {rank + 1} of {world})"
        with reporter.progress(what, sum(len(self._block_range(number)) for number in missing)) as bar:
            for first, last in _runs(missing):
                start, stop = self._block_range(first).start, self._block_range(last).stop
                skipped: dict[int, str] = {}
                at = start
                # One loader over neighbouring blocks: it reads ahead across their borders.
                batches = self.extraction.extractor.batches(
                    inputs, start=start, stop=stop, normalize=self.extraction.normalize
                )
                for indices, values, unread in batches:
                    rows = np.full((len(indices) + len(unread), values.shape[1]), np.nan, np.float32)
                    rows[indices - at] = values
                    self._write(at, rows)
                    skipped |= unread
                    at += len(rows)
                    if at == stop or at % self.block == 0:
                        number = (at - 1) // self.block
                        self._mark(number, FinishedBlock(skipped, _boxes(inputs, self._block_range(number))))
                        skipped = {}
                    bar.advance(len(rows))

    def done(self) -> dict[int, FinishedBlock]:
        """Return the finished blocks by number."""
        size = os.fstat(self._file).st_size
        blocks = {}
        for mark in self.folder.glob("block-*.json"):
            try:
                number = int(mark.stem.partition("-")[2])
                block = FinishedBlock.of(read_json(mark))
            except (ShituError, ValueError, TypeError, LookupError, AttributeError):
                continue  # a mark that cannot be read marks nothing
            if self._block_range(number).stop * self._row <= size:
                blocks[number] = block
        return blocks

    def result(self) -> tuple[ImageFiles, dict[int, str]]:
        """Return the images, with the boxes of what was found in them, and why some cannot be read, by number."""
        blocks = self.done()
        skipped = {n: why for number in sorted(blocks) for n, why in blocks[number].skipped.items()}
        boxes = {n: box for block in blocks.values() for n, box in block.boxes.items()}
        cut = [boxes.get(n, box) for n, box in enumerate(self.images.boxes)]
        return ImageFiles(self.images.files, self.images.labels, cut), skipped

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return the features of images `start` to `stop`, float32 [stop - start, D]; NaN for unreadable ones."""
        data = os.pread(self._file, (stop - start) * self._row, start * self._row)
        return np.frombuffer(data, np.float32).reshape(stop - start, -1)

    def _block_range(self, number: int) -> range:
        return range(number * self.block, min((number + 1) * self.block, len(self.images)))

    def _write(self, start: int, rows: np.ndarray) -> None:
        data, at = memoryview(rows.tobytes()), start * self._row
        while data:  # a nearly full disk takes a part, and refuses the rest
            written = os.pwrite(self._file, data, at)
            data, at = data[written:], at + written

    def _mark(self, number: int, block: FinishedBlock) -> None:
        os.fsync(self._file)
        atomic_write_json(self.folder / f"block-{number:08d}.json", block._asdict())


def _boxes(inputs: Sequence[ImageInput], numbers: range) -> dict[int, Box]:
    """Return the boxes that were found in some of the inputs."""
    bodies = {n: inputs[n] for n in numbers}
    return {n: one.box for n, one in bodies.items() if isinstance(one, Body) and one.box is not None}


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, last) of the stretches of neighbouring numbers."""
    first = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[first], numbers[at - 1]
            first = at
