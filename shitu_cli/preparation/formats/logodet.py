"""LogoDet-3K: <kind>/<logo>/<n>.jpg with <n>.xml; every box is one image. A single <kind> is read too."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Rows, walk_images
from shitu_cli.preparation.formats.boxes import numbers, plain_name
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.text_files import read_xml
from shitu_cli.preparation.problems import Problems

_GROUPS = {"Food", "Clothes", "Necessities", "Others", "Electronic", "Transportation", "Leisure", "Sports", "Medical"}
_PROBED_FILES = 10


def _home(source: Source) -> tuple[Path, str] | None:
    """Return the folder of the kinds, and the kind to read ("" for all of them)."""
    root = source.path
    for folder in (root, *sorted(path for path in root.glob("*") if path.is_dir())):
        if any((folder / kind).is_dir() for kind in _GROUPS) and next(folder.glob("*/*/*.xml"), None) is not None:
            return folder, ""
    whole = root.resolve()
    return (whole.parent, whole.name) if whole.name in _GROUPS and _named_by_folders(whole) else None


def _named_by_folders(kind: Path) -> bool:
    """Return whether the first boxes have nearly the names of their folders: Acme-1 holds acme."""
    files = [path for path, _ in zip(kind.glob("*/*.xml"), range(_PROBED_FILES), strict=False)]
    return bool(files) and all(map(_is_named, files))


def _is_named(path: Path) -> bool:
    try:
        names = {plain_name(item.findtext("name") or "") for item in read_xml(path).findall("object")}
    except DataError:
        return True
    return names <= {plain_name(path.parent.name), plain_name(path.parent.name.rpartition("-")[0])}


def _read(home: tuple[Path, str], protocol: str, problems: Problems) -> Rows:
    root, kind = home
    rows = Rows(root)
    for name in walk_images(root / kind, problems):
        path = f"{kind}/{name}" if kind else name
        label = path.rpartition("/")[0]  # the folder, as names inside the files differ in case and blanks
        xml = (root / path).with_suffix(".xml")
        if label.count("/") != 1:
            problems.add("unlabelled", path)
        elif not xml.is_file():
            problems.add("no-annotation", str(root / path), f"no {xml.name} beside it")
        else:
            _add_boxes(rows, path, label, xml, problems)
    rows.readings.append("LogoDet-3K: every box of an .xml is an image of the folder's logo")
    return rows


def _add_boxes(rows: Rows, path: str, label: str, xml: Path, problems: Problems) -> None:
    try:
        objects = read_xml(xml).findall("object")
    except DataError as error:
        problems.add("bad-annotation", error.message)
        return
    for number, item in enumerate(objects, 1):
        texts = [item.findtext(f"bndbox/{side}") or "" for side in ("xmin", "ymin", "xmax", "ymax")]
        values = numbers(texts)
        if values is None:
            problems.add("bad-annotation", f"{xml}: object {number}", f"box {', '.join(texts)[:60]}")
            continue
        x1, y1, x2, y2 = values
        if x1 < x2 and y1 < y2:
            rows.add(path, label, box=(x1, y1, x2, y2), file=str(xml), line=number)
        else:
            problems.add("bad-box", str(xml), f"object {number}: {x1:g},{y1:g},{x2:g},{y2:g}")


LOGODET = dataset(
    "logodet3k",
    "LogoDet-3K: Food/<logo>/1.jpg with 1.xml; one image per box, cut out when read; no official split",
    home=_home,
    read=_read,
    needs="Food/<logo>/1.jpg with 1.xml beside it, or another of its kinds",
)
