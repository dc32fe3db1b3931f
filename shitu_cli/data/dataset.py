"""A list on disk as pictures ready for a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shitu_cli.config.load import resolve_path
from shitu_cli.config.schema import DatasetConfig
from shitu_cli.data.images import decode_image
from shitu_cli.data.lists import ImageList, read_list
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import DataError


class RecDataset:
    """Pictures of one list with their labels; relative paths of the config count from `base_dir`.

    `labels` int64 [N], `ids` int64 [N] or None, `class_num` the largest label plus one. With `relabel` the labels
    that occur are numbered from 0 in ascending order; negative ones stay.
    """

    def __init__(self, config: DatasetConfig, base_dir: Path) -> None:
        self.config = config
        self.list_path = resolve_path(base_dir, config.cls_label_path)
        self.image_root = resolve_path(base_dir, config.image_root)
        self.images: ImageList = read_list(self.list_path, delimiter=config.delimiter)
        if not len(self.images):
            raise DataError(f"{self.list_path}: the list is empty", hint="shitu prepare ./data writes the lists")
        self.labels, self.ids = self.images.labels, self.images.ids
        if config.relabel:
            self.labels = _dense(self.labels)
        self.transform = build_transforms(config.transform_ops, f"transform_ops of {self.list_path.name}")
        self.normalization = self.transform.normalize

    @property
    def class_num(self) -> int:
        return int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    def path(self, index: int) -> Path:
        """The picture's file."""
        return self.images.file(index, self.image_root)

    def load(self, index: int, rng: np.random.Generator) -> np.ndarray:
        """The transformed picture: uint8 [H, W, 3], or float32 [3, H, W] already normalised.

        Raises DataError naming the file and its line in the list.
        """
        try:
            image = decode_image(self.path(index), box=self.images.box(index))
        except DataError as error:
            raise DataError(f"{error.message} (picture {index + 1} of {self.list_path})", hint=error.hint) from None
        return self.transform(image, rng)


def _dense(labels: np.ndarray) -> np.ndarray:
    dense, known = labels.copy(), labels >= 0
    dense[known] = np.unique(labels[known], return_inverse=True)[1]
    return dense
