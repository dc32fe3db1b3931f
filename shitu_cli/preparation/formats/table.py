"""Tables with a header: named columns, OML's among them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shitu_cli.errors import UsageError
from shitu_cli.preparation.formats import base
from shitu_cli.preparation.formats.base import Box, Format, Rows, read_text, whole_label
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.textlist import role_of
from shitu_cli.preparation.problems import Problems

ALIASES = {
    "image": ("image", "path", "file", "filename", "file_name", "image_path", "img", "name", "image_name"),
    "label": ("label", "class", "category_id", "class_id", "target", "item_id", "sku", "product_id"),
    "split": ("split", "partition", "subset", "set", "evaluation_status"),
    "id": ("id", "sequence"),
    "camera": ("camera", "camera_id", "camid", "cam"),
    "box": ("box", "bbox"),
}
CORNERS = ("x_1", "y_1", "x_2", "y_2")
SPLITS = {"train": "train", "training": "train", "query": "query", "gallery": "gallery", "test": "test", "": ""}
SPLITS |= {"val": "val", "valid": "val", "validation": "val"}
TRUE = {"true", "1", "1.0", "yes"}


def _tables(root: Path) -> list[Path]:
    if root.is_file():
        return [root] if root.suffix.lower() in (".csv", ".tsv") else []
    return [p for p in sorted(root.glob("*")) if p.suffix.lower() in (".csv", ".tsv") and p.name != "classes.csv"]


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        line = file.readline(65536)
    try:
        lines = line.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        lines = line.decode("gb18030", "replace").splitlines()
    try:
        return next(csv.reader(lines[:1], delimiter=_delimiter(lines[0] if lines else "")), [])
    except csv.Error:
        return []


def _delimiter(text: str) -> str:
    return max("\t,;|", key=text.count)


def _columns(header: list[str], chosen: Mapping[str, str], path: Path) -> dict[str, int]:
    """Role → column number; UsageError for a column that the user named and that is not there."""
    plain = [name.strip() for name in header]
    lower = [name.lower() for name in plain]
    found = {}
    for role, names in ALIASES.items():
        if role in chosen:
            if chosen[role] not in plain:
                raise UsageError(f"{path}: no column {chosen[role]!r}; there are {', '.join(plain)}")
            found[role] = plain.index(chosen[role])
        else:
            at = next((lower.index(name) for name in names if name in lower), None)
            if at is not None and at not in found.values():
                found[role] = at
    return found


def _detect(source: Source) -> bool:
    root = source.path
    for path in _tables(root):
        found = _columns(_header(path), {}, path)
        if "image" in found and "label" in found:
            return True
    return False


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    base = root.parent if root.is_file() else root
    rows = Rows(source.options.image_root or base)
    tables = _tables(root)
    if not tables:
        raise UsageError(f"{root}: no .csv or .tsv file")
    for path in tables:
        found = _columns(_header(path), source.options.columns, path)
        if "image" in found and "label" in found:
            _read_table(path, found, rows, problems, root_dir=rows.root)
        elif root.is_file():
            header = ", ".join(_header(path))
            raise UsageError(
                f"{path}: which columns hold picture and label? there are {header}",
                hint="--columns image=...,label=...",
            )
    return rows


def _read_table(path: Path, at: dict[str, int], rows: Rows, problems: Problems, *, root_dir: Path) -> None:
    text = read_text(path, problems)
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=_delimiter(first))
    header = [name.strip() for name in next(_rows(reader, path, problems))]
    # Without a column the file's name tells: train.csv beside test.csv.
    by_name = "" if "split" in at else role_of(path) or ""
    flags: dict[str, int] = {name: header.index(name) for name in ("is_query", "is_gallery") if name in header}
    corners = [header.index(name) for name in CORNERS] if set(CORNERS) <= set(header) else None
    for cells in _rows(reader, path, problems):
        where = (str(path), reader.line_num)
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            problems.add("malformed", f"{path}:{reader.line_num}", f"{len(cells)} cells, the header has {len(header)}")
            continue
        image, label = cells[at["image"]].strip().replace("\\", "/"), cells[at["label"]].strip()
        if not image or not label:
            problems.add("malformed", f"{path}:{reader.line_num}", "picture or label is empty")
            continue
        split = cells[at["split"]].strip().lower() if "split" in at else ""
        if split not in SPLITS:
            problems.add("malformed", f"{path}:{reader.line_num}", f"split {split!r}, expected train, val, query, ...")
            continue
        box, bad = _box(cells, at.get("box"), corners)
        if bad:
            problems.add("malformed", f"{path}:{reader.line_num}", f"box {bad!r}, expected x1,y1,x2,y2")
            continue
        identity = next((cells[at[role]].strip() for role in ("camera", "id") if role in at), None) or None
        for part in _splits(SPLITS[split] or by_name, cells, flags):
            rows.add(image, whole_label(label), part, id=identity, box=box, file=where[0], line=where[1])


def _rows(reader: Any, path: Path, problems: Problems) -> Iterator[list[str]]:
    """The reader's rows; lines that are no CSV are reported and left out."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problems.add("malformed", f"{path}:{reader.line_num}", str(error))


def _splits(split: str, cells: list[str], flags: dict[str, int]) -> list[str]:
    """OML marks validation rows as query, gallery or both."""
    if split != "val" or not flags:
        return [split]
    names = [name for name in ("query", "gallery") if cells[flags[f"is_{name}"]].strip().lower() in TRUE]
    return names or ["val"]


def _box(cells: list[str], at: int | None, corners: list[int] | None) -> tuple[Box | None, str]:
    if corners is not None:
        texts = [cells[n].strip() for n in corners]
    elif at is not None:
        texts = cells[at].replace(",", " ").replace(";", " ").strip("[]() ").split()
    else:
        return None, ""
    if not any(texts):
        return None, ""
    try:
        x1, y1, x2, y2 = (float(text) for text in texts)
    except ValueError:
        return None, " ".join(texts)
    return (x1, y1, x2, y2), ""


TABLE = Format(
    "table",
    "a .csv or .tsv with a header: picture, label, and if you like split, id or camera, box; OML's too; see --columns",
    _detect,
    _read,
    base.TABLE,
)
