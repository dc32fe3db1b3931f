"""A gallery as a map: its images in two dimensions, and which labels are so close that they are confused."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from shitu_cli.features.unit_length import SHORTEST
from shitu_cli.index.store import Item
from shitu_cli.service.views import View

MOST_POINTS = 2000
MOST_CONFUSIONS = 20
AXES, ITERATIONS = 12, 12  # more axes than are shown let these converge sooner


class GalleryMap(NamedTuple):
    """`places` float64 [N, 2] of the `items`, in -1 to 1; `explained` is the share of variance that they show.

    `confusions` are pairs of labels with the number of images of one whose nearest other image shows the other.
    """

    items: list[Item]
    places: np.ndarray
    explained: float
    confusions: list[tuple[tuple[str, str], int]]
    total: int


def gallery_map(view: View) -> GalleryMap | None:
    """Return the map of at most 2,000 items, the same ones each time; None if the index gives no vectors back."""
    items = list(view.items())
    total = len(items)
    if total > MOST_POINTS:
        rows = np.sort(np.random.default_rng(0).choice(total, MOST_POINTS, replace=False))
        items = [items[row] for row in rows.tolist()]
    vectors = view.vectors(np.fromiter((item.id for item in items), np.int64, len(items))) if items else None
    if vectors is None:
        return None
    places, explained = principal_plane(vectors)
    return GalleryMap(items, places, explained, confusions(vectors, [item.label for item in items]), total)


def principal_plane(vectors: np.ndarray) -> tuple[np.ndarray, float]:
    """Return vectors [N, D] on their two principal axes, float64 [N, 2] in -1 to 1, and the share of variance there.

    Subspace iteration from a fixed start finds the axes (Halko, Martinsson and Tropp, 2011), many times as fast as all
    eigenvectors of large features; signs are fixed by the largest part.
    """
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    count = min(AXES, *centred.shape)
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((centred.shape[1], count)))[0]
    for _ in range(ITERATIONS):
        axes = np.linalg.qr(centred.T @ (centred @ axes))[0]
    plane, strengths, _ = np.linalg.svd(centred @ axes, full_matrices=False)
    places = np.pad(plane[:, :2] * strengths[:2], ((0, 0), (0, max(0, 2 - count))))
    largest = places[np.abs(places).argmax(axis=0), (0, 1)]
    places = places * np.where(largest < 0, -1.0, 1.0) / max(float(np.abs(places).max()), SHORTEST)
    variance = float(np.square(centred).sum())
    return places, min(1.0, float(np.square(strengths[:2]).sum()) / variance) if variance > 0 else 1.0


def confusions(vectors: np.ndarray, labels: list[str]) -> list[tuple[tuple[str, str], int]]:
    """Return the pairs of labels that nearest neighbours mix up most often, most frequent first."""
    if len(labels) < 2:
        return []
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = similar.argmax(axis=1).tolist()
    pairs = Counter(
        (min(label, labels[other]), max(label, labels[other]))
        for label, other in zip(labels, nearest, strict=True)
        if label != labels[other]
    )
    return sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))[:MOST_CONFUSIONS]
