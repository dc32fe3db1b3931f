"""Which images of query and gallery are one photo: it is no answer to itself, or every recall would be 1.

A photo may be named by different paths, in other spellings or through links. Asking the system about each file would
take long for millions of images on a network's disk. So folders are asked about, which are few, and only those files
whose features begin with the same bits: one photo has one feature.
"""

from __future__ import annotations

import os

import numpy as np

from shitu_cli.data.dataset import RecDataset
from shitu_cli.features.list_features import ListFeatures
from shitu_cli.stores import is_stored, join, real


def identities_of(query: ListFeatures, gallery: ListFeatures) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers int64 of the images of both, equal for the same file, of which boxes may be several images."""
    numbers: dict[str, int] = {}
    of_query, of_gallery = (_numbers(part.dataset, numbers) for part in (query, gallery))
    _, first = np.unique(np.concatenate([of_query, of_gallery]), return_index=True)
    start = np.concatenate([_start(part.features) for part in (query, gallery)])[first]
    values, counts = np.unique(start, return_counts=True)
    doubtful, files, same = np.isin(start, values[counts > 1]), dict[object, int](), np.arange(len(numbers))
    for path, number in numbers.items():
        if doubtful[number]:
            same[number] = files.setdefault(_file_of(path), number)
    return same[of_query], same[of_gallery]


def _numbers(dataset: RecDataset, numbers: dict[str, int]) -> np.ndarray:
    """Return a number int64 for the path of each image, and add new ones to `numbers`."""
    root, folders = real(dataset.image_root), dict[str, str]()

    def plain(path: str) -> str:
        if is_stored(path):
            return path
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], name)

    paths = (plain(join(root, dataset.images.path(i))) for i in range(len(dataset)))
    return np.fromiter((numbers.setdefault(path, len(numbers)) for path in paths), np.int64, len(dataset))


def _start(features: np.ndarray) -> np.ndarray:
    """Return the bits of the first two values of each row [N, D] as uint64 [N]."""
    bits = np.ascontiguousarray(features[:, :2], np.float32).view(np.uint32).astype(np.uint64)
    return np.asarray(bits[:, 0] << np.uint64(32) | bits[:, -1])


def _file_of(path: str) -> object:
    """Return what is the same for all paths to a file: its number on its disk, else its path."""
    if is_stored(path):
        return path
    try:
        state = os.stat(path)
    except (OSError, ValueError):  # features of images that are elsewhere
        return path
    return (state.st_dev, state.st_ino) if state.st_ino else path
