"""FGVC-Aircraft: images/ and images_variant_train.txt, also for families and manufacturers."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, lines_of, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

LEVELS = ("variant", "family", "manufacturer")


def _folder(source: Source) -> Path | None:
    return find_folder(source.path, "images", "images_variant_train.txt") if source.path.is_dir() else None


def _detect(source: Source) -> bool:
    return _folder(source) is not None


def _read(source: Source, problems: Problems) -> Rows:
    folder = _folder(source)
    if folder is None:
        raise DataError(f"{source.path}: needs images/ and images_variant_train.txt")
    level = source.options.protocol or "variant"
    if level not in LEVELS:
        raise UsageError(f"--protocol {level}: expected {', '.join(LEVELS)} for FGVC-Aircraft")
    rows = Rows(folder / "images")
    for split in ("train", "val", "test"):
        path = folder / f"images_{level}_{split}.txt"
        if not path.is_file():
            if split == "train":
                raise DataError(f"{path} is missing")
            continue
        rows.label_files.append(path.name)
        for number, line in enumerate(lines_of(read_text(path, problems)), 1):
            image, _, name = line.strip().partition(" ")
            if name:
                rows.add(f"{image}.jpg", name, split, file=str(path), line=number)
            elif image:
                problems.add("malformed", f"{path}:{number}", f"expected image and class, got {image[:60]!r}")
    rows.readings = [f"{', '.join(rows.label_files)}: FGVC-Aircraft, class = {level}; --protocol names another level"]
    return rows


AIRCRAFT = Format(
    "aircraft",
    "FGVC-Aircraft: images/, images_variant_train.txt, ...; --protocol variant, family or manufacturer",
    _detect,
    _read,
)
