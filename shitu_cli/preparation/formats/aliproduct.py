"""AliProducts (CVPR 2020 challenge): train.json and val.json beside train/ and val/."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_json_object
from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _home(source: Source) -> Path | None:
    folder = source.folder_with("train.json", "train")
    return folder if folder is not None and b'"class_id"' in first_bytes(folder / "train.json") else None


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
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
                label, image = int(item["class_id"]), str(item["image_id"])
            except (KeyError, TypeError, ValueError) as error:
                problems.add("malformed", f"{path}:{number}", f"image {number}: {error!r}"[:200])
                continue
            rows.add(f"{name}/{label:05d}/{image}", str(label), split, file=str(path), line=number)
    return rows


ALIPRODUCT = dataset(
    "aliproduct",
    "AliProducts: train.json, val.json, train/00001/*, val/00001/*; each val image against the rest",
    home=_home,
    read=_read,
    needs="train.json with class_id, and train/ beside it",
)
