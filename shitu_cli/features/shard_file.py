"""The file of a shard: a part of the features of a job that several machines share without talking to each other.

Shard k of n holds whole batches, the same as one process computes, so that the features are the same bits. It is a zip
file: `shard.json` describes the job, its model, its images in their order, and where the shard begins; each part has an
entry of raw float32 rows (NaN for images that cannot be read) and, if the job has no list, one of names.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

import shitu_cli
from shitu_cli.errors import DataError, UsageError
from shitu_cli.features.writing import Name
from shitu_cli.files import atomic_write
from shitu_cli.inputs import MIB, is_whole, open_input, parse_json
from shitu_cli.inputs.damage import DAMAGE

SUFFIX = ".shard"
MOST_SHARDS = 100_000
MOST_VALUES = 65_536  # of a feature
_HEADER = "shard.json"
_FORMAT = 1
_HEADER_LIMIT = 256 * MIB


@dataclass(frozen=True)
class Share:
    """Part `number` (from 1) of `of` parts."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Return the share that `3/16` means. Raises UsageError for any other text."""
        match = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if match is None:
            raise UsageError(
                f"--shard: got {text!r}, expected a part and the number of parts, such as 3/16", hint="--shard 1/4"
            )
        share = cls(int(match[1]), int(match[2]))
        if not 1 <= share.number <= share.of <= MOST_SHARDS:
            raise UsageError(
                f"--shard {text}: parts are numbered 1 to {share.of}"
                if share.of <= MOST_SHARDS
                else f"--shard {text}: at most {MOST_SHARDS:,} parts",
                hint=f"--shard 1/{min(max(share.of, 1), MOST_SHARDS)}",
            )
        return share

    def range(self, images: int, batch_size: int) -> range:
        """Return the images of this share: whole batches, as one process cuts them."""
        batches = -(-images // batch_size)
        start, stop = (min(images, batches * n // self.of * batch_size) for n in (self.number - 1, self.number))
        return range(start, stop)

    def file(self, base: Path) -> Path:
        """Return the name of the shard beside `base`."""
        return base.with_name(f"{base.name}.{self.number}-of-{self.of}{SUFFIX}")


@dataclass(frozen=True)
class Stretch:
    """A stretch of the images of one list: images `start` to `stop` of `total`; `order` is a hash of all of them.

    `skipped` maps the number of an image to its name and the reason why it has no feature.
    """

    name: str
    order: str
    total: int
    start: int
    stop: int
    skipped: dict[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """What all shards of a job have in common; `engine` may differ, then features agree to rounding only."""

    kind: str
    of: int
    model: str
    settings: str
    feature_size: int
    engine: str


@dataclass(frozen=True)
class Shard:
    """A shard file whose header has been read.

    Relative paths of images start at `folder`, which is itself relative to the file's; None in older shards.
    """

    path: Path
    number: int
    job: Job
    parts: tuple[Stretch, ...]
    folder: str | None = None

    def part(self, name: str) -> Stretch:
        """Return the part of this name. Raises DataError if there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise damaged(self.path, f"it has no part {name!r}")

    def pieces(self, name: str, sizes: Iterator[int]) -> Iterator[np.ndarray]:
        """Yield the features of a part in pieces float32 [n, D]; `sizes` gives the most rows of each piece.

        Raises DataError for a damaged file.
        """
        part, row = self.part(name), self.job.feature_size * 4
        with _entry(self.path, f"{name}.f32") as entry:
            left = part.stop - part.start
            while left:
                count = min(left, next(sizes))
                data = entry.read(count * row)
                if len(data) != count * row:
                    raise damaged(self.path, "its features are cut off")
                left -= count
                yield np.frombuffer(data, "<f4").reshape(count, -1)
            if entry.read(1):  # reading to the end compares the checksum too
                raise damaged(self.path, "more features than images")

    def names(self, name: str) -> Iterator[Name]:
        """Yield path and label of each image of a part. Raises DataError for a damaged file."""
        part = self.part(name)
        count = 0
        with _entry(self.path, f"{name}.tsv") as entry:
            for line in io.TextIOWrapper(entry, encoding="utf-8", errors="replace", newline="\n"):
                path, tab, label = line.removesuffix("\n").partition("\t")
                count += 1
                if not tab or "\t" in label or count > part.stop - part.start:
                    raise damaged(self.path, f"line {count} of its names")
                yield path, label
        if count != part.stop - part.start:
            raise damaged(self.path, f"{count:,} names, expected {part.stop - part.start:,}")


@contextmanager
def _entry(path: Path, name: str) -> Iterator[IO[bytes]]:
    """Open an entry of a shard for reading; what the bytes cause inside the context becomes a DataError."""
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
                raise damaged(path, f"{name} is compressed")
            with archive.open(name) as entry:
                yield entry
    except DAMAGE as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path, why: str) -> DataError:
    """Return the error to raise for a shard that cannot be used."""
    return DataError(f"{path}: not a complete shard: {why}", hint="compute that shard again, or copy it again")


def write_shard(
    path: Path, share: Share, job: Job, parts: Sequence[tuple[Stretch, Iterable[np.ndarray], Iterable[Name] | None]]
) -> None:
    """Write a shard; each part comes with its rows float32 [n, D] in pieces and with the names of its images.

    Raises EnvironmentProblem when the disk refuses.
    """
    header = {
        "format": _FORMAT,
        "version": shitu_cli.__version__,
        "number": share.number,
        "folder": os.path.relpath(os.curdir, path.parent),
        "job": dataclasses.asdict(job),
        "parts": [dataclasses.asdict(part) for part, _, _ in parts],
    }
    with atomic_write(path) as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(header))
        for part, pieces, names in parts:
            with archive.open(zipfile.ZipInfo(f"{part.name}.f32"), "w", force_zip64=True) as entry:
                for piece in pieces:
                    entry.write(np.ascontiguousarray(piece, "<f4").tobytes())
            if names is not None:
                with archive.open(zipfile.ZipInfo(f"{part.name}.tsv"), "w", force_zip64=True) as entry:
                    for name in names:
                        entry.write("\t".join(name).encode() + b"\n")


def read_shard(path: Path) -> Shard:
    """Return a shard with its header checked. Raises DataError for any other file."""
    with _entry(path, _HEADER) as entry:
        data, size = entry.read(_HEADER_LIMIT + 1), path.stat().st_size
    if len(data) > _HEADER_LIMIT:
        raise damaged(path, "its header is too large")
    header = parse_json(data, f"{path}: {_HEADER}")
    try:
        if header["format"] != _FORMAT:
            raise damaged(path, f"format {header['format']}, expected {_FORMAT}")
        job = Job(**header["job"])
        parts = tuple(_part(values) for values in header["parts"])
        number = header["number"]
        numbers = is_whole(job.of, 1, MOST_SHARDS) and is_whole(number, 1, job.of)
        if not (numbers and is_whole(job.feature_size, 1, MOST_VALUES) and parts):
            raise ValueError("numbers out of range")
        folder = header.get("folder")
        texts = (job.kind, job.model, job.settings, job.engine)
        if not (isinstance(folder, str | None) and all(isinstance(text, str) for text in texts)):
            raise ValueError("texts expected")
    except (KeyError, TypeError, AttributeError):
        raise damaged(path, "its header is not one that this program writes") from None
    except ValueError as error:
        raise damaged(path, f"its header: {error}") from None
    if any((part.stop - part.start) * job.feature_size * 4 > size for part in parts):
        raise damaged(path, "its features are cut off")  # before memory is taken for them
    return Shard(path, number, job, parts, folder)


def _part(values: dict[str, Any]) -> Stretch:
    skipped = {int(n): (str(name), str(why)) for n, (name, why) in values["skipped"].items()}
    part = Stretch(**{**values, "skipped": skipped})
    if not (is_whole(part.total, 0) and is_whole(part.stop, 0, part.total) and is_whole(part.start, 0, part.stop)):
        raise ValueError(f"images {part.start} to {part.stop} of {part.total}")
    if not (isinstance(part.name, str) and isinstance(part.order, str)):
        raise ValueError("texts expected")
    if not all(part.start <= number < part.stop for number in skipped):
        raise ValueError("images left out that are not in it")
    return part
