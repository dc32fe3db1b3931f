"""Google Landmarks v2: train_clean.csv, and query and gallery from the retrieval solution."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _metadata(root: Path) -> Path | None:
    for folder in (root / "metadata", root, *(sorted(root.glob("*/metadata")) if root.is_dir() else ())):
        if (folder / "train_clean.csv").is_file():
            return folder
    return None


def _detect(source: Source) -> bool:
    root = source.path
    return root.is_dir() and _metadata(root) is not None


def _table(path: Path, *needed: str) -> Iterator[tuple[int, dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            raise DataError(f"{path}:1: no column {', '.join(missing)}, found {', '.join(reader.fieldnames or ())}")
        for row in reader:
            yield reader.line_num, row


def _path(split: str, image: str) -> str:
    """Pictures lie in folders of the first three characters of their id."""
    return f"{split}/{image[0]}/{image[1]}/{image[2]}/{image}.jpg"


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    metadata = _metadata(root)
    if metadata is None:
        raise DataError(f"{root}: no metadata/train_clean.csv")
    base = metadata.parent if metadata.name == "metadata" else metadata
    rows = Rows(base)
    clean = metadata / "train_clean.csv"
    for line, row in _table(clean, "landmark_id", "images"):
        for image in row["images"].split():
            if len(image) < 3:
                problems.add("malformed", f"{clean}:{line}", f"image id {image!r}")
                continue
            rows.add(_path("train", image), f"train-{row['landmark_id']}", "train", file=str(clean), line=line)
    _evaluation(metadata, rows, problems)
    return rows


def _evaluation(metadata: Path, rows: Rows, problems: Problems) -> None:
    """Queries carry the landmark of their first listed index picture: labels only approximate the official lists."""
    solution = next(iter(sorted(metadata.glob("retrieval_solution*.csv"), reverse=True)), None)
    landmarks = metadata / "index_image_to_landmark.csv"
    if solution is None or not landmarks.is_file():
        return
    label: dict[str, str] = {}
    for line, row in _table(landmarks, "id", "landmark_id"):
        label[row["id"]] = f"index-{row['landmark_id']}"
        rows.add(_path("index", row["id"]), label[row["id"]], "gallery", file=str(landmarks), line=line)
    dropped = 0
    for line, row in _table(solution, "id", "images", "Usage"):
        found = [label[image] for image in row["images"].split() if image in label]
        if row["Usage"] == "Ignored" or not found:
            dropped += 1
            continue
        rows.add(_path("test", row["id"]), found[0], "query", file=str(solution), line=line)
        if len(set(found)) > 1:
            problems.add("not-evaluated", f"{solution}:{line}", "pictures of several landmarks: the first is used")
    if dropped:
        problems.add("not-evaluated", str(solution), f"{dropped} queries without relevant pictures")


GLDV2 = Format(
    "gldv2",
    "Google Landmarks v2: metadata/train_clean.csv, train/0/1/2/*.jpg; query and gallery from retrieval_solution",
    _detect,
    _read,
)
