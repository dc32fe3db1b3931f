"""Vectors at unit length: each row's bits follow from that row alone.

numpy's einsum chooses instructions by the machine and cuts long sums at the ends of its buffers; a sum over the last
axis of contiguous float64 is added in one fixed order, whatever else is in the array.
"""

from __future__ import annotations

import numpy as np

SHORTEST = 1e-12  # what is divided by at least, so that rows of zeros stay
_VALUES = 1 << 17  # of a block, which takes 1 MB in float64 and fits the second-level cache


def lengths(rows: np.ndarray) -> np.ndarray:
    """Return the Euclidean lengths float64 [N] of rows float32 [N, D]; NaN or infinite where a row holds such values.

    No finite float32 is too large for it.
    """
    sizes = np.empty(len(rows), np.float64)
    step = max(1, _VALUES // max(1, rows.shape[1]))
    for start in range(0, len(rows), step):
        wide = np.array(rows[start : start + step], np.float64, order="C")
        sizes[start : start + step] = np.sqrt(np.square(wide, out=wide).sum(axis=1))
    return sizes


def have_direction(rows: np.ndarray) -> np.ndarray:
    """Return for each row float32 [N, D], as bool [N], whether it can be compared: it is finite, and not all zeros."""
    sizes = lengths(rows)
    return np.isfinite(sizes) & (sizes >= SHORTEST)


def normalized(features: np.ndarray) -> np.ndarray:
    """Return rows of float32 [N, D] at unit length; rows of zeros stay."""
    return np.asarray(features / np.maximum(lengths(features), SHORTEST)[:, None], np.float32)
