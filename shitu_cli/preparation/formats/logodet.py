"""LogoDet-3K: <kind>/<logo>/<n>.jpg with <n>.xml; every box is one image. One of its kinds alone is read as well."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, walk_images
from shitu_cli.preparation.formats.boxes import numbers
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.xml_files import read_xml
from shitu_cli.preparation.problems import Problems

KINDS = {"Food", "Clothes", "Necessities", "Others", "Electronic", "Transportation", "Leisure", "Sports", "Medical"}
_PROBED_FILES = 10


def _folder(root: Path) -> tuple[Path, str] | None:
    """The folder of the kinds, and the kind to read ("" for all of them)."""
    if not root.is_dir():
        return None
    for folder in (root, *sorted(path for path in root.glob("*") if path.is_dir())):
        if any((folder / kind).is_dir() for kind in KINDS) and next(folder.glob("*/*/*.xml"), None) is not None:
            return folder, ""
    whole = root.resolve()
    return (whole.parent, whole.name) if whole.name in KINDS and _named_by_folders(whole) else None


def _named_by_folders(kind: Path) -> bool:
    """Whether the first boxes are called as their folders, but for case, blanks and a number: Acme-1 holds acme."""
    files = [path for path, _ in zip(kind.glob("*/*.xml"), range(_PROBED_FILES), strict=False)]
    return bool(files) and all(_is_named(path) for path in files)


def _is_named(path: Path) -> bool:
    try:
        names = {_plain(item.findtext("name") or "") for item in read_xml(path).findall("object")}
    except DataError:
        return True
    return names <= {_plain(path.parent.name), _plain(path.parent.name.rpartition("-")[0])}


def _plain(name: str) -> str:
    return "".join(sign for sign in name.casefold() if sign.isalnum())


def _detect(source: Source) -> bool:
    return _folder(source.path) is not None


def _read(source: Source, problems: Problems) -> Rows:
    root, kind = _folder(source.path) or (source.path, "")
    rows = Rows(root)
    for name in walk_images(root / kind, problems):
        path = f"{kind}/{name}" if kind else name
        label = path.rpartition("/")[0]  # the folder, as names inside the files differ in case and blanks
        if label.count("/") != 1:
            problems.add("unlabelled", path)
            continue
        xml = (root / path).with_suffix(".xml")
        if not xml.is_file():
            problems.add("no-annotation", str(root / path), f"no {xml.name} beside it")
            continue
        try:
            objects = read_xml(xml).findall("object")
        except DataError as error:
            problems.add("bad-annotation", error.message)
            continue
        for number, item in enumerate(objects, 1):
            texts = [item.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")]
            values = numbers(texts)
            if values is None:
                problems.add("bad-annotation", f"{xml}: object {number}", f"box {', '.join(texts)[:60]}")
                continue
            x1, y1, x2, y2 = values
            if not (x1 < x2 and y1 < y2):
                problems.add("bad-box", str(xml), f"object {number}: {x1:g},{y1:g},{x2:g},{y2:g}")
                continue
            rows.add(path, label, box=(x1, y1, x2, y2), file=str(xml), line=number)
    rows.readings.append("LogoDet-3K: every box of an .xml is an image of the folder's logo")
    return rows


LOGODET = Format(
    "logodet3k",
    "LogoDet-3K: Food/<logo>/1.jpg with 1.xml; one image per box, cut out when read; no official split",
    _detect,
    _read,
)
