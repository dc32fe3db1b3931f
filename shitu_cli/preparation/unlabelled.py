"""Errors for a source without labels, or with labels of one class only: what was read, and the way out."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.data.lists import is_distractor
from shitu_cli.errors import Command, DataError, Message, pip_install
from shitu_cli.preparation.formats.base import ANNOTATIONS, FOLDERS, Format, Rows
from shitu_cli.preparation.formats.delimited import SUFFIXES
from shitu_cli.preparation.formats.records import SUFFIXES as RECORD_SUFFIXES
from shitu_cli.preparation.formats.sheets import NAMED_AS_LABELS
from shitu_cli.preparation.formats.source import Source, stem_of
from shitu_cli.preparation.formats.unreadable import sheet_way_out, spreadsheets
from shitu_cli.preparation.problems import PROBLEM_KINDS, Problems
from shitu_cli.reporting import counted

_NAMED = re.compile(r"([^/]*[^\W\d_][^/]*?)[-_. ]+\(?\d+\)?\.\w+")  # cat_001.jpg, cat.0.jpg
_CAMERA = re.compile(r"-?\d+_c\d+.*")  # 0002_c1s1, as in re-identification: identity and camera
EACH, LISTED, MOST = 5, 3, 8  # cases of each kind, files, lines


def no_labels(source: Source, chosen: Format, problems: Problems) -> DataError:
    """Return the error for a source in which its format reads no labelled image."""
    details = [
        f"{where}: {PROBLEM_KINDS[kind].text}" + (f" ({detail})" if detail else "")
        for kind, cases in problems.cases.items()
        for where, detail in cases.examples[:EACH]
    ]
    empty = problems.cases.get("no-objects")
    if empty is not None and len(problems.cases) == 1:
        return DataError(
            f"{source.path}: read as {chosen.name}, nothing is annotated in any of its {counted(empty.count, 'image')}",
            details=details,
            hint="annotate them and export again; or, if the folders are the classes: --format class-tree",
        )
    return DataError(
        f"no labelled images in {source.path} (read as {chosen.name}: {chosen.layout})",
        details=details,
        hint=_where_are_labels(source, problems),
    )


def _where_are_labels(source: Source, problems: Problems) -> Message:
    """Return the way out where images have no labels: files beside them or their names may hold these."""
    if sheet := next(iter(spreadsheets(source)), None):
        return sheet_way_out(source.base / sheet)
    if "heic" in problems.cases:
        return f"to read HEIC images: {pip_install('heic')}"
    way = "put the images of each class into a folder named after it; "
    above = _folder_above(source)
    return _names_as_list(source) or above or [way, Command("prepare", "--formats"), " lists other layouts"]


def _folder_above(source: Source) -> Message | None:
    """Return the way out for a folder that is a class itself, or whose labels are beside it; None for others."""
    tree, above = source.tree, source.base.resolve().parent
    if not source.path.is_dir() or not tree.images or any("/" in image for image in tree.images):
        return None
    beside, kinds = list[os.DirEntry[str]](), (*SUFFIXES, *RECORD_SUFFIXES)
    with contextlib.suppress(OSError):  # it need not be readable
        beside = [entry for entry in os.scandir(above) if entry.name != source.base.resolve().name]
    if not any(entry.is_dir() or entry.name.lower().endswith(kinds) for entry in beside if entry.name[:1] != "."):
        return None
    return [
        "if this folder is one class, or the labels are beside it, name the folder above: ",
        Command("prepare", above),
    ]


def _names_as_list(source: Source) -> Message | None:
    """Return the way out where the names of the images in the fullest folder begin with classes; None elsewhere."""
    folders = Counter(image.rpartition("/")[0] for image in source.tree.images)
    inside = max(folders, key=lambda folder: folders[folder], default="")
    matches = (_NAMED.fullmatch(image.removeprefix(f"{inside}/")) for image in source.tree.images)
    names = Counter(match[1] for match in matches if match)
    if len(names) < 2 or names.total() <= 0.8 * folders[inside] or min(names.values()) < 2:
        return None
    folder, ends = source.base / inside, "[-_. ]*[0-9]*.*"
    example, what = min(names), "classes"
    write = f'for f in *[0-9]*.*; do printf \'%s\\t%s\\n\' "$f" "${{f%{ends}}}"; done > labels.txt'
    if all(_CAMERA.fullmatch(name) for name in names):  # another camera is no other class
        example, what = example.partition("_")[0], "classes and cameras"
        camera = "c=${f#*_c}; c=${c%%[!0-9]*}"
        write = (
            f'for f in *_c[0-9]*.*; do {camera}; printf \'%s\\t%s\\t%s\\n\' "$f" "${{f%%_*}}" "$c"; done > labels.txt'
        )
    return [
        f"if the names hold the {what}, such as {example}, make a list of them: "
        f"(cd {shlex.quote(str(folder))} && {write}); then ",
        Command("prepare", folder / "labels.txt"),
    ]


def one_class(rows: Rows, formats: Sequence[Format], sources: Sequence[Path], problems: Problems) -> DataError | None:
    """Return the error for images of a single class; None for several classes."""
    labels = {label for label in set(rows.labels) if not is_distractor(label)}
    if len(labels) != 1:
        return None
    label, count = labels.pop(), counted(len(set(rows.paths)), "image")
    ranks = {chosen.rank for chosen in formats}
    hint = "label images of another class too"
    sheets = [path / sheet for path in sources if path.is_dir() for sheet in spreadsheets(Source(path))]
    if ranks == {FOLDERS}:
        said = f"{count} in the folder {label}, and the folders of images are the classes"
        hint = "put the images of each class into a folder named after it, or a list `path<TAB>label` beside them"
    else:
        said = f"{', '.join(rows.label_files[:LISTED])}: {count}, all of them {rows.shown(label)!r}"
        if ANNOTATIONS in ranks:
            hint = (
                "annotate another class too; or, if the folders are the classes: --depth 1 (each box is an image of "
                "its folder's class), or --format class-tree (whole images)"
            )
    way: Message = [hint, "; ", Command("prepare", "--formats"), " lists all layouts"]
    none = counted(sum(map(is_distractor, rows.labels)), "image")
    rest = [f"{none} labelled -1, which means no class here", *problems.lines("error")]
    rest = rest if any(map(is_distractor, set(rows.labels))) else rest[1:]
    unused = [f"not used: {name} ({why})" for name, why in sorted(rows.unused.items())[:LISTED]]
    by_name = _names_as_list(Source(sources[0])) if ranks == {FOLDERS} and len(sources) == 1 else None
    return DataError(
        f"only one class to train on: {rows.shown(label)!r}; telling classes apart needs at least two",
        details=[said, *rest, *unused, *(_beside(rows, sources) if ranks == {FOLDERS} else ())],
        hint=sheet_way_out(sheets[0]) if sheets else by_name or way,
    )


def _beside(rows: Rows, sources: Sequence[Path]) -> list[str]:
    """Return lists and tables that name no image, and folders without images: the user may have meant these."""
    lines: list[str] = []
    for path in sources:
        if not path.is_dir():
            continue
        tree = Source(path).tree
        used = {*rows.unused, *rows.label_files}
        for file in tree.files:
            stem, suffix = os.path.splitext(file)
            if file in used or stem_of(stem) in tree.stems:
                continue
            if suffix.lower() in (*SUFFIXES, *RECORD_SUFFIXES):
                lines.append(f"not used: {path / file} (no image that is here is recognised in it)")
            elif NAMED_AS_LABELS.search(stem.rpartition("/")[2]):
                lines.append(f"not used: {path / file} (not read in this format: save the labels in it as CSV)")
        if empty := tree.problems.cases.get("no-images"):
            lines += [
                f"{where}: {PROBLEM_KINDS['no-images'].text}, {detail}" for where, detail in empty.examples[:LISTED]
            ]
    return lines[:MOST]
