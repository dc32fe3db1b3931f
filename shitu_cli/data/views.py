"""Views of training images: random parts of each that come again, so that another network can be asked about them.

What an image shows, and how, is settled by all its transforms but the mirroring and erasing at the end of them. Those
are new each time: they leave the answer as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from shitu_cli.config.parts import transforms as parts
from shitu_cli.config.parts.augmentations import RandCropImage, RandFlipImage, RandomErasing, RandomHorizontalFlip
from shitu_cli.data.dataset import RecDataset
from shitu_cli.data.transforms import Transform, build_transforms

_NORMALIZING = (parts.NormalizeImage, parts.Normalize, parts.ToTensor, parts.ToCHWImage)
_NEW_EACH_TIME = (RandFlipImage, RandomHorizontalFlip, RandomErasing, *_NORMALIZING)
BLANK = 512  # side of the image that shows what size transforms give

Ops = tuple[parts.Transform, ...]


@dataclass(frozen=True)
class Views:
    """`count` views of each image of `dataset`; the random numbers of a view follow from (seed, view, index)."""

    dataset: RecDataset
    seed: int
    count: int

    def of_batch(self, epoch: int, step: int) -> int:
        """Return the view that a batch shows; as images change batches, each comes in all its views."""
        return (epoch + step) % self.count

    def seed_of(self, view: int) -> tuple[int, int]:
        """Return what seeds the random numbers of a view, together with the index of an image."""
        return self.seed, view

    def load(self, index: int, view: int, rng: np.random.Generator) -> np.ndarray:
        """Return an image as `dataset.load` does, in this view; `rng` decides what is new each time."""
        first, last = self._transforms
        settled = np.random.default_rng((*self.seed_of(view), index, 0))
        return self.dataset.load(index, rng, lambda image, rng: last(first(image, settled), rng))

    @cached_property
    def _transforms(self) -> tuple[Transform, Transform]:
        settled, last = split_at_view(self.dataset.config.transform_ops)
        return build_transforms(settled), build_transforms(last)


def split_at_view(ops: Sequence[parts.Transform]) -> tuple[Ops, Ops]:
    """Return the transforms that settle what an image shows, and those at the end that are new each time.

    All are of the first kind if normalised images are changed in other ways.
    """
    at = len(ops)
    while at and isinstance(ops[at - 1], _NEW_EACH_TIME):
        at -= 1
    if any(isinstance(op, (parts.NormalizeImage, parts.Normalize)) for op in ops[:at]):
        at = len(ops)
    return tuple(ops[:at]), tuple(ops[at:])


def ops_for_another(ops: Sequence[parts.Transform], other: Sequence[parts.Transform]) -> Ops:
    """Return transforms that show the views of `ops` to a network with the preprocessing `other`.

    They have its size and its normalisation. The same random numbers give the same part of an image at any size.
    """
    height, width = size_of(other)
    settled = [op for op in split_at_view(ops)[0] if not isinstance(op, _NORMALIZING)]
    size = (width, height)
    changes = [dataclasses.replace(op, size=size) if isinstance(op, RandCropImage) else op for op in settled]
    return (*changes, parts.ResizeImage(size=size), *(op for op in other if isinstance(op, _NORMALIZING)))


def size_of(ops: Sequence[parts.Transform]) -> tuple[int, int]:
    """Return height and width of the images that transforms give."""
    image = build_transforms(ops)(np.zeros((BLANK, BLANK, 3), np.uint8), np.random.default_rng(0))
    return (image.shape[0], image.shape[1]) if image.dtype == np.uint8 else (image.shape[1], image.shape[2])
