"""Products-10K: train.csv and test_kaggletest.csv."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.delimited import header_of
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.text_files import read_plain_csv
from shitu_cli.preparation.problems import Problems

_ROW = re.compile(rb"\n[^\n,]+,\d")  # others have names of classes there


def _home(source: Source) -> Path | None:
    folder = source.folder_with("train.csv", "train")
    head = first_bytes(folder / "train.csv") if folder is not None else b""
    if folder is None or [name.lower() for name in header_of(head)[:2]] != ["name", "class"]:
        return None
    return folder if _ROW.search(head) else None


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
    rows = Rows(folder)
    for name, split in (("train.csv", "train"), ("test_kaggletest.csv", "test")):
        path = folder / name
        for line, cells in islice(read_plain_csv(path, problems), 1, None) if path.is_file() else ():
            if len(cells) < 2 or not cells[1].strip().isdecimal():
                problems.add("malformed", f"{path}:{line}", f"expected name,class, got {','.join(cells)[:60]!r}")
            else:
                rows.add(f"{split}/{cells[0].strip()}", cells[1].strip(), split, file=str(path), line=line)
    return rows


PRODUCTS10K = dataset(
    "products10k",
    "Products-10K: train.csv, test_kaggletest.csv, train/, test/; queries from test, gallery = training images",
    home=_home,
    read=_read,
    needs="train.csv with name,class, and train/ beside it",
)
