"""Market-1501 and VeRi-776: identity and camera stand in the file names."""

from __future__ import annotations

import re

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, walk_images
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

MARKET = (("bounding_box_train", "train"), ("query", "query"), ("bounding_box_test", "gallery"))
VERI = (("image_train", "train"), ("image_query", "query"), ("image_test", "gallery"))
_MARKET_NAME = re.compile(r"(-1|\d{4})_c(\d)")
_VERI_NAME = re.compile(r"(\d+)_c(\d+)")


def _detect(folders: tuple[tuple[str, str], ...], source: Source) -> bool:
    return source.path.is_dir() and find_folder(source.path, *(name for name, _ in folders)) is not None


def _read(folders: tuple[tuple[str, str], ...], name: re.Pattern[str], source: Source, problems: Problems) -> Rows:
    root = source.path
    base = find_folder(root, *(folder for folder, _ in folders))
    if base is None:
        raise DataError(f"{root}: needs {', '.join(folder for folder, _ in folders)}")
    rows = Rows(base)
    for folder, split in folders:
        for path in walk_images(base / folder, problems):
            match = name.match(path)
            if match is None:
                problems.add("unlabelled", f"{folder}/{path}", "the name does not begin with identity and camera")
                continue
            if match[1] == "-1":
                continue  # junk detections, which the protocol leaves out
            # Identity 0000 are people that no query shows: they distract, and match nothing.
            label = "-1" if match[1] == "0000" and split == "gallery" else match[1]
            rows.add(f"{folder}/{path}", label, split, id=match[2])
    return rows


MARKET1501 = Format(
    "market1501",
    "Market-1501: bounding_box_train, query, bounding_box_test; camera as id, junk left out, distractors kept",
    lambda source: _detect(MARKET, source),
    lambda source, problems: _read(MARKET, _MARKET_NAME, source, problems),
)
VERI776 = Format(
    "veri776",
    "VeRi-776: image_train, image_query, image_test; camera as id",
    lambda source: _detect(VERI, source),
    lambda source, problems: _read(VERI, _VERI_NAME, source, problems),
)
