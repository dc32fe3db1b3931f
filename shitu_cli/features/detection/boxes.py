"""Boxes in an image, and which of them show the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from shitu_cli.data.images import Box

MOST_CANDIDATES = 1000  # the best boxes of a network; what follows them is noise


class Detection(NamedTuple):
    """A box x1, y1, x2, y2 of whole pixels of the upright image, and how sure the detector is of it (0 to 1).

    `score` is None for the box of the whole image, which no detector has found.
    """

    box: Box
    score: float | None

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole image."""
        return self.score is None


def whole(image: np.ndarray) -> Detection:
    """Return the box of a whole image [H, W, 3]."""
    return Detection((0.0, 0.0, float(image.shape[1]), float(image.shape[0])), None)


def apart(boxes: np.ndarray, order: Sequence[int] | np.ndarray, most_overlap: float) -> list[int]:
    """Return the rows of boxes float64 [N, 4] that stay when each suppresses those after it that it overlaps.

    `order` is who comes first; two overlap by the area that they share, divided by the area that they cover together.
    """
    rest, kept = np.asarray(order, np.int64), []
    while len(rest):
        first, rest = int(rest[0]), rest[1:]
        kept.append(first)
        rest = rest[_overlaps(boxes[first], boxes[rest]) <= most_overlap]
    return kept


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    together = np.prod(box[2:] - box[:2]) + np.prod(others[:, 2:] - others[:, :2], axis=1) - shared
    return shared / np.maximum(together, np.finfo(np.float64).tiny)


def inside(boxes: np.ndarray, scores: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes float64 [N, 4] clipped to an image, and their scores, without those that vanish.

    What remains is at least a pixel wide and high; boxes with numbers that are not finite are dropped.
    """
    finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    boxes = np.clip(boxes[finite], 0, [width, height, width, height])
    is_visible = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return boxes[is_visible], scores[finite][is_visible]


def whole_pixels(box: np.ndarray) -> Box:
    """Return the pixels that a box touches."""
    (x1, y1), (x2, y2) = np.floor(box[:2]).tolist(), np.ceil(box[2:]).tolist()
    return x1, y1, x2, y2
