"""Corrections of labels: a table that leaves images out or gives them another class; the files stay as they are.

Its first line is `path,label`; then `cat/0031.jpg,dog` relabels an image, `cat/0044.jpg,` leaves one out, and
`"street/7.jpg#10,20,90,80",bus` relabels the object in a box.
"""

from __future__ import annotations

import csv
import difflib
import io
import itertools
import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from shitu_cli.data.images import with_box
from shitu_cli.errors import Command, DataError, Message, UsageError
from shitu_cli.inputs import MIB, read_text
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.reporting import counted, short_list, shortened

COLUMNS = ("path", "label")
NONE = "none"  # the value of --corrections that forgets those of the last run
COMPARED = 20_000  # paths among which the nearest to a mistyped one is looked for
NAMED = 50  # problems listed
NEW = 5  # new classes shown
_BOX = re.compile(r"#[^#,]+,[^#,]+,[^#,]+,[^#,]+$")


@dataclass(frozen=True)
class Applied:
    """What corrections have changed, in images; `same` had the label already, `new_classes` did not exist before.

    `nearest` is the old class that a new one may be meant to be, where one is spelt alike.
    `labels` are all corrections: new label by path, "" for an image left out.
    """

    file: str
    left_out: int
    relabelled: int
    same: int
    new_classes: list[str]
    nearest: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{counted(self.left_out, 'image')} left out, {self.relabelled:,} relabelled, by {self.file}"]
        if self.same:
            parts.append(f"{self.same:,} had the label already")
        if self.new_classes:
            near = {name: f" (not {other!r}?)" for name, other in self.nearest.items()}
            shown = short_list((f"{name!r}{near.get(name, '')}" for name in self.new_classes), NEW)
            parts.append(f"{counted(len(self.new_classes), 'new class', 'new classes')}: {shown}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return the counts and new classes."""
        values = asdict(self)
        del values["labels"]
        return values


@dataclass(frozen=True)
class _Line:
    """A line of the table; an empty `label` leaves the image out."""

    number: int
    path: str
    label: str


def check_place(file: Path, sources: Sequence[Path]) -> None:
    """Raise UsageError for corrections among the images, where they would be read as the table of all labels."""
    for source in sources:
        if source.is_dir() and file.resolve().is_relative_to(source.resolve()):
            raise UsageError(
                f"{file} is among the images in {source}, where it would be read as the table of their labels",
                hint=["move it out of there, then ", Command("prepare", "--corrections", file.name)],
            )


def apply_corrections(rows: Rows, file: Path, sources: Sequence[Path]) -> tuple[Rows, Applied]:
    """Return the rows with a table of corrections applied, and a summary of the changes.

    Paths count from the image root; those as the user types them, from the current directory, from the table's folder
    and from the sources are understood too. Raises DataError with all lines that cannot be applied.
    """
    problems: list[str] = []
    lines = _read(file, problems)
    numbers = _find(rows, lines, file, sources, problems)
    labels = _decide(rows, lines, numbers, file, problems)
    if problems:
        raise DataError(
            f"{file}: {counted(len(problems), 'problem')}; no correction was applied",
            details=shortened(problems, NAMED),
            hint=["correct these lines, or continue without: ", Command("prepare", "--corrections", NONE)],
        )
    return _apply(rows, labels, file)


def _read(file: Path, problems: list[str]) -> list[_Line]:
    """Return the lines of the table; the first line says which column is which and what separates them."""
    forget: Message = ["put it there, or continue without corrections: ", Command("prepare", "--corrections", NONE)]
    text = read_text(file, limit=256 * MIB, hint=forget, keep_bytes=True)
    head = text.partition("\n")[0]
    separator = next((sign for sign in ",;\t" if sign in head), ",")
    cells = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines: list[_Line] = []
    width, at = 0, (0, 0)
    try:
        for values in cells:
            place = f"{file}:{cells.line_num}"
            if not any(value.strip() for value in values):
                continue
            if not width:
                names = [value.strip().casefold() for value in values]
                missing = [name for name in COLUMNS if name not in names]
                if missing:
                    problems.append(f"{place}: no column {' and no column '.join(missing)}; write path,label here")
                    return []
                width, at = len(values), (names.index("path"), names.index("label"))
                continue
            if len(values) != width:
                way = "a path with commas is put in quotes; a line that leaves an image out ends with a comma"
                problems.append(f"{place}: {counted(len(values), 'value')} instead of {width}: {way}")
                continue
            path, label = (values[column] if values[column].strip() else "" for column in at)
            line = _Line(cells.line_num, path, label)
            wrong = _wrong(line)
            if wrong:
                problems.append(f"{place}: {wrong}")
            else:
                lines.append(line)
    except csv.Error as error:
        problems.append(f"{file}:{cells.line_num}: {error}")
    if not width and not problems:
        problems.append(f"{file}:1: the table is empty; its first line is path,label")
    return lines


def _wrong(line: _Line) -> str:
    """Return what is wrong with a line by itself, "" for nothing."""
    whole = line.path + line.label
    if any("\ud800" <= sign <= "\udfff" for sign in whole):
        return "not UTF-8 text; save the table as UTF-8"
    if any(sign in whole for sign in "\t\n\r\0"):
        return "a tab, line break or zero byte in the path or the label"
    return "" if line.path else "no path"


def _find(
    rows: Rows, lines: Sequence[_Line], file: Path, sources: Sequence[Path], problems: list[str]
) -> list[list[int]]:
    """Return which rows each line means: none where it names no image, or several, which is reported."""
    bases = [Path.cwd(), file.parent, *(source if source.is_dir() else source.parent for source in sources)]
    boxed = {line.path: line.path.rpartition("#") for line in lines if _BOX.search(line.path)}
    named = {line.path for line in lines} | {path for path, _, _ in boxed.values()}
    spellings = {path: _spellings(path, rows.root, bases) for path in named}
    index: dict[str, list[int]] = {path: [] for some in spellings.values() for path in some}
    for number, path in enumerate(rows.paths):
        plain = _plain(path)
        if plain in index:
            index[plain].append(number)
    matches = []
    for line in lines:
        place = f"{file}:{line.number}: {line.path}"
        numbers = _match(rows, line.path, spellings[line.path], index)
        if not numbers and line.path in boxed:
            path, _, box = boxed[line.path]
            numbers = [n for n in _match(rows, path, spellings[path], index) if _box(rows, n) == box]
        paths = sorted({rows.paths[n] for n in numbers})
        if not numbers:
            near = _nearest(rows, line.path) if len(problems) < NAMED else ""
            problems.append(f"{place} is not in the data{near}")
        elif len(paths) > 1:
            problems.append(f"{place} may be {' or '.join(paths[:3])}; write its whole path")
        matches.append(numbers if len(paths) == 1 else [])
    return matches


def _plain(path: str) -> str:
    return unicodedata.normalize("NFC", posixpath.normpath(path))


def _spellings(path: str, root: Path, bases: Sequence[Path]) -> list[str]:
    """Return the paths below the image root that a path may mean, itself first."""
    spelt = [path, path.strip(), path.strip().replace("\\", "/")]
    plain = [_plain(item) for item in spelt]
    for whole in (os.path.abspath(base / item) for item in spelt for base in bases):
        real = os.path.join(os.path.realpath(os.path.dirname(whole)), os.path.basename(whole))
        for place, top in itertools.product((whole, real), (os.path.abspath(root), os.path.realpath(root))):
            if place.startswith(f"{top.rstrip(os.sep)}{os.sep}"):
                plain.append(_plain(os.path.relpath(place, top)))
    return list(dict.fromkeys(plain))


def _match(rows: Rows, path: str, spellings: Sequence[str], index: dict[str, list[int]]) -> list[int]:
    """Return the rows that a path means: those that it spells exactly, else all that it may mean."""
    hits = index[spellings[0]] or sorted({number for spelt in spellings for number in index[spelt]})
    return [number for number in hits if rows.paths[number] == path] or hits


def _box(rows: Rows, number: int) -> str:
    return ",".join(f"{value:g}" for value in rows.boxes.get(number, ()))


def spelling(rows: Rows, number: int) -> str:
    """Return how a table of corrections names an image: its path, with its box where it has one."""
    return with_box(rows.paths[number], rows.boxes.get(number))


def _nearest(rows: Rows, spelt: str) -> str:
    """Return the image that may have been meant: one of the same name, else one spelt alike."""
    name = posixpath.basename(spelt.replace("\\", "/"))
    same = [path for path in rows.paths if name and posixpath.basename(path) == name]
    among, alike = (same, 0.0) if same else (rows.paths, 0.6)
    close = difflib.get_close_matches(spelt, among[:COMPARED], n=1, cutoff=alike)
    return f"; the nearest is {close[0]}" if close else f"; paths count from the image root, {rows.root}"


def _decide(
    rows: Rows, lines: Sequence[_Line], numbers: Sequence[Sequence[int]], file: Path, problems: list[str]
) -> dict[int, str]:
    """Return the new label of each row that a line names, "" for none; lines that contradict are reported."""
    labels: dict[int, str] = {}
    first: dict[int, int] = {}
    for line, some in zip(lines, numbers, strict=True):
        other = next((n for n in some if labels.get(n, line.label) != line.label), None)
        if other is not None:
            before = repr(labels[other]) if labels[other] else "left out"
            now = repr(line.label) if line.label else "left out"
            problems.append(f"{file}:{line.number}: {line.path} is {now} here, {before} in line {first[other]}")
            continue
        classes = {rows.labels[n] for n in some if n in rows.boxes}
        if line.label and len(classes) > 1:
            way = f"name one by its box: {spelling(rows, some[0])}"
            problems.append(f"{file}:{line.number}: {line.path} shows objects of {len(classes)} classes; {way}")
            continue
        for number in some:
            labels[number] = line.label
            first.setdefault(number, line.number)
    return labels


def _apply(rows: Rows, labels: dict[int, str], file: Path) -> tuple[Rows, Applied]:
    own = {rows.shown(label): label for label in sorted(set(rows.labels))}
    known = {label: label for label in rows.labels} | own
    # Blanks around a label count only where a class is called so.
    labels = {number: label if label in known else label.strip() for number, label in labels.items()}
    changed: dict[bool, set[str]] = {True: set(), False: set()}
    left_out, new = set(), set()
    kept, again = [], set()
    for number in range(len(rows)):
        label = labels.get(number)
        if label == "":
            left_out.add(spelling(rows, number))
            continue
        if label is not None:
            changed[known.get(label) != rows.labels[number]].add(spelling(rows, number))
            if label not in known:
                new.add(label)
            entry = (rows.splits[number], spelling(rows, number))
            if entry in again:  # a contradiction that is now solved: one line is enough
                continue
            again.add(entry)
        kept.append(number)
    if not kept:
        raise DataError(
            f"{file} leaves out all {counted(len(rows), 'image')}, so none is left",
            hint="a line that keeps an image ends with its label; only those to leave out end with a comma",
        )
    corrected = rows.take(kept)
    for at, number in enumerate(kept):
        if label := labels.get(number):
            corrected.labels[at] = intern(known.get(label, label))
    same = changed[False] - changed[True]
    wanted = {spelling(rows, number): label for number, label in labels.items()}
    old = list(own)[:COMPARED]
    close = {name: difflib.get_close_matches(name, old, n=1, cutoff=0.8) for name in sorted(new)[:NEW]}
    nearest = {name: some[0] for name, some in close.items() if some}
    return corrected, Applied(str(file), len(left_out), len(changed[True]), len(same), sorted(new), nearest, wanted)
