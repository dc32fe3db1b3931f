"""Tiny ImageNet: train/<wnid>/images/, val/images/ with val_annotations.txt; test/ has no labels."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, lines_of, read_text, walk_images
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

_FILES = ("train", "val/val_annotations.txt", "wnids.txt")


def _folder(source: Source) -> Path | None:
    return find_folder(source.path, *_FILES) if source.path.is_dir() else None


def _detect(source: Source) -> bool:
    return _folder(source) is not None


def _read(source: Source, problems: Problems) -> Rows:
    folder = _folder(source)
    if folder is None:
        raise DataError(f"{source.path}: needs {', '.join(_FILES)}")
    rows = Rows(folder)
    for path in walk_images(folder / "train", problems):
        rows.add(f"train/{path}", path.partition("/")[0], "train")
    listed = folder / "val/val_annotations.txt"
    for number, line in enumerate(lines_of(read_text(listed, problems)), 1):
        cells = line.split("\t")
        if len(cells) >= 2 and cells[0].strip() and cells[1].strip():
            rows.add(f"val/images/{cells[0].strip()}", cells[1].strip(), "val", file=str(listed), line=number)
        elif line.strip():
            problems.add("malformed", f"{listed}:{number}", f"expected image<TAB>class, got {line[:60]!r}")
    rows.display = _names(folder / "words.txt", set(rows.labels), problems)
    rows.label_files = [str(listed.relative_to(folder))]
    rows.readings = ["Tiny ImageNet: class = folder below train/, for val/ as val_annotations.txt says; test/ has none"]
    return rows


def _names(path: Path, wnids: set[str], problems: Problems) -> dict[str, str]:
    """n01443537 → goldfish, for those whose first name no other class has."""
    if not path.is_file():
        return {}
    pairs = (line.partition("\t") for line in lines_of(read_text(path, problems)))
    names = {wnid: name.partition(",")[0].strip() for wnid, _, name in pairs if wnid in wnids}
    counts = list(names.values())
    return {wnid: name for wnid, name in names.items() if name and counts.count(name) == 1}


TINY_IMAGENET = Format(
    "tiny-imagenet",
    "Tiny ImageNet: train/<wnid>/images/, val/images/ with val_annotations.txt, wnids.txt",
    _detect,
    _read,
)
