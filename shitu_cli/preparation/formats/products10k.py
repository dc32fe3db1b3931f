"""Products-10K: train.csv and test_kaggletest.csv."""

from __future__ import annotations

from itertools import islice

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, head_of
from shitu_cli.preparation.formats.csv_files import read_plain_csv
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _detect(source: Source) -> bool:
    root = source.path
    folder = find_folder(root, "train.csv", "train") if root.is_dir() else None
    if folder is None:
        return False
    names = head_of(folder / "train.csv").decode("utf-8-sig", "replace").partition("\n")[0].split(",")
    return [name.strip().lower() for name in names][:2] == ["name", "class"]


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, "train.csv", "train")
    if folder is None:
        raise DataError(f"{root}: no train.csv with train/ beside it")
    rows = Rows(folder)
    for name, split in (("train.csv", "train"), ("test_kaggletest.csv", "test")):
        path = folder / name
        if not path.is_file():
            continue
        for line, cells in islice(read_plain_csv(path, problems), 1, None):
            if len(cells) < 2 or not cells[1].strip().isdecimal():
                problems.add("malformed", f"{path}:{line}", f"expected name,class, got {','.join(cells)[:60]!r}")
                continue
            rows.add(f"{split}/{cells[0].strip()}", cells[1].strip(), split, file=str(path), line=line)
    return rows


PRODUCTS10K = Format(
    "products10k",
    "Products-10K: train.csv, test_kaggletest.csv, train/, test/; queries from test, gallery = training pictures",
    _detect,
    _read,
)
