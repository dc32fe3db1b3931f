"""LogoDet-3K: <kind>/<logo>/<n>.jpg with <n>.xml; every box is one picture."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from shitu_cli.preparation.formats.base import Format, Rows, walk_images
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

KINDS = {"Food", "Clothes", "Necessities", "Others", "Electronic", "Transportation", "Leisure", "Sports", "Medical"}


def _folder(root: Path) -> Path | None:
    if not root.is_dir():
        return None
    for folder in (root, *sorted(path for path in root.glob("*") if path.is_dir())):
        if any((folder / kind).is_dir() for kind in KINDS) and next(folder.glob("*/*/*.xml"), None) is not None:
            return folder
    return None


def _detect(source: Source) -> bool:
    root = source.path
    return _folder(root) is not None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    rows = Rows(_folder(root) or root)
    for path in walk_images(rows.root, problems):
        label = path.rpartition("/")[0]  # the folder, as names inside the files differ in case and blanks
        if label.count("/") != 1:
            problems.add("unlabelled", path)
            continue
        xml = (rows.root / path).with_suffix(".xml")
        if not xml.is_file():
            problems.add("malformed", str(xml), f"no boxes for {path}")
            continue
        try:
            objects = ElementTree.parse(xml).getroot().findall("object")
        except ElementTree.ParseError as error:
            problems.add("malformed", str(xml), str(error))
            continue
        for number, item in enumerate(objects, 1):
            values = [item.findtext(f"bndbox/{name}") for name in ("xmin", "ymin", "xmax", "ymax")]
            try:
                x1, y1, x2, y2 = (float(value or "") for value in values)
            except ValueError:
                problems.add("malformed", str(xml), f"object {number}: box {values}")
                continue
            if not (x1 < x2 and y1 < y2):
                problems.add("bad-box", str(xml), f"object {number}: {x1:g},{y1:g},{x2:g},{y2:g}")
                continue
            rows.add(path, label, box=(x1, y1, x2, y2), file=str(xml), line=number)
    return rows


LOGODET = Format(
    "logodet3k",
    "LogoDet-3K: Food/<logo>/1.jpg with 1.xml; one picture per box, cut out when read; no official split",
    _detect,
    _read,
)
