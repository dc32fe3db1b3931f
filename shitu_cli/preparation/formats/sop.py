"""Stanford Online Products: Ebay_train.txt and Ebay_test.txt."""

from __future__ import annotations

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems


def _detect(source: Source) -> bool:
    root = source.path
    return root.is_dir() and find_folder(root, "Ebay_train.txt") is not None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, "Ebay_train.txt")
    if folder is None:
        raise DataError(f"{root}: no Ebay_train.txt")
    rows = Rows(folder)
    for name, split in (("Ebay_train.txt", "train"), ("Ebay_test.txt", "eval")):
        path = folder / name
        if not path.is_file():
            continue
        for number, line in enumerate(read_text(path, problems).split("\n"), 1):
            parts = line.split(maxsplit=3)
            if number == 1 or not parts:
                continue  # image_id class_id super_class_id path
            if len(parts) != 4:
                problems.add("malformed", f"{path}:{number}", f"expected 4 columns, got {line.strip()!r}")
                continue
            rows.add(parts[3].strip(), parts[1], split, file=str(path), line=number)
    return rows


SOP = Format(
    "sop",
    "Stanford Online Products: Ebay_train.txt, Ebay_test.txt, *_final/*.JPG; each test picture against the rest",
    _detect,
    _read,
)
