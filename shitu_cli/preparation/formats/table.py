"""Labels in tables and lists: every text file of a source that labels its images, read as one."""

from __future__ import annotations

import os
from array import array
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.errors import Command, UsageError
from shitu_cli.preparation.formats import base
from shitu_cli.preparation.formats.base import Format, Rows
from shitu_cli.preparation.formats.boxcells import placed, settle_convention
from shitu_cli.preparation.formats.boxes import Convention
from shitu_cli.preparation.formats.delimited import SUFFIXES
from shitu_cli.preparation.formats.folders_beside import refuse_few, refuse_other_classes, with_train_folders
from shitu_cli.preparation.formats.labelnames import (
    name_classes,
    one_spelling,
    report_several_names,
)
from shitu_cli.preparation.formats.locate import LocatedImages
from shitu_cli.preparation.formats.records import SUFFIXES as RECORD_SUFFIXES
from shitu_cli.preparation.formats.sheets import Labels, Sheets
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.splits import split_of_folders, splits_of_paths
from shitu_cli.preparation.formats.table_lines import Lines, read_lines
from shitu_cli.preparation.formats.textlist import relative_root
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import counted
from shitu_cli.stores import address_of, join

ODD_SHARE = 0.05  # of the labels: this few names among numbers are typing mistakes
SAMPLE = 400
MOST_UNUSED = 5  # files that are named
_ONE_FOLD = "of several splits, as for cross-validation, leave the lists of one here and move the others elsewhere"


def _read(source: Source, problems: Problems, *, with_header: bool) -> Rows:
    sheets = Sheets.of(source)
    chosen = [labels for labels in sheets.labelled if (labels.sheet.header is not None) is with_header]
    if not chosen and sheets.splits and not with_header:
        return _by_folder(source, sheets, problems)
    if not chosen:
        what = "table with a header" if with_header else "list without a header"
        unused = [f"not used: {name} ({why})" for name, why in sorted(sheets.unused.items())[:MOST_UNUSED]]
        message = f"{source.path}: no {what} in it that names images"
        raise UsageError(message, details=unused, hint=Command("prepare", "--formats"))
    chosen = _decided(chosen, sheets)
    for labels in chosen:
        problems.take(labels.problems)
    parts = [read_lines(labels, problems) for labels in chosen]
    for lines in parts if not with_header else ():
        _drop_odd_labels(lines, problems)
    located = [
        sheets.locator.locate(
            lines.images, lines.where, lines.sheet.folder, lines.role, problems, str(lines.sheet.path), lines.splits
        )
        for lines in parts
    ]
    refuse_other_classes(source, parts, located)
    rows = _joined(source, sheets, parts, located, problems)
    rows.unused |= sheets.unused
    name_classes(rows, source, chosen)
    rows = with_train_folders(source, rows)
    refuse_few(source, rows, "table" if with_header else "list")
    one_spelling(rows, problems)
    report_several_names(rows, problems)
    unnamed = {} if problems.count("error") else _images_without_a_line(source, rows)
    rows = _with_splits(source, sheets, rows, problems)
    for lines, place in zip(parts, located, strict=True):
        role = f" ({lines.role})" if lines.role and set(rows.splits) - {""} else ""
        remarks = "".join(f"; {remark}" for remark in place.remarks)
        rows.readings.append(f"{lines.sheet.name}{role}: {lines.columns.describe()}{remarks}")
        rows.label_files.append(lines.sheet.name)
    rows.unused |= unnamed
    return rows


def _decided(candidates: list[Labels], sheets: Sheets) -> list[Labels]:
    """Return those whose columns are clear; the error of the first where none are."""
    clear = [labels for labels in candidates if labels.error is None]
    if not clear:
        assert candidates[0].error is not None
        raise candidates[0].error
    for labels in candidates:
        if labels.error is not None:
            sheets.unused[labels.sheet.name] = f"{labels.error.message} ({labels.error.hint})"
    return clear


def labels_most(source: Source) -> bool:
    """Return whether tables with a header, whose columns are clear, label at least half of the images of a folder."""
    if source.path.is_file():
        return False
    clear = [labels for labels in Sheets.of(source).labelled if labels.error is None and labels.sheet.header]
    return sum(1 for labels in clear for _ in labels.sheet.rows()) * 2 >= max(1, len(source.tree.images))


def _joined(
    source: Source, sheets: Sheets, parts: Sequence[Lines], located: Sequence[LocatedImages], problems: Problems
) -> Rows:
    """Return the lines of all files as rows below one folder."""
    roots = {str(place.root) for place in located}
    root = _common(source, roots)
    rows = Rows(Path(root))
    _same_labels(parts, located)
    _refuse_folds(parts, located)
    for lines, place in zip(parts, located, strict=True):
        prefix = os.path.relpath(place.root, root).replace(os.sep, "/") + "/" if str(place.root) != root else ""
        prefix = "" if prefix == "./" else prefix
        convention = _convention(lines, place, source, problems)
        file = str(lines.sheet.path)
        if lines.sheet.unit:
            rows.units[file] = lines.sheet.unit
        rows.display |= lines.display
        if not (lines.boxes or lines.ids or lines.dropped) and None not in place.paths:
            rows.extend(
                [_below(prefix, path) for path in place.paths if path], lines.labels, lines.splits, file, lines.lines
            )
            continue
        for number, path in enumerate(place.paths):
            if path is None or number in lines.dropped:
                continue
            box = None
            if number in lines.boxes:
                values, own = lines.boxes[number]
                meaning = own or convention
                assert meaning is not None
                size = _size_of(place, path) if meaning.whole is not None else None
                box = placed(values, meaning, size)
            rows.add(
                _below(prefix, path),
                lines.labels[number],
                lines.splits[number],
                id=lines.ids.get(number),
                box=box,
                file=file,
                line=lines.lines[number],
            )
    if source.options.image_root is None and (outside := relative_root(root, rows.paths)) is not None:
        rows.root, rows.paths = Path(outside[0]), outside[1]
    return rows


def _images_without_a_line(source: Source, rows: Rows) -> dict[str, str]:
    """Return the first image of a folder that no file labels, with how many: a list may be older than they are."""
    below = os.path.relpath(rows.root, source.tree.root) if source.path.is_dir() else os.pardir
    if below.startswith(os.pardir):
        return {}
    prefix = "" if below == os.curdir else f"{below}/"
    rest = source.tree.image_set - {_below(prefix, path) for path in rows.paths}
    if rest:
        rest -= {os.path.normpath(_below(prefix, path)) for path in rows.paths}
    more = f"one of {len(rest):,} images that no list names" if len(rest) > 1 else "an image that no list names"
    return {min(rest): more} if rest else {}


def _below(prefix: str, path: str) -> str:
    return path if not prefix or address_of(path) is not None else prefix + path


def _common(source: Source, roots: set[str]) -> str:
    """Return the folder that all paths are relative to: the source itself if it holds all images."""
    if len(roots) == 1:
        return next(iter(roots))
    shared = os.path.commonpath([os.path.abspath(root) for root in roots])
    return str(source.base) if shared == os.path.abspath(source.base) else shared


def _convention(lines: Lines, place: LocatedImages, source: Source, problems: Problems) -> Convention | None:
    """Return what the boxes of a file mean, and note it for the user."""
    if not lines.boxes:
        return None
    step = max(1, len(lines.boxes) // SAMPLE)
    entries = [
        (values, path, lines.where(number))
        for number, (values, own) in list(lines.boxes.items())[::step]
        if own is None and (path := place.paths[number]) is not None
    ]
    columns = lines.columns
    named = "+".join(columns.names[n] for n in columns.box)
    pick = f"image={columns.names[columns.image]},label={columns.names[columns.label or 0]},box={named}"
    convention = settle_convention(
        str(lines.sheet.path), entries, columns.convention, lambda path: _size_of(place, path), pick
    )
    columns.convention = columns.convention or next((own for _, own in lines.boxes.values() if own), convention)
    return convention


def _size_of(place: LocatedImages, path: str) -> tuple[int, int] | None:
    return base.upright_size(join(str(place.root), path))


def _same_labels(parts: Sequence[Lines], located: Sequence[LocatedImages]) -> None:
    """Refuse two files that label one image differently; keep one of equal lines, that of a split first."""
    by_role: dict[str, list[int]] = defaultdict(list)
    for number, lines in enumerate(parts):
        by_role[lines.role].append(number)
    if len(parts) < 2 or (len(by_role) == len(parts) and "" not in by_role):
        return
    first: dict[str, tuple[int, int]] = {}
    for part in sorted(range(len(parts)), key=lambda n: not parts[n].role):
        lines, paths = parts[part], located[part].paths
        for number, path in enumerate(paths):
            if path is None or number in lines.boxes:
                continue
            other, at = first.setdefault(os.path.normpath(located[part].root / path), (part, number))
            if other == part or (parts[other].role and lines.role and parts[other].role != lines.role):
                continue
            if parts[other].labels[at] != lines.labels[number]:
                raise UsageError(
                    f"{path} has two labels: which file counts?",
                    details=[
                        f"{parts[other].where(at)}: {parts[other].labels[at]}",
                        f"{lines.where(number)}: {lines.labels[number]}",
                    ],
                    hint=(
                        "name the file to read: ",
                        Command("prepare", lines.sheet.path),
                        ", or ",
                        Command("prepare", parts[other].sheet.path),
                    ),
                )
            paths[number] = None


def _refuse_folds(parts: Sequence[Lines], located: Sequence[LocatedImages]) -> None:
    """Refuse the lists of several splits at once: what one of them evaluates is trained by another."""
    by_role: dict[str, list[int]] = defaultdict(list)
    for number, lines in enumerate(parts):
        by_role[{"test": "val"}.get(lines.role, lines.role)].append(number)
    if max(len(by_role["train"]), len(by_role["val"])) < 2:
        return
    trained, evaluated = (
        {os.path.normpath(located[n].root / path): n for n in by_role[role] for path in located[n].paths if path}
        for role in ("train", "val")
    )
    both = sorted(trained.keys() & evaluated.keys())
    if len(both) * 2 > len(evaluated):
        files = [parts[listed[both[0]]].sheet.path for listed in (trained, evaluated)]
        raise UsageError(
            f"{len(both):,} of {counted(len(evaluated), 'image')} to evaluate are also trained: which lists count?",
            details=[f"{file}: {both[0]}" for file in files],
            hint=_ONE_FOLD,
        )


def _with_splits(source: Source, sheets: Sheets, rows: Rows, problems: Problems) -> Rows:
    """Return the rows with the official split: of lists of paths, of the files, of the images' folders; or none."""
    if sheets.splits and set(rows.splits) <= {""}:
        rows = _apply_splits(sheets, rows, problems)
    elif set(rows.splits) <= {""} and not source.options.columns.get("split"):
        splits = splits_of_paths(rows.paths)
        if splits is not None:
            rows.splits = splits
            rows.readings.append(f"splits: the folders of the images ({', '.join(sorted(set(splits)))})")
    elif "" in rows.splits:  # a list without a split beside those with one, such as solution.csv of test/
        rows.splits = [split or split_of_folders(path) for split, path in zip(rows.splits, rows.paths, strict=True)]
    if "train" not in rows.splits and not {"query", "gallery"} <= set(rows.splits):
        rows.splits = [""] * len(rows)
    return rows


def _apply_splits(sheets: Sheets, rows: Rows, problems: Problems) -> Rows:
    """Return the images with the split of the list that names them; those that none names are reported."""
    at: dict[str, tuple[str, Path]] = {}
    for file in sheets.splits:
        sheet, entries = file.sheet, file.listed()
        spelt, where = [path for _, path, _ in entries], [line for line, _, _ in entries]
        place = sheets.locator.locate(
            spelt, lambda n, sheet=sheet, where=where: sheet.where(where[n]), sheet.folder, file.role, problems,  # type: ignore[misc]
            str(sheet.path),
        )  # fmt: skip
        said = {role: (role, sheet.path) for _, _, role in entries}  # long lists share these
        for path, (_, _, role) in zip(place.paths, entries, strict=True):
            if path is not None and role:
                first, other = at.setdefault(os.path.normpath(place.root / path), said[role])
                if first != role:
                    raise UsageError(
                        f"{path} is in two splits: which list counts?",
                        details=[f"{other}: {first}", f"{sheet.path}: {role}"],
                        hint=_ONE_FOLD,
                    )
        roles = " and ".join(sorted({role for _, _, role in entries} - {""}))
        rows.readings.append(f"{sheet.name}: {roles}, {counted(len(spelt), 'path')}")
        rows.label_files.append(sheet.name)
    kept = []
    for number, path in enumerate(rows.paths):
        split, _ = at.get(os.path.normpath(rows.root / path), ("", None))
        if not split:
            problems.add("unlisted", path)
        else:
            rows.splits[number] = split
            kept.append(number)
    return rows.take(kept)


def _by_folder(source: Source, sheets: Sheets, problems: Problems) -> Rows:
    """Return images whose split is given by lists of paths, and whose class is their folder."""
    from shitu_cli.preparation.formats.tree import read_classes

    rows = _apply_splits(sheets, read_classes(source, problems), problems)
    rows.unused |= sheets.unused
    return rows


def _drop_odd_labels(lines: Lines, problems: Problems) -> None:
    """Drop names among numbers, which are typing mistakes as long as they are few."""
    names = {label for label in set(lines.labels) if not (label.isascii() and label.removeprefix("-").isdigit())}
    odd = [n for n, label in enumerate(lines.labels) if label in names] if names else []
    if not 0 < len(odd) <= ODD_SHARE * len(lines.labels):
        return
    for number in odd:
        problems.add("odd-label", lines.where(number), f"label {lines.labels[number]!r}")
    lines.dropped = frozenset(odd)
    if not lines.boxes and not lines.ids:  # their keys are positions: with them, rows are dropped when they are joined
        kept = [number for number in range(len(lines.labels)) if number not in lines.dropped]
        lines.images, lines.labels = [lines.images[n] for n in kept], [lines.labels[n] for n in kept]
        lines.splits, lines.lines = [lines.splits[n] for n in kept], array("q", (lines.lines[n] for n in kept))
        lines.dropped = frozenset()


def _detect(source: Source, *, with_header: bool) -> bool:
    if source.path.is_file() and source.path.suffix.lower() not in (*SUFFIXES, *RECORD_SUFFIXES):
        return False
    sheets = Sheets.of(source)
    candidates = [labels for labels in sheets.labelled if (labels.sheet.header is not None) is with_header]
    clear = any(labels.error is None for labels in sheets.labelled)
    if any(labels.error is None or not clear for labels in candidates):
        return True
    return not with_header and bool(sheets.splits) and not sheets.labelled


TABLE = Format(
    "table",
    "tables with a header: image, label, and if you like split, id or camera, box; OML's too; see --columns",
    lambda source: _detect(source, with_header=True),
    lambda source, problems: _read(source, problems, with_header=True),
    base.TABLE,
)
TEXT_LIST = Format(
    "list",
    "train.txt with val, test or query and gallery beside it: `path label`, `path label id` (PaddleClas, PaddleX), "
    "`path, fine, coarse`, `path label split` or `path label x1 y1 x2 y2`; or paths, alone or with their split, beside "
    "folders of classes",
    lambda source: _detect(source, with_header=False),
    lambda source, problems: _read(source, problems, with_header=False),
    base.TABLE,
)
