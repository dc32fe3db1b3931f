"""Oxford-IIIT Pet: images/, annotations/list.txt, trainval.txt and test.txt; the breeds are the classes."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

_LIST = "annotations/list.txt"
_LISTS = {"annotations/trainval.txt": "train", "annotations/test.txt": "test"}


def _home(source: Source) -> Path | None:
    folder = source.folder_with("images", _LIST)
    return folder if folder is not None and b"CLASS-ID" in first_bytes(folder / _LIST, 200) else None


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
    rows = Rows(folder)
    names: dict[str, str] = {}
    rows.label_files = [name for name in _LISTS if (folder / name).is_file()] or [_LIST]
    for name in rows.label_files:

        def parse(line: str, split: str = _LISTS.get(name, "")) -> list[Entry] | None:
            cells = line.split()
            if line.startswith("#"):
                return []
            if len(cells) != 4 or not cells[1].isdigit():
                return None
            breed = cells[0].rpartition("_")[0]
            if names.setdefault(cells[1], breed) != breed:
                return None
            return [Entry(f"images/{cells[0]}.jpg", breed, split)]

        add_lines(rows, folder / name, parse, "image class species breed, a breed for each class", problems)
    rows.readings = [f"{', '.join(rows.label_files)}: Oxford-IIIT Pet, the breed of the image's name is the class"]
    return rows


PETS = dataset(
    "oxford-pets",
    "Oxford-IIIT Pet: images/ and annotations/ with list.txt, trainval.txt, test.txt; the breed is the class",
    home=_home,
    read=_read,
    needs=f"images and {_LIST}",
)
