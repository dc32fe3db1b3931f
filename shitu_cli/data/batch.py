"""A batch of images, and its conversion to the float32 [N, 3, H, W] that networks take."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from shitu_cli.data.transforms import Normalization

FEW = 4  # images up to which loading the compiler is not worth it
IDENTITY = Normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)


@dataclass(frozen=True)
class Batch:
    """`images` uint8 [N, H, W, 3], or float32 [N, 3, H, W] when already normalised; `labels`, `indices` int64 [N].

    `view` says in which of their views (data/views.py) the images are shown. `unlabelled` are further images, whose
    labels mean nothing and whose indices count in a list of their own.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray
    view: int = 0
    unlabelled: Batch | None = None


def input_of(batch: Batch, normalization: Normalization | None) -> np.ndarray:
    """Return the images of a batch as `to_input` does, then those without labels in it."""
    images = to_input(batch.images, normalization)
    more = batch.unlabelled
    return images if more is None else np.concatenate([images, to_input(more.images, normalization)])


def to_input(images: np.ndarray, normalization: Normalization | None) -> np.ndarray:
    """Return a batch's images as normalised float32 [N, 3, H, W]; float32 images are returned unchanged.

    Compiled, so that bytes become planes of floats in one pass over memory; for a few images, loading the compiler
    would take a thousand times longer than OpenCV takes to look up the same bits.
    """
    if images.dtype != np.uint8:
        return images
    factor, shift = (normalization or IDENTITY).affine()
    if len(images) <= FEW and "numba" not in sys.modules:
        return normalize_by_table(images, factor, shift)
    count, height, width, _ = images.shape
    out = np.empty((count, 3, height * width), np.float32)
    _planes()(np.ascontiguousarray(images).reshape(count, height * width * 3), factor, shift, out)
    return out.reshape(count, 3, height, width)


def normalize_by_table(images: np.ndarray, factor: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Normalise bytes [N, H, W, 3] to float32 [N, 3, H, W] with a table per channel; factor and shift [3]."""
    tables = (np.arange(256, dtype=np.float32) * factor[:, None] + shift[:, None])[:, None]
    out = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    for image, planes in zip(images, out, strict=True):
        for pixels, table, plane in zip(cv2.split(image), tables, planes, strict=True):
            cv2.LUT(pixels, table, dst=plane)
    return out


@lru_cache(maxsize=1)
def _planes() -> Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], None]:
    from shitu_cli.runtime.compilation import compiled

    @compiled(nogil=True)
    def planes(images: np.ndarray, factor: np.ndarray, shift: np.ndarray, out: np.ndarray) -> None:
        for n in range(images.shape[0]):
            pixels = images[n]
            for channel in range(3):
                plane, a, b = out[n, channel], factor[channel], shift[channel]
                for i in range(plane.size):
                    plane[i] = np.float32(pixels[3 * i + channel]) * a + b

    return planes
