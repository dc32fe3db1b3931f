"""What a student learns from a teacher's features of the views of its images: unit features, and soft labels.

The features are projected as `--frozen` does it (training/projection.py). A projection knows the labels of the images
that it was fitted to, and would give them back. The probabilities that an image gets are those of a projection fitted
to other images (cross-fitting): they are as unsure as the teacher is of images that it does not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shitu_cli.features.unit_length import normalized
from shitu_cli.training.projection import Projection, Scatter, discriminant

FOLDS = 4
TEMPERATURES = tuple(1 / scale for scale in (4, 6, 8, 12, 16, 20, 24, 32, 48))  # to choose from
JUDGED = 1 << 23  # cosines that the choice is made from


@dataclass(frozen=True)
class SoftLabels:
    """Unit features float32 [views, N, k], each by the projection that its image was not fitted to.

    `folds` int [N] says which one that is, `centers` float32 [folds, k, C] are the directions of the classes in each.
    """

    features: np.ndarray
    centers: np.ndarray
    folds: np.ndarray
    temperature: float

    def __call__(self, view: int, indices: np.ndarray) -> np.ndarray:
        """Return the probabilities float32 [n, C] of images in a view."""
        return _softmax(self.cosines(view, indices) / self.temperature)

    def cosines(self, view: int, indices: np.ndarray) -> np.ndarray:
        """Return the cosines float32 [n, C] of images in a view with the classes."""
        cosines = np.empty((len(indices), self.centers.shape[2]), np.float32)
        for fold, centers in enumerate(self.centers):
            rows = self.folds[indices] == fold
            cosines[rows] = self.features[view, indices[rows]] @ centers
        return cosines


def folds_of(labels: np.ndarray) -> np.ndarray:
    """Return the fold int [N] of each image: the images of each class are spread over all folds."""
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    return folds


def projected_features(views: Sequence[np.ndarray], labels: np.ndarray, classes: int) -> np.ndarray:
    """Return unit features float32 [views, N, k] of one projection, fitted to all; rows of NaN become zeros."""
    scatter = Scatter.sum_of(_scatters(views, labels, np.zeros(len(labels), np.int64), classes, 1))
    return _projected(views, discriminant(scatter))


def soft_labels(views: Sequence[np.ndarray], labels: np.ndarray, classes: int, temperature: float | None) -> SoftLabels:
    """Return the soft labels from the teacher's features [N, D] of each view; rows of NaN are missing images.

    Without a given temperature, it is that of `TEMPERATURES` with which the labels are most probable.
    """
    folds = folds_of(labels)
    scatters = _scatters(views, labels, folds, classes, FOLDS)
    total, parts, centers = Scatter.sum_of(scatters), [], []
    for fold, scatter in enumerate(scatters):
        features = _projected(views, discriminant(total.without(scatter)))
        rest = folds != fold
        sums = np.zeros((classes, features.shape[2]), np.float32)
        for view in features:
            np.add.at(sums, labels[rest], view[rest])
        parts.append(features[:, ~rest])
        centers.append(normalized(sums).T)
    size = max(part.shape[2] for part in parts)  # a fold may lack all images of a class, and so have a value fewer
    features = np.zeros((len(views), len(labels), size), np.float32)
    matrices = np.zeros((FOLDS, size, classes), np.float32)
    for fold, (part, matrix) in enumerate(zip(parts, centers, strict=True)):
        features[:, folds == fold, : part.shape[2]] = part
        matrices[fold, : len(matrix)] = matrix
    result = SoftLabels(features, matrices, folds, temperature or 1.0)
    return result if temperature else dataclasses.replace(result, temperature=_likeliest(result, labels))


def _scatters(
    views: Sequence[np.ndarray], labels: np.ndarray, folds: np.ndarray, classes: int, count: int
) -> list[Scatter]:
    scatters = [Scatter(views[0].shape[1], classes) for _ in range(count)]
    for view in views:
        is_present = np.isfinite(view).all(1)
        for fold, scatter in enumerate(scatters):
            rows = is_present & (folds == fold)
            scatter.add(view[rows], labels[rows])
    return scatters


def _projected(views: Sequence[np.ndarray], project: Projection) -> np.ndarray:
    return np.stack([np.nan_to_num(normalized(project(view))) for view in views])


def _likeliest(targets: SoftLabels, labels: np.ndarray) -> float:
    """Return the temperature with which the probabilities of the labels are largest, by the first view."""
    count = max(1, JUDGED // targets.centers.shape[2])
    chosen = np.random.default_rng(0).permutation(len(labels))[:count]
    chosen = chosen[np.abs(targets.features[0, chosen]).max(1, initial=0.0) > 0]  # without missing images
    cosines, rows = targets.cosines(0, chosen), np.arange(len(chosen))

    def surprise(temperature: float) -> float:
        return -float(np.log(_softmax(cosines / temperature)[rows, labels[chosen]] + 1e-30).sum())

    return min(TEMPERATURES, key=surprise)


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)
