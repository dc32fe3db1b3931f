"""Archives and spreadsheets, which are not read: how to unpack them, or to save them as what is read."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from shitu_cli.errors import Command, DataError, Message
from shitu_cli.preparation.formats.base import first_bytes
from shitu_cli.preparation.formats.source import Source

_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods", ".numbers")
# What unpacks a file that begins with these bytes, into a folder of its own.
_UNPACK = (
    (b"PK\x03\x04", "unzip {file} -d {folder}"),
    (b"7z\xbc\xaf", "7z x {file} -o{folder}"),
    (b"Rar!", "unrar x {file} {folder}/"),
    (b"\x1f\x8b", "mkdir -p {folder} && tar -xzf {file} -C {folder}"),
    (b"BZh", "mkdir -p {folder} && tar -xjf {file} -C {folder}"),
    (b"\xfd7zXZ", "mkdir -p {folder} && tar -xJf {file} -C {folder}"),
)
_TAR_MARK = (257, b"ustar")  # where a plain tar has it


def packed_problem(source: Source) -> DataError | None:
    """Return the error for an archive or a spreadsheet, or for a folder that holds one of them and no image.

    Its hint is the exact command, or how to save as CSV. None for all other sources.
    """
    if source.path.is_file():
        way = way_out(source.path)
        return (
            DataError(f"{source.path} is {_kind(source.path)}, which is not read as it is", hint=way) if way else None
        )
    for name in source.tree.files if not source.tree.images else ():
        path = source.base / name
        if (way := way_out(path)) is not None:
            return DataError(f"{source.path} holds no images, but {name}, which is {_kind(path)}", hint=way)
    return None


def spreadsheets(source: Source) -> dict[str, str]:
    """Return the spreadsheets that lie in a source, with what to do about them."""
    return {
        name: "a spreadsheet: save it as CSV to have it read"
        for name in source.tree.files
        if name.lower().endswith(_SHEETS)
    }


def way_out(path: Path) -> Message | None:
    """Return how to make a file readable, None where it is neither archive nor spreadsheet."""
    if path.suffix.lower() in _SHEETS:
        table = path.with_suffix(".csv")
        office = f"soffice --headless --convert-to csv --outdir {_quoted(path.parent)} {_quoted(path)}"
        return [f"save it as CSV UTF-8 (File > Save As), or {office}; then ", Command("prepare", table)]
    head = first_bytes(path, 512)
    tar = head[_TAR_MARK[0] :].startswith(_TAR_MARK[1])
    command = next((command for mark, command in _UNPACK if head.startswith(mark)), None)
    if tar:
        command = "mkdir -p {folder} && tar -xf {file} -C {folder}"
    if command is None:
        return None
    folder = path.with_name(path.name.partition(".")[0] or path.stem)
    folder = folder if not folder.exists() else folder.with_name(f"{folder.name}-unpacked")
    unpack = command.format(file=_quoted(path), folder=_quoted(folder))
    return [f"unpack it: {unpack} && ", Command("prepare", folder)]


def _kind(path: Path) -> str:
    return "a spreadsheet" if path.suffix.lower() in _SHEETS else "an archive"


def _quoted(path: Path) -> str:
    return shlex.quote(os.fspath(path))
