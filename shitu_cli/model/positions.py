"""Resample position embeddings for another image size."""

from __future__ import annotations

import numpy as np


def resample_positions(embedding: np.ndarray, tokens: int, prefix: int) -> np.ndarray:
    """Return float32 [1, tokens, C] of `embedding` [1, M, C], whose first `prefix` tokens are not patches.

    Both grids are square. Bicubic (a = -0.5) with antialiasing, half-pixel centres, as timm resamples them.
    """
    if embedding.shape[1] == tokens:
        return embedding
    old, new = (round((count - prefix) ** 0.5) for count in (embedding.shape[1], tokens))
    grid = embedding[0, prefix:].astype(np.float64).reshape(old, old, -1)
    weights = _cubic_matrix(old, new)
    grid = np.einsum("ia,jb,abc->ijc", weights, weights, grid)
    patches = grid.reshape(1, new * new, -1).astype(np.float32)
    return np.concatenate([embedding[:, :prefix], patches], axis=1)


def is_resampling(embedding: np.ndarray, tokens: int, prefix: int) -> bool:
    """Return whether both are square grids of patches after the prefix."""
    sides = [(count - prefix) ** 0.5 for count in (embedding.shape[1], tokens)]
    return embedding.ndim == 3 and all(side > 0 and side == round(side) for side in sides)


def _cubic_matrix(old: int, new: int) -> np.ndarray:
    """Return [new, old]: the weight of each old position in each new one."""
    scale = old / new
    width = max(scale, 1.0)
    centers = (np.arange(new)[:, None] + 0.5) * scale
    distance = np.abs((np.arange(old)[None] + 0.5 - centers) / width)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))
