"""Tiny ImageNet: train/<wnid>/images/, val/images/ with val_annotations.txt; test/ has no labels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from shitu_cli.preparation.formats.base import Rows, walk_images
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset, holding
from shitu_cli.preparation.formats.text_files import read_lines
from shitu_cli.preparation.problems import Problems

_LIST = "val/val_annotations.txt"


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
    rows = Rows(folder)
    for path in walk_images(folder / "train", problems):
        rows.add(f"train/{path}", path.partition("/")[0], "train")
    add_lines(rows, folder / _LIST, _parse, "image<TAB>class", problems)
    if (folder / "words.txt").is_file():
        rows.display = _names(folder / "words.txt", set(rows.labels), problems)
    rows.label_files = [_LIST]
    rows.readings = ["Tiny ImageNet: class = folder below train/, for val/ as val_annotations.txt says; test/ has none"]
    return rows


def _parse(line: str) -> list[Entry] | None:
    image, label, *_ = [*map(str.strip, line.split("\t")), ""]
    return [Entry(f"val/images/{image}", label, "val")] if image and label else None


def _names(path: Path, wnids: set[str], problems: Problems) -> dict[str, str]:
    """Return n01443537 → goldfish, for those whose first name no other class has."""
    pairs = (line.partition("\t") for _, line in read_lines(path, problems))
    names = {wnid: name.partition(",")[0].strip() for wnid, _, name in pairs if wnid in wnids}
    counts = Counter(names.values())
    return {wnid: name for wnid, name in names.items() if name and counts[name] == 1}


TINY_IMAGENET = dataset(
    "tiny-imagenet",
    "Tiny ImageNet: train/<wnid>/images/, val/images/ with val_annotations.txt, wnids.txt",
    home=holding("train", _LIST, "wnids.txt"),
    read=_read,
    needs=f"train/, {_LIST} and wnids.txt",
)
