"""LabelMe flags: annotations/*.json with one flag set, images/ beside."""

from __future__ import annotations

import json

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows, find_folder
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _detect(source: Source) -> bool:
    root = source.path
    folder = find_folder(root, "annotations", "images") if root.is_dir() else None
    first = next((folder / "annotations").glob("*.json"), None) if folder is not None else None
    if first is None:
        return False
    with first.open("rb") as file:
        return b'"flags"' in file.read(65536)


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, "annotations", "images")
    if folder is None:
        raise DataError(f"{root}: needs annotations/ and images/")
    rows = Rows(folder)
    for path in sorted((folder / "annotations").glob("*.json")):
        try:
            values = json.loads(path.read_text(encoding="utf-8-sig"))
            chosen = [str(name) for name, value in values["flags"].items() if value]
            image = str(values["imagePath"]).replace("\\", "/").rpartition("/")[2]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.add("malformed", str(path), f"no LabelMe annotation: {error!r}")
            continue
        if len(chosen) != 1:
            problems.add("malformed", str(path), f"{len(chosen)} flags are set, one is the label")
            continue
        rows.add(f"images/{image}", chosen[0], file=str(path), line=1)
    return rows


LABELME = Format(
    "labelme",
    "LabelMe flags: annotations/*.json, images/*; the flag that is set is the label",
    _detect,
    _read,
    ANNOTATIONS,
)
