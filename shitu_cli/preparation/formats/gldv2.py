"""Google Landmarks v2: train_clean.csv or train.csv, and query and gallery from the retrieval solution.

Its tables are in metadata/, beside the folders of images, or in train/, index/ and test/, where its download script
puts them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, open_input
from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.delimited import header_of
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

_PLACES = ("metadata", "", "train", "index", "test")
MAX_TABLE = 4096 * MIB  # bytes; they are read line by line
_HEX = set("0123456789abcdef")


def _table_path(base: Path, pattern: str) -> Path | None:
    """Return the newest of the tables of a name (retrieval_solution_v2.1.csv after v2.0) in one of their places."""
    tables = (path for place in _PLACES for path in sorted((base / place).glob(pattern), reverse=True))
    return next((path for path in tables if path.is_file()), None)


def _home(source: Source) -> Path | None:
    """Return the folder of train/ and the tables: the source, the one that holds its metadata/, or one inside."""
    root = source.path
    inside = sorted(path.parent for path in root.glob("*/train"))
    for base in (root, *inside, *((root.parent,) if root.name == "metadata" else ())):
        if _table_path(base, "train_clean.csv") is not None or _has_landmarks(base):
            return base
    return None


def _has_landmarks(base: Path) -> bool:
    """Return whether train.csv names landmarks of images in folders of the digits of their ids."""
    path = _table_path(base, "train.csv")
    if path is None or not any((base / "train" / digit).is_dir() for digit in _HEX):
        return False
    return {"id", "landmark_id"} <= set(header_of(first_bytes(path, 1000)))


def _read(base: Path, protocol: str, problems: Problems) -> Rows:
    rows = Rows(base)
    landmarks, solution = _table_path(base, "index_image_to_landmark.csv"), _table_path(base, "retrieval_solution*.csv")
    clean, whole = _table_path(base, "train_clean.csv"), _table_path(base, "train.csv")
    trained = clean or whole
    assert trained is not None
    # The landmarks of train and index are numbered apart: 7 there is not 7 here.
    prefix = "train-" if landmarks is not None and solution is not None else ""
    for line, (landmark, images) in _table(trained, ("landmark_id", "images" if clean else "id"), problems):
        for image in images.split():
            _add(rows, "train", image, f"{prefix}{landmark}", "train", trained, line, problems)
    if landmarks is not None and solution is not None:
        _evaluation(landmarks, solution, rows, problems)
    rows.label_files = [str(path.relative_to(base)) for path in (trained, landmarks, solution) if path is not None]
    rows.readings = [f"{', '.join(rows.label_files)}: Google Landmarks v2, class = landmark_id"]
    return rows


def _table(path: Path, needed: tuple[str, ...], problems: Problems) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield line and cells of the columns that are needed; rows without them are reported."""
    with (
        open_input(path, limit=MAX_TABLE) as data,
        io.TextIOWrapper(data, encoding="utf-8-sig", errors="surrogateescape", newline="") as file,
    ):
        reader = csv.DictReader(file)
        try:
            names = reader.fieldnames or ()
            missing = [name for name in needed if name not in names]
            if missing:
                raise DataError(f"{path}:1: no column {', '.join(missing)}, found {', '.join(names)}")
            for row in reader:
                cells = tuple(row[name] for name in needed)
                if any(cell is None for cell in cells):
                    problems.add("malformed", f"{path}:{reader.line_num}", "the row ends too early")
                else:
                    yield reader.line_num, cells
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}") from None


def _add(
    rows: Rows, folder: str, image: str, label: str, split: str, path: Path, line: int, problems: Problems
) -> bool:
    """Add an image, whose folders are the first three digits of its id; report an invalid id."""
    if len(image) < 3 or not set(image) <= _HEX:
        problems.add("malformed", f"{path}:{line}", f"image id {image[:40]!r}")
        return False
    name = f"{folder}/{image[0]}/{image[1]}/{image[2]}/{image}.jpg"
    rows.add(name, label, split, file=str(path), line=line)
    return True


def _evaluation(landmarks: Path, solution: Path, rows: Rows, problems: Problems) -> None:
    """Add queries with the landmark of their first listed index image: labels only approximate the official lists."""
    label: dict[str, str] = {}
    for line, (image, landmark) in _table(landmarks, ("id", "landmark_id"), problems):
        if _add(rows, "index", image, f"index-{landmark}", "gallery", landmarks, line, problems):
            label[image] = f"index-{landmark}"
    dropped = 0
    for line, (image, images, usage) in _table(solution, ("id", "images", "Usage"), problems):
        relevant = [label[name] for name in images.split() if name in label]
        if usage == "Ignored" or not relevant:
            dropped += 1
        elif _add(rows, "test", image, relevant[0], "query", solution, line, problems) and len(set(relevant)) > 1:
            problems.add("not-evaluated", f"{solution}:{line}", "images of several landmarks: the first is used")
    if dropped:
        problems.add("not-evaluated", str(solution), f"{dropped} queries without relevant images")


GLDV2 = dataset(
    "gldv2",
    "Google Landmarks v2: train_clean.csv or train.csv (in metadata/, beside or in train/), train/0/1/2/*.jpg; query "
    "and gallery from retrieval_solution",
    home=_home,
    read=_read,
    needs="train_clean.csv, or train.csv with id and landmark_id",
)
