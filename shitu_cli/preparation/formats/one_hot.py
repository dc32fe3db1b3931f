"""One column per class: Roboflow's _classes.csv, with a 1 for each class that an image has."""

from __future__ import annotations

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import plain_name
from shitu_cli.preparation.formats.csv_files import head_rows, header_of, read_csv
from shitu_cli.preparation.formats.discovery import annotation_files
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import words
from shitu_cli.preparation.problems import Problems

_IMAGES = {"filename", "file", "image", "imagename", "imageid", "path", "imagepath", "filepath", "name"}
_BITS = {"0": False, "1": True, "0.0": False, "1.0": True}


def _files(source: Source) -> list[str]:
    return [file for file in annotation_files(source, ".csv", ".tsv")[:2000] if _is_one_hot(source, file)]


def _is_one_hot(source: Source, file: str) -> bool:
    """Whether all columns but the first, which names images, hold nothing but 0 and 1."""
    header = header_of(source.base / file)
    if len(header) < 3 or plain_name(header[0]) not in _IMAGES:
        return False
    rows = head_rows(source.base / file)
    return bool(rows) and all(cell.strip() in _BITS for row in rows for cell in row[1:])


def _detect(source: Source) -> bool:
    return not source.options.columns and bool(_files(source))


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "a column per class")
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no table with a column of 0 and 1 for each class")
    for file in files:
        header, rows = read_csv(gathered.path(file), problems)
        for line, cells in rows:
            odd = [cell for cell in cells[1:] if cell.strip() not in _BITS]
            image = gathered.find(cells[0].strip(), file, line)
            if odd:
                gathered.bad(file, line, f"{odd[0][:40]!r}, expected 0 or 1")
            elif image is not None:
                names = [words(name) for name, cell in zip(header[1:], cells[1:], strict=True) if _BITS[cell.strip()]]
                if not names:
                    problems.add("no-objects", gathered.where(file, line), image)
                for name in names:
                    gathered.add(image, name, file, line)
    return gathered.rows()


ONE_HOT = Format(
    "one-hot",
    "a table with a column of 0 and 1 for each class (Roboflow's _classes.csv): images of exactly one class",
    _detect,
    _read,
    ANNOTATIONS,
)
