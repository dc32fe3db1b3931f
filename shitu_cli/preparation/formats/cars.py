"""Cars196 as class folders with anno_train.csv, or with its devkit's .mat files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shitu_cli.errors import DataError, EnvironmentProblem, UsageError, pip_install
from shitu_cli.preparation.formats.base import Format, Rows, find_folder, walk_images
from shitu_cli.preparation.formats.csv_files import read_plain_csv
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

LAST_TRAINED = 98


def _detect(source: Source) -> bool:
    root = source.path
    return root.is_dir() and _layout(root) is not None


def _layout(root: Path) -> tuple[str, Path] | None:
    for name, needed in (("mat", ("cars_annos.mat",)), ("csv", ("anno_train.csv", "names.csv"))):
        folder = find_folder(root, *needed)
        if folder is not None:
            return name, folder
    folder = find_folder(root, "cars_train", "cars_test")
    return ("devkit", folder) if folder is not None else None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    found = _layout(root)
    if found is None:
        raise DataError(f"{root}: neither cars_annos.mat, anno_train.csv nor cars_train/ with devkit/")
    protocol = source.options.protocol or "dml"
    if protocol not in ("dml", "classification"):
        raise UsageError(f"--protocol {protocol}: expected dml (classes 1-98, 99-196) or classification")
    name, folder = found
    rows = {"mat": _read_mat, "csv": _read_folders, "devkit": _read_devkit}[name](folder, problems)
    for number, label in enumerate(rows.labels):
        if protocol == "dml":
            rows.splits[number] = "train" if int(label) <= LAST_TRAINED else "eval"
    return rows


def _read_folders(folder: Path, problems: Problems) -> Rows:
    """Folders of class names; the order of names.csv numbers them."""
    names = [row[0].strip() for _, row in read_plain_csv(folder / "names.csv", problems) if row]
    # A slash in a name cannot stand in a folder's.
    number = {name.replace("/", "-"): str(n) for n, name in enumerate(names, 1)}
    base = next(
        (path for path in (folder / "car_data" / "car_data", folder / "car_data", folder) if path.is_dir()), folder
    )
    rows = Rows(base)
    rows.display = {str(n): name for n, name in enumerate(names, 1)}
    for half in ("train", "test"):
        for path in walk_images(base / half, problems) if (base / half).is_dir() else ():
            label = number.get(path.rpartition("/")[0])
            if label is None:
                problems.add("unlabelled", f"{half}/{path}", "its folder is not in names.csv")
                continue
            rows.add(f"{half}/{path}", label, half)
    return rows


def _read_mat(folder: Path, problems: Problems) -> Rows:
    table = _load_mat(folder / "cars_annos.mat")
    rows = Rows(folder)
    rows.display = {str(n): str(name) for n, name in enumerate(table["class_names"], 1)}
    for number, item in enumerate(table["annotations"], 1):
        split = "test" if int(item.test) else "train"
        rows.add(
            str(item.relative_im_path), str(int(getattr(item, "class"))), split, file="cars_annos.mat", line=number
        )
    return rows


def _read_devkit(folder: Path, problems: Problems) -> Rows:
    kit = folder / "devkit"
    rows = Rows(folder)
    for half, names in (
        ("train", ("cars_train_annos.mat",)),
        ("test", ("cars_test_annos_withlabels.mat",)),
    ):
        path = next((base / name for name in names for base in (kit, folder) if (base / name).is_file()), None)
        if path is None:
            raise DataError(
                f"{kit / names[0]} is missing", hint="cars_test_annos.mat has no classes: _withlabels is needed"
            )
        for number, item in enumerate(_load_mat(path)["annotations"], 1):
            label = str(int(getattr(item, "class")))
            rows.add(f"cars_{half}/{item.fname}", label, half, file=str(path), line=number)
    return rows


def _load_mat(path: Path) -> dict[str, Any]:
    try:
        from scipy.io import loadmat
    except ImportError:
        raise EnvironmentProblem(f"{path} needs scipy", hint=pip_install("mat")) from None
    try:
        return dict(loadmat(str(path), squeeze_me=True, struct_as_record=False))
    except (OSError, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None


CARS = Format(
    "cars196",
    "Cars196: cars_annos.mat, or cars_train/ with devkit/, or class folders with names.csv; --protocol as for cub",
    _detect,
    _read,
)
