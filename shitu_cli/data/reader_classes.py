"""Data sets that a PaddleClas config names by a reader class of their own, written as plain lists.

What the classes read is in PaddleClas's ppcls/data/dataloader: logo_dataset.py and person_dataset.py.
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
from shitu_cli.data.lists import ImageList, write_list
from shitu_cli.errors import DataError
from shitu_cli.inputs import read_text

SPLITS = ("train", "query", "gallery")
_PERSON = re.compile(r"(?P<label>-?\d+)_c(?P<camera>\d+)")
_FOLDERS = {
    "Market1501": "market1501/Market-1501-v15.09.15",
    "MSMT17": "msmt17/MSMT17_V1",
    "DukeMTMC": "dukemtmc/DukeMTMC-reID",
}


def as_lists(config: Config, folder: Path, needed: Collection[str] = ()) -> Config:
    """The config with lists, written into `folder`, for what is not a list of its own yet; `written` keeps the rest.

    Raises DataError for folders that are not there and for lines and names that are not what the class reads, where
    that is one of the splits (train, query, gallery) that are `needed`; others then stay as they are.
    """
    loaders = config.DataLoader
    listed: dict[str, SplitConfig] = {}
    for name in SPLITS:
        split: SplitConfig | None = getattr(loaders, name)
        if split is not None and split.dataset.name in READERS:
            with contextlib.nullcontext() if name in needed else contextlib.suppress(DataError):
                listed[name] = _listed(split, folder)
    if not listed:
        return config
    written = {name: getattr(loaders, name).dataset for name in listed}
    return dataclasses.replace(config, DataLoader=dataclasses.replace(loaders, **listed), written=written)


def _listed(split: SplitConfig, folder: Path) -> SplitConfig:
    dataset = split.dataset
    images = READERS[dataset.name](dataset)
    if not len(images):
        raise DataError(f"{images.source}: no pictures that {dataset.name} reads")
    # Named by what it was made of: commands with other configs may run at the same time.
    whole = (dataset.name, dataset.image_root, dataset.cls_label_path)
    path = folder / f"{dataset.name}-{hashlib.sha256(repr(whole).encode()).hexdigest()[:12]}.txt"
    write_list(path, images)
    plain = dataclasses.replace(dataset, name="ImageNetDataset", cls_label_path=str(path.absolute()), delimiter=None)
    return dataclasses.replace(split, dataset=plain)


def _logos(dataset: DatasetConfig) -> ImageList:
    """Lines of image_id, class id from 1, name, path, separated by tabs, below a heading."""
    path = Path(dataset.cls_label_path)
    lines = read_text(path, keep_bytes=True).splitlines()
    files, labels, problems = [], [], []
    for number, line in enumerate(lines, 1):
        columns = line.strip().split("\t")
        if not line.strip() or columns[0] == "image_id":
            continue
        if len(columns) < 4 or not columns[1].isdecimal() or int(columns[1]) < 1:
            problems.append(f"{path}:{number}: expected image_id, class from 1, name and path, separated by tabs")
            continue
        files.append(columns[3])
        labels.append(int(columns[1]) - 1)
    if problems:
        raise DataError(f"{path}: {len(problems)} lines are not LogoDataset's", details=problems[:50])
    return ImageList.of(files, labels, source=path)


def _persons(dataset: DatasetConfig) -> ImageList:
    """Names such as 0002_c1s1_000451_03.jpg: person 2, camera 1; -1 is of nobody. Training labels are made dense."""
    root = Path(dataset.image_root)
    wanted = [root / _FOLDERS[dataset.name] / dataset.cls_label_path, root / dataset.cls_label_path]
    folder = next((path for path in wanted if path.is_dir()), None)
    if folder is None:
        raise DataError(
            f"no folder {wanted[0]}", details=[f"no folder {wanted[1]}"], hint=f"that is where {dataset.name} is read"
        )
    files, labels, cameras = [], [], []
    for path in sorted(folder.glob("*.jpg")):
        match = _PERSON.match(path.name)
        if match is None:
            raise DataError(f"{path}: the name does not say person and camera, as 0002_c1s1_000451_03.jpg does")
        if int(match["label"]) >= 0:
            files.append(path.relative_to(root).as_posix())
            labels.append(int(match["label"]))
            cameras.append(int(match["camera"]) - 1)
    numbers = np.unique(labels, return_inverse=True)[1] if "train" in dataset.cls_label_path else np.array(labels)
    return ImageList.of(files, numbers.astype(np.int64), cameras, source=folder)


READERS: dict[str, Callable[[DatasetConfig], ImageList]] = {
    "LogoDataset": _logos,
    **dict.fromkeys(FOLDER_READERS, _persons),
}
