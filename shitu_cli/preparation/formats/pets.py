"""Oxford-IIIT Pet: images/, annotations/list.txt, trainval.txt and test.txt; the breeds are the classes."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, head_of, lines_of, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

_FILES = ("images", "annotations/list.txt")
_SPLITS = {"trainval.txt": "train", "test.txt": "test"}


def _folder(source: Source) -> Path | None:
    return find_folder(source.path, *_FILES) if source.path.is_dir() else None


def _detect(source: Source) -> bool:
    folder = _folder(source)
    return folder is not None and b"CLASS-ID" in head_of(folder / "annotations/list.txt", 200)


def _read(source: Source, problems: Problems) -> Rows:
    folder = _folder(source)
    if folder is None:
        raise DataError(f"{source.path}: needs {' and '.join(_FILES)}")
    rows = Rows(folder)
    names: dict[str, str] = {}
    lists = [folder / "annotations" / name for name in _SPLITS if (folder / "annotations" / name).is_file()]
    for path in lists or [folder / "annotations/list.txt"]:
        for number, line in enumerate(lines_of(read_text(path, problems)), 1):
            cells = line.split()
            if not cells or cells[0].startswith("#"):
                continue
            if len(cells) != 4 or not cells[1].isdigit():
                problems.add("malformed", f"{path}:{number}", f"expected image class species breed, got {line[:60]!r}")
                continue
            breed = names.setdefault(cells[1], cells[0].rpartition("_")[0])
            if breed != cells[0].rpartition("_")[0]:
                problems.add("malformed", f"{path}:{number}", f"class {cells[1]} is {breed} above")
                continue
            rows.add(f"images/{cells[0]}.jpg", breed, _SPLITS.get(path.name, ""), file=str(path), line=number)
    rows.label_files = [str(path.relative_to(source.base)) for path in lists]
    rows.readings = [f"{', '.join(rows.label_files)}: Oxford-IIIT Pet, the breed of the image's name is the class"]
    return rows


PETS = Format(
    "oxford-pets",
    "Oxford-IIIT Pet: images/ and annotations/ with list.txt, trainval.txt, test.txt; the breed is the class",
    _detect,
    _read,
)
