"""Compressed archives, spreadsheets and the like, which are not read: how to convert them to something that is."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.errors import Command, DataError, Message
from shitu_cli.preparation.formats.base import first_bytes
from shitu_cli.preparation.formats.delimited import IMAGE_NAME, SUFFIXES
from shitu_cli.preparation.formats.source import Source
from shitu_cli.stores import MEMBER, is_archive

_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
_TABLES = (".arrow", ".tfrecord")
_ARRAYS = (".npz", ".npy", ".h5", ".hdf5", ".mat", ".pkl", ".pickle", ".pt", ".pth")
_FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm")
# Files of MATLAB, and of Python where the name says that they hold labels.
_CLOSED = re.compile(
    r"\.(?:mat|parquet|feather)$|(?:label|annot|split|class|target)[^/]*\.(?:npy|npz|pkl|pickle|h5|hdf5|sqlite)$", re.I
)
_PICKLES = (b"\x80\2", b"\x80\3", b"\x80\4", b"\x80\5")  # which may run programs: they are never opened
_IDX = re.compile(rb"\0\0[\x08-\x0e][\1-\4]")  # the arrays of MNIST
_PIXELS = re.compile(r"\bpixel_?s?\d*\b", re.I)  # a column
_YAML = re.compile(r"\.ya?ml$", re.I)
# Commands that unpack a file that begins with these bytes into a folder of its own.
_UNPACK = (
    (b"PK\x03\x04", "unzip {file} -d {folder}"),
    (b"7z\xbc\xaf", "7z x {file} -o{folder}"),
    (b"Rar!", "unrar x {file} {folder}/"),
    (b"\x1f\x8b", "mkdir -p {folder} && tar -xzf {file} -C {folder}"),
    (b"BZh", "mkdir -p {folder} && tar -xjf {file} -C {folder}"),
    (b"\xfd7zXZ", "mkdir -p {folder} && tar -xJf {file} -C {folder}"),
)
_PACKED = re.compile(r"\.(?:zip|tar|tgz|gz|bz2|xz|rar|7z)$", re.I)
_TAR_MARK = (257, b"ustar")  # where a plain tar has it


def packed_problem(source: Source) -> DataError | None:
    """Return the error for an archive or a spreadsheet, or for a folder that holds such files and no image.

    Its hint is the exact command, or how to save as CSV. None for all other sources.
    """
    if source.path.is_file():
        kind, way = _way_out(source.path, unpacked_folder(source.path))
        return DataError(f"{source.path} is {kind}, which cannot be read directly", hint=way) if way else None
    ways = {name: _way_out(source.base / name, source.path) for name in source.tree.files}
    packed = {name: (kind, way) for name, (kind, way) in ways.items() if way}
    if source.tree.images or not packed:
        return None
    name, (kind, way) = next(iter(packed.items()))
    unpack = [unpacking(source.base / name) for name in packed]
    if len(unpack) > 1 and all(unpack):
        way = [f"unpack them: {' && '.join(filter(None, unpack))} && ", Command("prepare", source.path)]
    return DataError(f"{source.path} holds no images, but {name}, which is {kind}", hint=way)


def unread_files(source: Source) -> dict[str, str]:
    """Return files in a source that may hold labels but are not read, with what to do about them."""
    closed = [name for name in source.tree.files if _CLOSED.search(name)]
    closed += [name for name in source.tree.files if _YAML.search(name) and IMAGE_NAME.search(_start(source, name))]
    return spreadsheets(source) | dict.fromkeys(closed, "not read: save the labels or splits in it as CSV")


def archives_beside(source: Source, paths: Sequence[str]) -> dict[str, str]:
    """Return the archives in a folder of images, with what to do about them; {} if images in them are listed."""
    if not source.path.is_dir() or not source.tree.images or any(MEMBER in path for path in paths):
        return {}
    why = "an archive beside images: unpack it if it holds others"
    return {name: why for name in source.tree.files if _PACKED.search(name)}


def _start(source: Source, name: str) -> str:
    return source.head(name)[:4096].decode("utf-8", "replace")


def spreadsheets(source: Source) -> dict[str, str]:
    """Return the spreadsheets in a source, with what to do about them."""
    return {
        name: "a spreadsheet: save it as CSV to have it read"
        for name in source.tree.files
        if name.lower().endswith(_SHEETS)
    }


def sheet_way_out(path: Path) -> Message:
    """Return how to save a spreadsheet as CSV."""
    office = f"soffice --headless --convert-to csv --outdir {_quoted(path.parent)} {_quoted(path)}"
    then = Command("prepare", path.with_suffix(".csv"))
    return [f"save it as CSV UTF-8 (File > Save As), or {office}; then ", then]


def _way_out(path: Path, prepared: Path) -> tuple[str, Message | None]:
    """Return what a file is and how to make it readable, after which `prepared` can be; None if it is neither."""
    suffix = path.suffix.lower()
    if suffix in _SHEETS:
        return "a spreadsheet", sheet_way_out(path)
    if suffix in _TABLES:
        return "a table that holds the images themselves", (
            "write them to files first, one folder per class; with the package datasets: "
            f"load_dataset('{suffix[1:]}', data_files='{path}')"
        )
    if suffix in _ARRAYS or first_bytes(path, 2) in _PICKLES or _IDX.match(first_bytes(path, 4)):
        way = "write the images in it to files, one folder per class, with the program that it belongs to"
        return "a file of arrays or Python objects", way
    if suffix in SUFFIXES and _PIXELS.search(first_bytes(path).decode("utf-8", "replace").partition("\n")[0]):
        return (
            "a table of pixels",
            "write each row to an image, one folder per class: numpy.reshape and cv2.imwrite do it",
        )
    if suffix in _FILMS:
        frames = path.with_name(path.stem)
        return "a video", f"extract images from it: mkdir {_quoted(frames)} && ffmpeg -i {_quoted(path)} -vf fps=2 " + (
            _quoted(frames / "%05d.jpg")
        )
    unpack = None if is_archive(path) else unpacking(path)  # .zip and .tar are read as they are
    return "an archive", [f"unpack it: {unpack} && ", Command("prepare", prepared)] if unpack else None


def unpacking(path: Path) -> str | None:
    """Return the command that unpacks an archive beside it; None for another file."""
    head = first_bytes(path, 512)
    command = next((command for mark, command in _UNPACK if head.startswith(mark)), None)
    if head[_TAR_MARK[0] :].startswith(_TAR_MARK[1]):
        command = "mkdir -p {folder} && tar -xf {file} -C {folder}"
    folder = unpacked_folder(path)
    return command.format(file=_quoted(path), folder=_quoted(folder)) if command else None


def unpacked_folder(path: Path) -> Path:
    """Return the folder beside a file to unpack it to, which is not there yet."""
    name = path.name.partition(".")[0] or path.stem
    return path.with_name(f"{name}-unpacked" if path.with_name(name).exists() else name)


def _quoted(path: Path) -> str:
    return shlex.quote(os.fspath(path))
