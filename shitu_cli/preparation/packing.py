"""Pack prepared images into tar shards of the WebDataset convention: the same bytes each time, whole or not at all.

`pack.json` beside the shards says what each was made of, so that a repeated or interrupted run writes only what is
missing.
"""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shitu_cli.data.header import read_header
from shitu_cli.data.images import MAX_BYTES, is_image_name
from shitu_cli.data.lists import ImageList, write_label_map
from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.files import atomic_write, atomic_write_json, remove_leftovers, sha256_of
from shitu_cli.inputs import read_json_object
from shitu_cli.preparation.prepare import Prepared
from shitu_cli.reporting import Reporter, byte_size, counted
from shitu_cli.runtime.threads import compute_threads
from shitu_cli.stores import MEMBER, address_of, read_image, split_location, state_of

RECORD = "pack.json"
USUAL_MIB = 512  # of a shard
AHEAD = 32  # images that are read at the same time as one is written
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}


class _Image(NamedTuple):
    """An image of a shard: its path in the lists, its location, its name as a member, and its expected content."""

    path: str
    location: str
    member: str
    digest: bytes
    size: int
    label: int | None  # None if its boxes have the labels, and for images of no class


@dataclass(frozen=True)
class Packed:
    """Shards in the folder `root`; `names` maps the paths of images to members, as lists name them."""

    root: Path
    names: Mapping[str, str]

    def renamed(self, images: ImageList) -> ImageList:
        """Return the list with the images' names in the shards."""
        paths = [self.names[path] for path in images.paths()]
        return ImageList.of(paths, images.labels, images.ids, images.boxes, images.source, images.lines)


def check_pack_folder(folder: Path, sources: Sequence[Path]) -> None:
    """Raise UsageError for a folder that holds other files, or that is among the images or around them."""
    target = folder.resolve()
    for source in sources:
        origin = source.resolve() if source.is_dir() else source.resolve().parent
        if address_of(source) is None and (target == origin or (source.is_dir() and target.is_relative_to(origin))):
            raise UsageError(f"--pack {folder} is among the images in {source}", hint="name a folder elsewhere")
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / RECORD).is_file())):
        raise UsageError(f"--pack {folder} exists and holds something else", hint="name a new folder")


def pack(prepared: Prepared, folder: Path, shard_bytes: int, reporter: Reporter) -> Packed:
    """Write the images of prepared lists into shards of about `shard_bytes`, and the names of their classes.

    `train-000000.tar` and on hold the training images, `eval-...` those of queries and gallery only. Each image is
    checked to be what the audit saw. Raises DataError for one that has changed since, EnvironmentProblem if the
    disk is too small.
    """
    _refuse_itself(prepared, folder)
    before = _record(folder)
    shards = dict(_shards(_images(prepared), shard_bytes))
    plans = {name: _plan(images) for name, images in shards.items()}
    missing = [name for name in shards if not _is_there(folder / name, before.get(name), plans[name])]
    _check_space(folder, sum(image.size for name in missing for image in shards[name]))
    if len(missing) < len(shards):
        reporter.info(f"{counted(len(shards) - len(missing), 'shard')} already exist in {folder}")
    record = {name: entry for name, entry in before.items() if name in shards and name not in missing}
    with reporter.progress("packing", sum(len(shards[name]) for name in missing)) as bar:
        for name in missing:
            remove_leftovers(folder / name)
            _write(folder / name, shards[name])
            state = (folder / name).stat()
            record[name] = {"plan": plans[name], "size": state.st_size, "sha256": sha256_of(folder / name)}
            atomic_write_json(folder / RECORD, {"version": 1, "shards": {**before, **record}})
            bar.advance(len(shards[name]))
    write_label_map(folder / "label_map.txt", prepared.names)
    atomic_write_json(folder / RECORD, {"version": 1, "shards": {name: record[name] for name in shards}})
    for name in before.keys() - shards.keys():  # of an earlier run with more images or smaller shards
        (folder / name).unlink(missing_ok=True)
    names = {image.path: f"{name}{MEMBER}{image.member}" for name, images in shards.items() for image in images}
    return Packed(folder.resolve(), names)


def _refuse_itself(prepared: Prepared, folder: Path) -> None:
    """Raise UsageError if images are in shards of the folder, which packing would replace."""
    target = folder.resolve()
    places = {split_location(prepared.rows.location(number))[0] for number in range(len(prepared.rows))}
    if any(address_of(place) is None and Path(place).resolve().parent == target for place in places):
        raise UsageError(f"--pack {folder} holds images that would be packed", hint="name a folder elsewhere")


def _images(prepared: Prepared) -> Iterator[tuple[str, _Image]]:
    """Yield each image once, in the order of the source, and whether it is for training or evaluation."""
    rows, keys = prepared.rows, set[str]()
    trained = set(prepared.train.paths())
    labels: dict[str, int] = {}
    for part in (prepared.train, prepared.query, prepared.gallery):
        labels |= dict(zip(part.paths(), part.labels.tolist(), strict=True)) if part is not None else {}
    boxed = {rows.paths[number] for number in rows.boxes}
    done = set[str]()
    for number, path in enumerate(rows.paths):
        if path not in labels or path in done:
            continue
        done.add(path)
        location = rows.location(number)
        state = state_of(location)
        label = None if path in boxed else labels[path]
        size, digest = (state.size if state else 0), prepared.looks[number].digest
        member = _member(path, location, keys)
        yield "train" if path in trained else "eval", _Image(path, location, member, digest, size, label)


def _member(path: str, location: str, keys: set[str]) -> str:
    """Return the name of a member: the path, with dots in its last part only before the suffix, and a unique key.

    The part before the first dot is the key that an image shares with its label.
    """
    plain = posixpath.normpath("/" + path.partition("://")[2] if address_of(path) else f"/{path.replace(MEMBER, '/')}")
    stem, suffix = posixpath.splitext(plain[1:])
    if not is_image_name(path):
        stem, suffix = plain[1:], _SUFFIXES.get(read_header(read_image(location)).kind or "", ".img")
    above, slash, name = stem.rpartition("/")
    key = whole = f"{above}{slash}{name.replace('.', '_') or '_'}"
    number = 1
    while key in keys:
        number += 1
        key = f"{whole}_{number}"
    keys.add(key)
    return f"{key}{suffix.lower()}"


def _shards(images: Iterator[tuple[str, _Image]], shard_bytes: int) -> Iterator[tuple[str, list[_Image]]]:
    """Yield the names of shards with their images, in an order that follows from the images alone."""
    parts: dict[str, list[_Image]] = {}
    for part, image in images:
        parts.setdefault(part, []).append(image)
    for part in sorted(parts):
        shard: list[_Image] = []
        number = size = 0
        for image in parts[part]:
            if shard and size + image.size > shard_bytes:
                yield f"{part}-{number:06d}.tar", shard
                shard, size, number = [], 0, number + 1
            shard.append(image)
            size += image.size + 2 * tarfile.BLOCKSIZE
        yield f"{part}-{number:06d}.tar", shard


def _plan(images: Sequence[_Image]) -> str:
    """Return a hash of the intended content of a shard."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.member}\t{image.label}\t{image.digest.hex()}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _write(path: Path, images: Sequence[_Image]) -> None:
    """Write a shard whose bytes follow from its images alone: no times, no owners."""
    with (
        atomic_write(path) as file,
        tarfile.open(
            fileobj=file, mode="w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
        ) as archive,
        ThreadPoolExecutor(compute_threads(), thread_name_prefix="shitu-pack") as pool,
    ):
        for start in range(0, len(images), AHEAD):
            batch = images[start : start + AHEAD]
            for image, data in zip(batch, pool.map(_content, batch), strict=True):
                _add(archive, image.member, data)
                if image.label is not None and image.label >= 0:
                    _add(archive, f"{image.member.rpartition('.')[0]}.cls", str(image.label).encode())


def _content(image: _Image) -> bytes:
    data = read_image(image.location, limit=MAX_BYTES)
    if hashlib.blake2b(data, digest_size=16).digest() != image.digest:
        raise DataError(f"{image.location}: the image has changed since it was checked", hint="run the command again")
    return data


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # of time 0, user 0 and mode 644
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _record(folder: Path) -> dict[str, Any]:
    """Return the record of an earlier run about its shards, by their names."""
    if not (folder / RECORD).is_file():
        return {}
    shards = read_json_object(folder / RECORD).get("shards")
    if not isinstance(shards, dict) or not all(_is_name(name) for name in shards):
        raise DataError(f"{folder / RECORD}: expected the shards by their names", hint="name a new folder")
    return shards


def _is_name(name: str) -> bool:
    return name == os.path.basename(name) and name.endswith(".tar") and name.startswith(("train-", "eval-"))


def _is_there(path: Path, entry: object, plan: str) -> bool:
    if not isinstance(entry, dict) or entry.get("plan") != plan or not path.is_file():
        return False
    return path.stat().st_size == entry.get("size")


def _check_space(folder: Path, needed: int) -> None:
    """Raise EnvironmentProblem if the disk cannot hold this many bytes more."""
    above = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(above).free
    if needed > free:
        raise EnvironmentProblem(
            f"packing needs about {byte_size(needed)} in {folder}, where {byte_size(free)} are free",
            hint="free some space there, or name a folder on another disk",
        )
