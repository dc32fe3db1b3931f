"""Features of photos around the centres of classes."""

from __future__ import annotations

import numpy as np

from shitu_cli.evaluation.metrics import FeatureSet


def photos(classes: int, count: int, seed: int = 0, size: int = 16, spread: float = 0.5) -> FeatureSet:
    """`count` unit vectors around each of `classes` centres; each photo has an identity of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), count)
    x = rng.standard_normal((classes, size))[labels] + spread * rng.standard_normal((len(labels), size))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return FeatureSet(x.astype(np.float32), labels, None, np.arange(len(labels)) + 1000 * seed)
