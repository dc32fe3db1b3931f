"""Small galleries to index."""

from __future__ import annotations

import numpy as np

from shitu_cli.index.store import BuildOptions, FeatureTable
from shitu_cli.index.vectors import VectorIndex


def vectors(count: int, size: int = 24, seed: int = 0) -> np.ndarray:
    """Unit vectors float32 [count, size] around centres, ten to each."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 10), size))
    x = centres[rng.integers(0, len(centres), count)] + 0.4 * rng.standard_normal((count, size))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def gallery(count: int = 300, size: int = 24, seed: int = 0) -> FeatureTable:
    """Seven classes, in turn."""
    labels = [f"class {n % 7}" for n in range(count)]
    return FeatureTable(vectors(count, size, seed), labels, [f"p/{n}.jpg" for n in range(count)])


def make(count: int = 300, kind: str = "flat", recall: float = 0.99) -> VectorIndex:
    return VectorIndex.build(gallery(count), BuildOptions(kind, recall))
