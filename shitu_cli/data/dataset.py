"""The images of a list on disk, ready for a batch."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shitu_cli.data.images import decode_image
from shitu_cli.data.lists import ImageList, read_list
from shitu_cli.data.transforms import Op, build_transforms
from shitu_cli.errors import Command, DataError
from shitu_cli.runtime.memory import available_memory
from shitu_cli.stores import are_remote

if TYPE_CHECKING:
    from shitu_cli.config.schema import DatasetConfig


class Kept(NamedTuple):
    """The number of images in memory, the processor seconds spent decoding them, and how many there will be at most."""

    images: int
    seconds: float
    most: int


class RecDataset:
    """The images of one list with their labels.

    `labels` int64 [N], `ids` int64 [N] or None, `class_num` the largest label plus one. With `relabel` the labels
    that occur are numbered from 0 in ascending order; negative ones stay. Up to `keep_bytes` of decoded images stay
    in memory, as training needs them again every epoch; the pixels are the same.
    """

    def __init__(self, config: DatasetConfig, keep_bytes: int = 0) -> None:
        self.config = config
        self.list_path = Path(config.cls_label_path)
        self.image_root = config.image_root
        self.images: ImageList = read_list(self.list_path, delimiter=config.delimiter)
        if not len(self.images):
            raise DataError(
                f"{self.list_path}: the list is empty", hint=[Command("prepare", "./data"), " writes the lists"]
            )
        if not config.ids:
            self.images = dataclasses.replace(self.images, ids=None)
        self.labels, self.ids = self.images.labels, self.images.ids
        if config.relabel:
            self.labels = _dense(self.labels)
        self.transform = build_transforms(config.transform_ops)
        self.normalization = self.transform.normalize
        self._keep_bytes = self._free_bytes = keep_bytes
        self._cache: dict[int, np.ndarray] = {}
        self._decoding = 0.0  # processor seconds spent on the images in the cache
        self._lock = Lock()

    @property
    def class_num(self) -> int:
        return int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_remote(self) -> bool:
        """Whether its images are at addresses."""
        step = max(1, len(self) // 16)
        return are_remote([self.location(index) for index in range(0, len(self), step)])

    def location(self, index: int) -> str:
        """Return the location of the image: a file, a member of an archive, or an address (`stores`)."""
        return self.images.location(index, self.image_root)

    def load(self, index: int, rng: np.random.Generator, transform: Op | None = None) -> np.ndarray:
        """Return the transformed image: uint8 [H, W, 3], or float32 [3, H, W] already normalised.

        A given `transform` takes the place of the config's.

        Raises DataError that names the file and its line in the list.
        """
        image = self._cache.get(index)
        image = self._decode(index) if image is None else image
        try:
            return (transform or self.transform)(image, rng)
        except DataError as error:
            message = f"{self.location(index)}: {error.message} ({self.images.place(index)})"
            raise DataError(message, hint=error.advice) from None

    def input_size(self) -> tuple[int, int]:
        """Return height and width of the transformed images, by the first that can be read; DataError without any."""
        for index in range(len(self)):
            with contextlib.suppress(DataError):
                image = self.load(index, np.random.default_rng(0))
                return (image.shape[0], image.shape[1]) if image.dtype == np.uint8 else (image.shape[1], image.shape[2])
        raise DataError(
            f"{self.list_path}: none of the images in this list can be read",
            hint=[Command("prepare", "./data"), " lists the broken images and says why they cannot be read"],
        )

    def _decode(self, index: int) -> np.ndarray:
        file, box, began = self.location(index), self.images.box(index), time.thread_time()
        try:
            image = decode_image(file, box=box, enough=self.transform.enough)
        except DataError as error:
            raise DataError(f"{error.message} ({self.images.place(index)})", hint=error.advice) from None
        with self._lock:
            if image.nbytes > self._free_bytes or index in self._cache:
                return image
            self._free_bytes -= image.nbytes
            self._decoding += time.thread_time() - began
            image = image if box is None else image.copy()  # a copy, so that the image around the box is freed
            image.flags.writeable = False  # a change in place would reach every later epoch
            self._cache[index] = image
        return image

    def kept(self) -> Kept:
        """Return how many images are in memory, now and at most after all were loaded, and what decoding them cost."""
        with self._lock:
            images, used = len(self._cache), self._keep_bytes - self._free_bytes
            return Kept(images, self._decoding, min(len(self), images * self._keep_bytes // used) if used else 0)


def _dense(labels: np.ndarray) -> np.ndarray:
    dense, has_label = labels.copy(), labels >= 0
    dense[has_label] = np.unique(labels[has_label], return_inverse=True)[1]
    return dense


def spare_memory() -> int:
    """Return the bytes that may hold images: an eighth of the free memory, at most 2 GiB; 0 if unknown."""
    free = available_memory() or 0
    return min(2 << 30, free // 8)
