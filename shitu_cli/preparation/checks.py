"""Check the lines, boxes, duplicates and classes of a data set before it is trained on."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shitu_cli.errors import DataError
from shitu_cli.preparation.alike import IDENTICAL, Alike
from shitu_cli.preparation.audit import Look
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.boxes import fits
from shitu_cli.preparation.problems import Problems
from shitu_cli.preparation.split import Split
from shitu_cli.reporting import counted
from shitu_cli.stores import address_of, split_location

_SUSPECT = ("\t", "\n", "\r", "\0", "..", "\1/")  # \1 is put before each path, so \1/ is an absolute one
CHUNK = 1 << 12
_BLANKS = re.compile(r"(?<=\w)[-_\s]+(?=\w)")  # -1 is not 1
_NUMBERED = re.compile(r"^\d+[ .)]+(?=[^\W\d])")
_ZEROS = re.compile(r"(?<![^/])0+(?=\d+(?![^/]))")  # before a number that is a whole label, or a whole folder of it


# --- Lines ---


def check_lines(rows: Rows, problems: Problems) -> Rows:
    """Return the rows without repeated, contradicting and outside paths; report those, and similar labels."""
    dropped = set()
    for number in _suspects(rows.paths):
        path = rows.paths[number]
        if any(sign in path for sign in "\t\n\r\0"):
            problems.add("bad-name", repr(path))
            dropped.add(number)
        elif leads_outside(rows.root, path):
            problems.add("outside-root", rows.place(number))
            dropped.add(number)
    kept: Sequence[int] = range(len(rows))
    if dropped:
        kept = [number for number in kept if number not in dropped]
    if len(set(rows.paths)) < len(rows):
        kept = _without_repeated(rows, kept, problems)
    _note_other_folders(rows, kept, problems)
    _note_similar_labels(rows, problems)
    return rows if len(kept) == len(rows) else rows.take(kept)


def _suspects(paths: Sequence[str]) -> Iterator[int]:
    """Yield the numbers of paths that need a closer look; most are skipped, many at a time."""
    for start in range(0, len(paths), CHUNK):
        chunk = paths[start : start + CHUNK]
        if _is_suspect("\1".join(["", *chunk])):
            yield from (start + n for n, path in enumerate(chunk) if _is_suspect(f"\1{path}"))


def _is_suspect(paths: str) -> bool:
    return any(sign in paths for sign in _SUSPECT)


def _without_repeated(rows: Rows, numbers: Sequence[int], problems: Problems) -> list[int]:
    """Report lines that name one image again with its label in one split, or with another one in any; return the rest.

    All lines of an image with several labels are left out.
    """
    # For millions of images: one table of all, by path alone where there is no box, and only what other splits repeat.
    first: dict[object, int] = {}
    repeated: dict[str, set[object]] = {}
    conflicts: set[object] = set()
    kept = []
    for number in numbers:
        key, split = _key(rows, number), rows.splits[number]
        other = first.setdefault(key, number)
        seen = repeated.setdefault(split, set())
        if rows.labels[other] != rows.labels[number]:
            conflicts.add(key)
            labels = f"{rows.labels[other]!r} at {rows.where(other)}, {rows.labels[number]!r} here"
            problems.add("label-conflict", rows.place(number), labels)
        elif key in seen or (other != number and rows.splits[other] == split):
            problems.add("duplicate-line", rows.place(number), f"also at {rows.where(other)}")
        else:
            kept.append(number)
        if rows.splits[other] != split:
            seen.add(key)
    return [n for n in kept if _key(rows, n) not in conflicts] if conflicts else kept


def _key(rows: Rows, number: int) -> object:
    """Return what makes an image: its path, and its box if it has one."""
    return (rows.paths[number], rows.boxes[number]) if number in rows.boxes else rows.paths[number]


def leads_outside(root: Path, path: str) -> bool:
    """Return whether a path leads out of a folder; names inside of an archive lead nowhere, whatever they are."""
    path, _ = split_location(path)
    if address_of(path) is not None:
        return False
    whole = os.path.normpath(os.path.join(root, path))
    return os.path.commonpath([os.path.abspath(root), os.path.abspath(whole)]) != os.path.abspath(root)


def _note_other_folders(rows: Rows, numbers: Sequence[int], problems: Problems) -> None:
    """Report images that a file labels with one class, in a folder that is called like another one."""
    names = {rows.shown(label).casefold() for label in set(rows.labels)}
    folders: dict[str, str] = {}
    for number in numbers:
        folder = rows.paths[number].rpartition("/")[0]
        if folder not in folders:
            folders[folder] = folder.rpartition("/")[2].casefold()
        own = folders[folder]
        if own in names and rows.files[number] and number not in rows.boxes:
            label = rows.shown(rows.labels[number])
            if label.casefold() != own:
                problems.add("other-folder", rows.place(number), f"labelled {label!r}")


def _note_similar_labels(rows: Rows, problems: Problems) -> None:
    spellings: dict[str, str] = {}
    for label in sorted(set(rows.labels)):
        hidden = () if label.isascii() else {sign for sign in label if unicodedata.category(sign) == "Cf"}
        text = "".join(sign for sign in label if sign not in hidden) or label
        plain = _ZEROS.sub("", unicodedata.normalize("NFKC", text).casefold())
        other = spellings.setdefault(" ".join(_BLANKS.sub(" ", plain).split()) or label, label)
        if other != label:
            problems.add("similar-labels", f"{other!r} and {label!r}")
    for plain, label in spellings.items():  # 01_cat beside cat; but not 3_series beside 5_series
        if (other := spellings.get(_NUMBERED.sub("", plain), label)) != label:
            problems.add("similar-labels", f"{other!r} and {label!r}")


# --- Boxes ---


def check_boxes(rows: Rows, looks: Sequence[Look], problems: Problems) -> set[int]:
    """Report boxes that leave their images; return those that show nothing of them."""
    outside = set()
    for number, (x1, y1, x2, y2) in rows.boxes.items():
        width, height = looks[number].width, looks[number].height
        if not width:
            continue
        bad = not (x1 < x2 and y1 < y2 and x1 < width and y1 < height)
        if bad or not fits((x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)), (width, height)):
            shown = f"{x1:g},{y1:g},{x2:g},{y2:g} in {width} x {height}"
            problems.add("bad-box" if bad else "cut-box", rows.place(number), shown)
        if bad:
            outside.add(number)
    return outside


# --- Duplicates ---


def check_alike(rows: Rows, alike: Alike, problems: Problems) -> set[int]:
    """Report duplicates by what they mean; return the images that `fix` leaves out."""
    dropped: set[int] = set()
    for a, b, how in alike.pairs():
        roles = {_role(rows.splits[a]), _role(rows.splits[b])}
        query = a if _role(rows.splits[a]) == "query" else b
        if rows.paths[a] == rows.paths[b] and roles != {"train", "query"}:
            continue  # one file with several boxes, or in query and gallery at once
        where, detail = rows.place(b), f"{how}: {rows.place(a)}"
        if rows.labels[a] != rows.labels[b]:
            problems.add("label-noise", where, f"{rows.labels[b]!r}, {detail} is {rows.labels[a]!r}")
        if roles == {"train", "query"}:
            problems.add("leak", where, detail)
        elif roles == {"query", "gallery"}:
            if rows.labels[a] == rows.labels[b] and rows.ids.get(a) == rows.ids.get(b) is not None:
                continue  # excluded from the ranking by its id
            problems.add("twin", where, detail)
        elif rows.labels[a] == rows.labels[b] and len(roles) == 1:
            problems.add("duplicate" if how == IDENTICAL else "near-duplicate", where, detail)
        else:
            continue
        if how == IDENTICAL:
            dropped.add(query if len(roles) == 2 else b)
    return dropped


def _role(split: str) -> str:
    return {"": "train", "train": "train", "gallery": "gallery"}.get(split, "query")


# --- Classes ---


def check_classes(rows: Rows, split: Split, problems: Problems, sample_per_id: int) -> None:
    """Report classes that are small, far larger than others, or missing in the gallery; DataError for a single one."""
    counts = Counter(rows.labels[n] for n in split.train)
    if len(counts) < 2:
        only = next(iter(counts))
        raise DataError(
            f"only one class to train on: {only!r}",
            details=problems.lines("error"),
            hint="telling classes apart needs at least two: one folder per class, or lists with several labels",
        )
    for label, count in sorted(counts.items()):
        if count == 1:
            problems.add("singleton", rows.shown(label))
        elif count < sample_per_id:
            problems.add("few-for-sampler", rows.shown(label), f"{count} of {sample_per_id}")
    middle = float(np.median(list(counts.values())))
    label, most = counts.most_common(1)[0]
    if most > 20 * middle:
        problems.add("imbalance", rows.shown(label), f"{most} images, median {middle:g}")
    in_gallery = Counter(rows.labels[n] for n in split.gallery)
    searched = set(split.gallery)
    queries = Counter(rows.labels[n] for n in split.query)
    # No answers to a query: itself, and images of its class from its camera or sequence.
    alike = Counter((rows.labels[n], rows.ids[n]) for n in split.gallery if n in rows.ids)
    with_answer = {
        label
        for n in split.query
        if in_gallery[label := rows.labels[n]] > (alike[label, rows.ids[n]] if n in rows.ids else n in searched)
    }
    lonely = sorted(queries.keys() - with_answer)
    if queries and len(lonely) == len(queries):
        raise DataError(
            f"nothing can be evaluated: none of {counted(len(split.query), 'query', 'queries')} has another image of "
            "its class to find",
            details=[f"{rows.place(split.query[0])} is {rows.shown(rows.labels[split.query[0]])!r}"],
            hint="images with the same class and camera (or sequence) do not count as answers: are the cameras right, "
            "which are in the list or the names of the images?"
            if alike
            else "are the classes called the same in all parts? or name the folder or list of the training images only",
        )
    if len(queries) == 1 < len(counts) and len(split.query) > 1:
        problems.add("one-query-class", rows.shown(next(iter(queries))), counted(len(split.query), "query", "queries"))
    for label in lonely:
        problems.add("absent-in-gallery", rows.shown(label), counted(queries[label], "query", "queries"))
