"""CUB-200-2011: images.txt, image_class_labels.txt, train_test_split.txt."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.dataset import dataset, holding
from shitu_cli.preparation.formats.text_files import read_lines
from shitu_cli.preparation.problems import Problems

FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "images")
LAST_TRAINED, LAST = 100, 200
_PROTOCOLS = {
    "dml": f"classes up to {LAST_TRAINED} are trained, the others evaluated",
    "classification": f"all classes are trained, {FILES[2]} says on which images",
}


def _read(folder: Path, protocol: str, problems: Problems) -> Rows:
    labels, parts = (_columns(folder / name, problems) for name in FILES[1:3])
    rows = Rows(folder / "images")
    path = folder / "images.txt"
    last = max((whole_number(label) or 0 for label, _ in labels.values()), default=0)
    if not LAST_TRAINED < last <= LAST:
        protocol = "classification"  # NABirds and others have the same files, but no such halves of classes
    rows.readings = [f"{path.name}, {FILES[1]}: {_PROTOCOLS[protocol]}"]
    for image, (name, line) in _columns(path, problems).items():
        label, _ = labels.get(image, ("", 0))
        species = whole_number(label)
        if species is None:
            problems.add("malformed", f"{path}:{line}", f"image {image} has no label")
        elif protocol == "dml":
            rows.add(name, label, "train" if species <= LAST_TRAINED else "eval", file=str(path), line=line)
        else:
            trained = parts.get(image, ("", 0))[0] == "1"
            rows.add(name, label, "train" if trained else "test", file=str(path), line=line)
    if (folder / "classes.txt").is_file():
        names = _columns(folder / "classes.txt", problems)
        rows.display = {label: names[label][0] for label in set(rows.labels) if label in names}
    return rows


def _columns(path: Path, problems: Problems) -> dict[str, tuple[str, int]]:
    """Return key → value and line of a file of two columns."""
    columns = {}
    for number, line in read_lines(path, problems):
        key, _, value = line.partition(" ")
        if value:
            columns[key] = (value, number)
        else:
            problems.add("malformed", f"{path}:{number}", f"expected two columns, got {key!r}")
    return columns


CUB = dataset(
    "cub",
    "CUB-200-2011: images.txt, image_class_labels.txt, images/; --protocol dml (unseen birds: classes 101-200) or "
    "classification",
    home=holding(*FILES),
    read=_read,
    needs=", ".join(FILES),
    protocols=("dml", "classification"),
)
