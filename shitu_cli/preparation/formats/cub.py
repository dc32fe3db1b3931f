"""CUB-200-2011: images.txt, image_class_labels.txt, train_test_split.txt."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError, UsageError
from shitu_cli.inputs import whole_number
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

FILES = ("images.txt", "image_class_labels.txt", "train_test_split.txt", "images")
LAST_TRAINED = 100


def _detect(source: Source) -> bool:
    root = source.path
    return root.is_dir() and find_folder(root, *FILES) is not None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    folder = find_folder(root, *FILES)
    if folder is None:
        raise DataError(f"{root}: needs {', '.join(FILES)}")
    protocol = source.options.protocol or "dml"
    if protocol not in ("dml", "classification"):
        raise UsageError(f"--protocol {protocol}: expected dml (classes 1-100, 101-200) or classification")
    labels = _pairs(folder / "image_class_labels.txt", problems)
    trained = _pairs(folder / "train_test_split.txt", problems)
    rows = Rows(folder / "images")
    listed = folder / "images.txt"
    names = _pairs(folder / "classes.txt", problems) if (folder / "classes.txt").is_file() else {}
    for number, (image, (path, line)) in enumerate(_pairs_with_lines(listed, problems).items(), 1):
        label = labels.get(image)
        species = whole_number(label or "")
        if label is None or species is None:
            problems.add("malformed", f"{listed}:{line or number}", f"image {image} has no label")
            continue
        if protocol == "dml":
            split = "train" if species <= LAST_TRAINED else "eval"
        else:
            split = "train" if trained.get(image) == "1" else "test"
        rows.add(path, label, split, file=str(listed), line=line)
    rows.display = {label: names[label] for label in set(rows.labels) if label in names}
    return rows


def _pairs_with_lines(path: Path, problems: Problems) -> dict[str, tuple[str, int]]:
    found = {}
    for number, line in enumerate(read_text(path, problems).split("\n"), 1):
        key, _, value = line.strip().partition(" ")
        if value:
            found[key] = (value, number)
        elif key:
            problems.add("malformed", f"{path}:{number}", f"expected two columns, got {key!r}")
    return found


def _pairs(path: Path, problems: Problems) -> dict[str, str]:
    return {key: value for key, (value, _) in _pairs_with_lines(path, problems).items()}


CUB = Format(
    "cub",
    "CUB-200-2011: images.txt, image_class_labels.txt, images/; --protocol dml (unseen birds) or classification",
    _detect,
    _read,
)
