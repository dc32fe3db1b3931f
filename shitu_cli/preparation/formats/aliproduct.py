"""AliProducts (CVPR 2020 challenge): train.json and val.json beside train/ and val/."""

from __future__ import annotations

import json
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _detect(source: Source) -> bool:
    root = source.path
    folder = find_folder(root, "train.json", "train") if root.is_dir() else None
    return folder is not None and b'"class_id"' in _head(folder / "train.json")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096)


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, "train.json", "train")
    if folder is None:
        raise DataError(f"{root}: no train.json with train/ beside it")
    rows = Rows(folder)
    for name, split in (("train", "train"), ("val", "eval")):
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        try:
            images = json.loads(path.read_text(encoding="utf-8-sig"))["images"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected {{'images': [...]}}: {error}") from None
        for number, item in enumerate(images, 1):
            try:
                label = int(item["class_id"])
                image = str(item["image_id"])
            except (KeyError, TypeError, ValueError) as error:
                problems.add("malformed", f"{path}:{number}", f"image {number}: {error!r}")
                continue
            rows.add(f"{name}/{label:05d}/{image}", str(label), split, file=str(path), line=number)
    return rows


ALIPRODUCT = Format(
    "aliproduct",
    "AliProducts: train.json, val.json, train/00001/*, val/00001/*; each val picture against the rest",
    _detect,
    _read,
)
