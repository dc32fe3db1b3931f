"""VeRI-Wild: images/ and the lists of train_test_split/, in both generations, in that folder or beside images/."""

from __future__ import annotations

import re
from pathlib import Path

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

SIZES = {"small": 3000, "medium": 5000, "large": 10000}
_TEST_LIST = re.compile(r"test_(?:3000|5000|10000)(?:_id)?(?:_query)?\.txt")
_TRAIN = ("train_list_start0.txt", "train_list.txt")


def _places(root: Path) -> tuple[Path, Path] | None:
    """The folder of images/, and that of the lists."""
    if not root.is_dir():
        return None
    for folder, lists in (
        (find_folder(root, "train_test_split"), "train_test_split"),
        (find_folder(root, "images"), ""),
    ):
        if folder is not None and any((folder / lists).glob("*test_*000*.txt")):
            return folder, folder / lists
    return None


def _detect(source: Source) -> bool:
    return _places(source.path) is not None


def _read(source: Source, problems: Problems) -> Rows:
    places = _places(source.path)
    if places is None:
        raise DataError(f"{source.path}: no lists test_3000*.txt in train_test_split/ or beside images/")
    folder, lists = places
    size = SIZES.get(source.options.protocol or "small")
    if size is None:
        raise UsageError(f"--protocol {source.options.protocol}: expected {', '.join(SIZES)} for VeRI-Wild")
    images = folder / "images"
    # Unpacking the archives' parts may nest the folder.
    rows = Rows(images / "images" if (images / "images").is_dir() else images)
    files = {
        "train": _first(lists, *_TRAIN),
        "query": _first(lists, f"test_{size}_id_query.txt", f"test_{size}_query.txt"),
        "gallery": _first(lists, f"test_{size}_id.txt", f"test_{size}.txt"),
    }
    cameras: dict[str, str] | None = None
    for split, path in files.items():
        for number, line in enumerate(read_text(path, problems).split("\n"), 1):
            parts = line.split()
            if len(parts) == 1 and cameras is None:  # the older lists name images only
                cameras = _cameras(folder, lists, problems)
            if parts:
                _add(rows, parts, split, cameras or {}, path, number, problems)
    rows.label_files = [path.name for path in files.values()]
    rows.readings = [f"{', '.join(rows.label_files)}: VeRI-Wild, class = the vehicle's folder, id = camera"]
    return rows


def _first(lists: Path, *names: str) -> Path:
    """The first of the lists that is there."""
    for name in names:
        if (lists / name).is_file():
            return lists / name
    raise DataError(
        f"{lists / names[0]} is missing",
        hint="--protocol small, medium or large chooses test lists of 3000, 5000, 10000",
    )


def _add(
    rows: Rows, parts: list[str], split: str, cameras: dict[str, str], path: Path, number: int, problems: Problems
) -> None:
    image = parts[0]
    vehicle = image.partition("/")[0]
    if "/" not in image or len(parts) not in (1, 3):
        problems.add("malformed", f"{path}:{number}", f"expected vehicle/image label camera, got {' '.join(parts)!r}")
        return
    camera = parts[2] if len(parts) == 3 else cameras.get(image)
    if not image.lower().endswith(".jpg"):
        image += ".jpg"
    # The label is the folder: training labels of the newer lists are counted from 0, those of the tests are not.
    rows.add(image, vehicle, split, id=camera, file=str(path), line=number)


def _cameras(folder: Path, lists: Path, problems: Problems) -> dict[str, str]:
    for path in (lists / "vehicle_info.txt", folder / "vehicle_info.txt"):
        if path.is_file():
            lines = read_text(path, problems).splitlines()
            header = [name.strip().lower() for name in lines[0].split(";")] if lines else []
            at = header.index("camera id") if "camera id" in header else 1
            cells = (line.split(";") for line in lines[1:] if line.strip())
            return {cell[0].strip(): cell[at].strip() for cell in cells if len(cell) > at}
    raise DataError(f"{lists}: lists without cameras need vehicle_info.txt", hint="it comes with the data set's lists")


VERIWILD = Format(
    "veriwild",
    "VeRI-Wild: images/<vehicle>/*.jpg, train_test_split/*.txt; --protocol small, medium, large; camera as id",
    _detect,
    _read,
)
