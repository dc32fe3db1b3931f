"""Public data sets: each is recognised by files that no other has, and has official splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.base import Box, Format, Rows
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.text_files import read_lines
from shitu_cli.preparation.problems import Problems

Home = TypeVar("Home")


def dataset(
    name: str,
    layout: str,
    *,
    home: Callable[[Source], Home | None],
    read: Callable[[Home, str, Problems], Rows],
    needs: str,
    protocols: tuple[str, ...] = (),
) -> Format:
    """Return the format of a public data set.

    Args:
        name: Its name for --format.
        layout: What its files look like, for `shitu prepare --formats`.
        home: Finds its files in the folder of a source, None if they are not there; see `holding`.
        read: Reads them, given what `home` returned and the protocol ("" where there is only one).
        needs: The files that this data set needs, for the error if they are missing.
        protocols: Its official splits, the first of which is taken unless the user names another.
    """

    def find(source: Source) -> Home | None:
        return home(source) if source.path.is_dir() else None

    def read_source(source: Source, problems: Problems) -> Rows:
        place, protocol = find(source), source.options.protocol or (protocols or ("",))[0]
        if place is None:
            raise DataError(f"{source.path}: needs {needs}")
        if protocol not in (protocols or (protocol,)):
            raise UsageError(f"--protocol {protocol}: expected {', '.join(protocols)} for {name}")
        return read(place, protocol, problems)

    return Format(name, layout, lambda source: find(source) is not None, read_source, protocols=protocols)


def holding(*names: str) -> Callable[[Source], Path | None]:
    """Return a function that finds the folder with all of these: the source, or one up to two levels below."""
    return lambda source: source.folder_with(*names)


class Entry(NamedTuple):
    """A labelled image of a list."""

    path: str
    label: str
    split: str = ""
    box: Box | None = None


def add_lines(
    rows: Rows,
    path: Path,
    parse: Callable[[str], Iterable[Entry] | None],
    expected: str,
    problems: Problems,
    *,
    skip: int = 0,
) -> None:
    """Add the images of a list without the first `skip` lines; report lines for which `parse` returns None."""
    for number, line in read_lines(path, problems):
        if number <= skip:
            continue
        entries = parse(line)
        if entries is None:
            problems.add("malformed", f"{path}:{number}", f"expected {expected}, got {line[:60]!r}")
        for entry in entries or ():
            rows.add(entry.path, entry.label, entry.split, box=entry.box, file=str(path), line=number)
