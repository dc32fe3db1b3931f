"""Cars196 as class folders with anno_train.csv, or with its devkit's .mat files."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shitu_cli.errors import DataError, require_package
from shitu_cli.inputs import MIB, read_bytes
from shitu_cli.preparation.formats.base import Rows, walk_images
from shitu_cli.preparation.formats.dataset import dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.text_files import read_plain_csv
from shitu_cli.preparation.problems import Problems

LAST_TRAINED = 98
_COMPRESSED = 15  # the kind of a part of a .mat file that zlib has packed


Reader = Callable[[Path, Problems], Rows]


def _home(source: Source) -> tuple[Reader, Path] | None:
    """Return the reader of the generation that is here, and its folder."""
    generations: tuple[tuple[Reader, tuple[str, ...]], ...] = (
        (_read_mat, ("cars_annos.mat",)),
        (_read_folders, ("anno_train.csv", "names.csv")),
        (_read_devkit, ("cars_train", "cars_test")),
    )
    for reader, names in generations:
        if (folder := source.folder_with(*names)) is not None:
            return reader, folder
    return None


def _read(home: tuple[Reader, Path], protocol: str, problems: Problems) -> Rows:
    reader, folder = home
    rows = reader(folder, problems)
    if protocol == "dml":
        rows.splits = ["train" if int(label) <= LAST_TRAINED else "eval" for label in rows.labels]
    return rows


def _read_folders(folder: Path, problems: Problems) -> Rows:
    """Read folders of class names; the order of names.csv numbers them."""
    names = [row[0].strip() for _, row in read_plain_csv(folder / "names.csv", problems)]
    # A folder's name cannot hold the slash of a class name.
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
    path = folder / "cars_annos.mat"
    table = _load_mat(path)
    rows = Rows(folder)
    rows.display = {str(n): str(name) for n, name in enumerate(np.ravel(table.get("class_names", ())), 1)}
    for number, image, label, test in _annotations(table, path, "relative_im_path", problems, "test"):
        rows.add(image, label, "test" if test else "train", file=path.name, line=number)
    return rows


def _read_devkit(folder: Path, problems: Problems) -> Rows:
    kit = folder / "devkit"
    rows = Rows(folder)
    for half, name in (("train", "cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        path = next((base / name for base in (kit, folder) if (base / name).is_file()), None)
        if path is None:
            raise DataError(
                f"{kit / name} is missing", hint="cars_test_annos.mat has no classes: _withlabels is needed"
            )
        for number, image, label, _ in _annotations(_load_mat(path), path, "fname", problems):
            rows.add(f"cars_{half}/{image}", label, half, file=str(path), line=number)
    return rows


def _annotations(
    table: dict[str, Any], path: Path, image: str, problems: Problems, test: str | None = None
) -> Iterator[tuple[int, str, str, int]]:
    """Yield number, image, class and the field `test` of each annotation; report those without them."""
    for number, item in enumerate(np.ravel(table.get("annotations", ())), 1):
        try:
            label = int(getattr(item, "class"))
            yield number, str(getattr(item, image)), str(label), int(getattr(item, test)) if test else 0
        except (AttributeError, TypeError, ValueError, OverflowError) as error:
            problems.add("malformed", f"{path}:{number}", f"annotation {number}: {error}"[:200])


def _load_mat(path: Path) -> dict[str, Any]:
    scipy_io = require_package("scipy.io", "mat", str(path))
    data = read_bytes(path, limit=64 * MIB)
    _check_packed(data, path)
    try:
        return dict(scipy_io.loadmat(io.BytesIO(data), squeeze_me=True, struct_as_record=False))
    except Exception as error:  # scipy documents none of its errors, and damage raises many kinds
        raise DataError(f"{path} cannot be read: {error or type(error).__name__}") from None


def _check_packed(data: bytes, path: Path) -> None:
    """Refuse a file whose compressed parts become far larger than these annotations are."""
    order: Literal["little", "big"] = "big" if data[126:128] == b"MI" else "little"
    at, left = 128, 256 * MIB
    while at + 8 <= len(data) and left > 0:
        kind, size = (int.from_bytes(data[at + k : at + k + 4], order) for k in (0, 4))
        if kind == _COMPRESSED:
            with contextlib.suppress(zlib.error):  # loadmat says what is wrong
                left -= len(zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], left))
        at += 8 + size
    if left <= 0:
        raise DataError(f"{path} is too large: unpacked, such a file may have at most 256 MiB")


CARS = dataset(
    "cars196",
    "Cars196: cars_annos.mat, or cars_train/ with devkit/, or class folders with names.csv; --protocol dml (unseen "
    "cars: classes 99-196) or classification",
    home=_home,
    read=_read,
    needs="cars_annos.mat, anno_train.csv with names.csv, or cars_train/ with devkit/",
    protocols=("dml", "classification"),
)
