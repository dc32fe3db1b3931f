"""Stanford Online Products: Ebay_train.txt and Ebay_test.txt."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset, holding
from shitu_cli.preparation.problems import Problems


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
    rows = Rows(folder)
    for name, split in (("Ebay_train.txt", "train"), ("Ebay_test.txt", "eval")):

        def parse(line: str, split: str = split) -> list[Entry] | None:
            cells = line.split(maxsplit=3)
            return [Entry(cells[3], cells[1], split)] if len(cells) == 4 else None

        if (folder / name).is_file():
            add_lines(rows, folder / name, parse, "image_id class_id super_class_id path", problems, skip=1)
    return rows


SOP = dataset(
    "sop",
    "Stanford Online Products: Ebay_train.txt, Ebay_test.txt, *_final/*.JPG; each test image against the rest",
    home=holding("Ebay_train.txt"),
    read=_read,
    needs="Ebay_train.txt",
)
