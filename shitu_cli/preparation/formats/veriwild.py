"""VeRI-Wild: images/ and train_test_split/, in both generations of its lists."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

SIZES = {"small": 3000, "medium": 5000, "large": 10000}


def _detect(source: Source) -> bool:
    root = source.path
    folder = find_folder(root, "train_test_split") if root.is_dir() else None
    return folder is not None and any((folder / "train_test_split").glob("*test_*000*.txt"))


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, "train_test_split")
    if folder is None:
        raise DataError(f"{root}: no train_test_split/")
    size = SIZES.get(source.options.protocol or "small")
    if size is None:
        raise UsageError(f"--protocol {source.options.protocol}: expected {', '.join(SIZES)} for VeRI-Wild")
    lists = folder / "train_test_split"
    images = folder / "images"
    # Unpacking the archives' parts may nest the folder.
    rows = Rows(images / "images" if (images / "images").is_dir() else images)
    newer = (lists / "train_list_start0.txt").is_file()
    cameras = {} if newer else _cameras(folder, lists, problems)
    names = (
        (("train_list_start0.txt", "train"), (f"test_{size}_id_query.txt", "query"), (f"test_{size}_id.txt", "gallery"))
        if newer
        else (("train_list.txt", "train"), (f"test_{size}_query.txt", "query"), (f"test_{size}.txt", "gallery"))
    )
    for name, split in names:
        path = lists / name
        if not path.is_file():
            raise DataError(f"{path} is missing", hint="--protocol small, medium or large chooses the test lists")
        for number, line in enumerate(read_text(path, problems).split("\n"), 1):
            if line.strip():
                _add(rows, line.split(), split, cameras, path, number, problems)
    return rows


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
            header = [name.strip().lower() for name in lines[0].split(";")]
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
