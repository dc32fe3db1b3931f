"""Convert datasets for which PaddleClas has its own reader class to plain lists.

The formats are those of PaddleClas's ppcls/data/dataloader: logo_dataset.py, person_dataset.py, vehicle_dataset.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from shitu_cli.config.places import FOLDER_READERS
from shitu_cli.config.schema import Config, DatasetConfig, SplitConfig
from shitu_cli.data.lists import MAX_SHOWN, ImageList, read_list, write_list
from shitu_cli.errors import DataError
from shitu_cli.inputs import read_text, whole_number
from shitu_cli.reporting import shortened

_PERSON = re.compile(r"(?P<label>-?\d{1,9})_c(?P<camera>\d{1,9})")
_FOLDERS = {
    "Market1501": "market1501/Market-1501-v15.09.15",
    "MSMT17": "msmt17/MSMT17_V1",
    "DukeMTMC": "dukemtmc/DukeMTMC-reID",
}


def as_lists(config: Config, folder: Path, required: Collection[str] = ()) -> Config:
    """Return the config with plain lists, written to `folder`; its `written` holds the original datasets.

    Raises DataError for missing folders and for lines and names that the class cannot read, if they belong to one of
    the `required` splits (train, query, gallery); other splits then stay unchanged.
    """
    loaders = config.DataLoader
    splits: dict[str, SplitConfig] = {}
    for name, split in loaders.splits.items():
        if split.dataset.name in READERS:
            with contextlib.nullcontext() if name in required else contextlib.suppress(DataError):
                splits[name] = _as_list(split, folder)
    if not splits:
        return config
    written = {name: loaders.splits[name].dataset for name in splits}
    return dataclasses.replace(config, DataLoader=dataclasses.replace(loaders, **splits), written=written)


def _as_list(split: SplitConfig, folder: Path) -> SplitConfig:
    dataset = split.dataset
    images = READERS[dataset.name](dataset)
    if not len(images):
        raise DataError(f"{images.source}: no images that {dataset.name} can read")
    # The name depends on the source: commands with other configs may run at the same time.
    origin = (
        dataset.name,
        dataset.image_root,
        dataset.cls_label_path,
        dataset.label_root if dataset.bbox_crop else None,
    )
    path = folder / f"{dataset.name}-{hashlib.sha256(repr(origin).encode()).hexdigest()[:12]}.txt"
    write_list(path, images)
    plain = dataclasses.replace(
        dataset,
        name="ImageNetDataset",
        cls_label_path=str(path.absolute()),
        delimiter=None,
        label_root=None,
        bbox_crop=False,
        ids=True,
    )
    return dataclasses.replace(split, dataset=plain)


def _logos(dataset: DatasetConfig) -> ImageList:
    """Read lines of image_id, class id from 1, name and path, separated by tabs, below a heading."""
    path = Path(dataset.cls_label_path)
    lines = read_text(path, keep_bytes=True).splitlines()
    files, labels, problems = [], [], []
    for number, line in enumerate(lines, 1):
        columns = line.strip().split("\t")
        if not line.strip() or columns[0] == "image_id":
            continue
        label = whole_number(columns[1]) if len(columns) >= 4 else None
        if not label:
            problems.append(f"{path}:{number}: expected image_id, class from 1, name and path, separated by tabs")
            continue
        files.append(columns[3])
        labels.append(label - 1)
    if problems:
        raise DataError(
            f"{path}: {len(problems)} lines do not have the format of LogoDataset",
            details=shortened(problems, MAX_SHOWN),
        )
    return ImageList.of(files, labels, source=path)


def _persons(dataset: DatasetConfig) -> ImageList:
    """Read names such as 0002_c1s1_000451_03.jpg: person 2, camera 1; -1 is no person. Training labels become dense."""
    root = Path(dataset.image_root)
    candidates = [root / _FOLDERS[dataset.name] / dataset.cls_label_path, root / dataset.cls_label_path]
    folder = next((path for path in candidates if path.is_dir()), None)
    if folder is None:
        raise DataError(
            f"no folder {candidates[0]}",
            details=[f"no folder {candidates[1]}"],
            hint=f"{dataset.name} is expected in one of them",
        )
    files, labels, cameras = [], [], []
    for path in sorted(folder.glob("*.jpg")):
        match = _PERSON.match(path.name)
        if match is None:
            raise DataError(f"{path}: the name lacks person and camera; expected one like 0002_c1s1_000451_03.jpg")
        if int(match["label"]) >= 0:
            files.append(path.relative_to(root).as_posix())
            labels.append(int(match["label"]))
            cameras.append(int(match["camera"]) - 1)
    numbers = np.unique(labels, return_inverse=True)[1] if "train" in dataset.cls_label_path else np.array(labels)
    return ImageList.of(files, numbers.astype(np.int64), cameras, source=folder)


def _cars(dataset: DatasetConfig) -> ImageList:
    """Read a plain list; with `bbox_crop`, the box of each car from the last line of its file below `label_root`."""
    images = read_list(Path(dataset.cls_label_path), delimiter=dataset.delimiter)
    images = dataclasses.replace(images, ids=None)
    if not dataset.bbox_crop or dataset.label_root is None:
        return images
    boxes, problems = np.zeros((len(images), 4), np.float32), []
    for index in range(len(images)):
        file = Path(dataset.label_root, images.path(index).partition(".")[0] + ".txt")
        try:
            numbers = [whole_number(word) for word in read_text(file).splitlines()[-1].split()]
        except (DataError, IndexError):
            numbers = []
        if len(numbers) != 4 or None in numbers:
            problems.append(f"{images.place(index)}: {file} does not end with x1 y1 x2 y2")
        else:
            boxes[index] = numbers
    if problems:
        raise DataError(
            f"{dataset.label_root}: no boxes of {len(problems)} of {len(images)} images",
            details=shortened(problems, MAX_SHOWN),
            hint="use the whole images instead: -o DataLoader.Train.dataset.bbox_crop=False, and likewise for Eval",
        )
    return dataclasses.replace(images, boxes=boxes)


READERS: dict[str, Callable[[DatasetConfig], ImageList]] = {
    "LogoDataset": _logos,
    "CompCars": _cars,
    **dict.fromkeys(FOLDER_READERS, _persons),
}
