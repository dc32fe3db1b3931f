"""VeRI-Wild: images/ and the lists of train_test_split/, in both generations, in that folder or beside images/."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.text_files import read_lines
from shitu_cli.preparation.problems import Problems

SIZES = {"small": 3000, "medium": 5000, "large": 10000}
_LINE = re.compile(rb"\d+/\d+")


def _home(source: Source) -> tuple[Path, Path] | None:
    """Return the folder of images/, and that of the lists."""
    for lists, inside in (("train_test_split", "train_test_split"), ("", "images")):
        folder = source.folder_with(inside)
        if folder is not None and _are_lists((folder / lists).glob("*test_*000*.txt")):
            return folder, folder / lists
    return None


def _are_lists(paths: Iterable[Path]) -> bool:
    """Return whether some of these files begin with a vehicle and an image, as lists of other sets do not."""
    return any(_LINE.match(first_bytes(path, 100)) for path in paths)


def _read(home: tuple[Path, Path], protocol: str, problems: Problems) -> Rows:
    folder, lists = home
    size = SIZES[protocol]
    images = folder / "images"
    # Unpacking the archives' parts may nest the folder.
    rows = Rows(images / "images" if (images / "images").is_dir() else images)
    files = {
        "train": _first(lists, "train_list_start0.txt", "train_list.txt"),
        "query": _first(lists, f"test_{size}_id_query.txt", f"test_{size}_query.txt"),
        "gallery": _first(lists, f"test_{size}_id.txt", f"test_{size}.txt"),
    }
    cameras: dict[str, str] | None = None
    for split, path in files.items():
        for number, line in read_lines(path, problems):
            image, *more = line.split()
            if not more and cameras is None:  # the older lists name images only
                cameras = _cameras(folder, lists, problems)
            if "/" not in image or len(more) not in (0, 2):
                problems.add("malformed", f"{path}:{number}", f"expected vehicle/image label camera, got {line!r}")
                continue
            camera = more[1] if more else (cameras or {}).get(image)
            name = image if image.lower().endswith(".jpg") else f"{image}.jpg"
            # The label is the folder: training labels of the newer lists are counted from 0, those of the tests not.
            rows.add(name, image.partition("/")[0], split, id=camera, file=str(path), line=number)
    rows.label_files = [path.name for path in files.values()]
    rows.readings = [f"{', '.join(rows.label_files)}: VeRI-Wild, class = the vehicle's folder, id = camera"]
    return rows


def _first(lists: Path, *names: str) -> Path:
    """Return the first of the lists that exists."""
    for name in names:
        if (lists / name).is_file():
            return lists / name
    raise DataError(
        f"{lists / names[0]} is missing",
        hint="--protocol small, medium or large chooses test lists of 3000, 5000, 10000",
    )


def _cameras(folder: Path, lists: Path, problems: Problems) -> dict[str, str]:
    """Return image → camera, of vehicle_info.txt."""
    for path in (lists / "vehicle_info.txt", folder / "vehicle_info.txt"):
        if path.is_file():
            (_, heading), *lines = [*read_lines(path, problems)] or [(0, "")]
            header = [name.strip().lower() for name in heading.split(";")]
            at = header.index("camera id") if "camera id" in header else 1
            rows = (line.split(";") for _, line in lines)
            return {cells[0].strip(): cells[at].strip() for cells in rows if len(cells) > at}
    raise DataError(f"{lists}: lists without cameras need vehicle_info.txt", hint="it comes with the data set's lists")


VERIWILD = dataset(
    "veriwild",
    "VeRI-Wild: images/<vehicle>/*.jpg, train_test_split/*.txt; --protocol small, medium, large; camera as id",
    home=_home,
    read=_read,
    needs="lists test_3000*.txt in train_test_split/ or beside images/",
    protocols=tuple(SIZES),
)
