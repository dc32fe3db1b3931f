"""AliProducts (CVPR 2020 challenge): train.json and val.json beside train/ and val/."""

from __future__ import annotations

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_json_object
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, head_of
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _detect(source: Source) -> bool:
    root = source.path
    folder = find_folder(root, "train.json", "train") if root.is_dir() else None
    return folder is not None and b'"class_id"' in head_of(folder / "train.json")


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
        images = read_json_object(path, limit=1024 * MIB).get("images")
        if not isinstance(images, list):
            raise DataError(f'{path}: expected {{"images": [...]}}')
        for number, item in enumerate(images, 1):
            try:
                label = int(item["class_id"])
                image = str(item["image_id"])
            except (KeyError, TypeError, ValueError) as error:
                problems.add("malformed", f"{path}:{number}", f"image {number}: {error!r}"[:200])
                continue
            rows.add(f"{name}/{label:05d}/{image}", str(label), split, file=str(path), line=number)
    return rows


ALIPRODUCT = Format(
    "aliproduct",
    "AliProducts: train.json, val.json, train/00001/*, val/00001/*; each val picture against the rest",
    _detect,
    _read,
)
