"""FGVC-Aircraft: images/ and images_variant_train.txt, also for families and manufacturers."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset, holding
from shitu_cli.preparation.problems import Problems


def _read(folder: Path, level: str, problems: Problems) -> Rows:
    rows = Rows(folder / "images")
    for split in ("train", "val", "test"):
        path = folder / f"images_{level}_{split}.txt"
        if split != "train" and not path.is_file():
            continue

        def parse(line: str, split: str = split) -> list[Entry] | None:
            image, _, name = line.partition(" ")
            return [Entry(f"{image}.jpg", name.strip(), split)] if name.strip() else None

        rows.label_files.append(path.name)
        add_lines(rows, path, parse, "image and class", problems)
    rows.readings = [f"{', '.join(rows.label_files)}: FGVC-Aircraft, class = {level}; --protocol names another level"]
    return rows


AIRCRAFT = dataset(
    "aircraft",
    "FGVC-Aircraft: images/, images_variant_train.txt, ...; --protocol variant, family or manufacturer",
    home=holding("images", "images_variant_train.txt"),
    read=_read,
    needs="images/ and images_variant_train.txt",
    protocols=("variant", "family", "manufacturer"),
)
