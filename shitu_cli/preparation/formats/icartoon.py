"""iCartoonFace, recognition track: faces by boxes, and labelled test faces with distractors."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Box, Format, Rows, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

TRAIN, TEST = "icartoonface_rectrain", "icartoonface_rectest"


def _find(root: Path, name: str) -> Path | None:
    return next(iter(sorted(root.glob(f"**/{name}"))), None) if root.is_dir() else None


def _detect(source: Source) -> bool:
    root = source.path
    return _find(root, f"{TRAIN}_det.txt") is not None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    listed = _find(root, f"{TRAIN}_det.txt")
    images = next((path for path in sorted(root.glob(f"**/{TRAIN}")) if path.is_dir()), None)
    if listed is None or images is None:
        raise DataError(f"{root}: needs {TRAIN}_det.txt and the folder {TRAIN}/")
    rows = Rows(root)
    prefix = images.relative_to(root).as_posix()
    for number, parts in _lines(listed, problems):
        box = _box(parts[1:5])
        if len(parts) != 5 or box is None:
            problems.add("malformed", f"{listed}:{number}", f"expected path and box, got {' '.join(parts)!r}")
            continue
        # personai_icartoonface_rectrain_00012/..._0000345.jpg: the folder ends with the identity.
        label = parts[0].rpartition("/")[0].rpartition("_")[2]
        rows.add(f"{prefix}/{parts[0]}", f"train-{label}", "train", box=box, file=str(listed), line=number)
    _test(root, rows, problems)
    return rows


def _test(root: Path, rows: Rows, problems: Problems) -> None:
    """Labelled test faces are queries and gallery; label -1 is a distractor, in the gallery only."""
    info = _find(root, f"{TEST}_info.txt")
    images = next((path for path in sorted(root.glob(f"**/{TEST}")) if path.is_dir()), None)
    if info is None or images is None:
        return
    prefix = images.relative_to(root).as_posix()
    for number, parts in _lines(info, problems):
        if len(parts) == 2:
            continue  # pairs of the official protocol
        box = _box(parts[1:5])
        if len(parts) != 6 or box is None:
            problems.add("malformed", f"{info}:{number}", f"expected name, box, label, got {' '.join(parts)!r}")
            continue
        label, path = parts[5], f"{prefix}/{parts[0]}"
        if label == "-1":
            rows.add(path, "-1", "gallery", box=box, file=str(info), line=number)
            continue
        for split in ("query", "gallery"):
            rows.add(path, f"test-{label}", split, box=box, file=str(info), line=number)


def _lines(path: Path, problems: Problems) -> list[tuple[int, list[str]]]:
    lines = enumerate(read_text(path, problems).split("\n"), 1)
    return [(number, line.split()) for number, line in lines if line.strip()]


def _box(parts: list[str]) -> Box | None:
    try:
        x1, y1, x2, y2 = (float(part) for part in parts)
    except ValueError:
        return None
    return x1, y1, x2, y2


ICARTOON = Format(
    "icartoonface",
    "iCartoonFace: icartoonface_rectrain/ with its _det.txt; test faces with icartoonface_rectest_info.txt",
    _detect,
    _read,
)
