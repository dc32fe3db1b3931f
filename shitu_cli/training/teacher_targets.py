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
from shitu_cli.training.projection import LARGEST, Projection, Scatter, class_directions, discriminant

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

    def accuracy(self, labels: np.ndarray) -> float:
        """Return how often the most probable class is that of the labels int [N], from 0 to 1."""
        cosines, right = _judged(self, labels)
        return float((cosines.argmax(1) == right).mean()) if len(right) else 0.0


def folds_of(labels: np.ndarray) -> np.ndarray:
    """Return the fold int [N] of each image: the images of each class are spread over all folds."""
    folds = np.empty(len(labels), np.int64)
    folds[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % FOLDS
    return folds


def scatter_of_folds(views: Sequence[np.ndarray], labels: np.ndarray, classes: int) -> list[Scatter]:
    """Return the sums over the images of each fold, from their features [N, D] in each view.

    Rows of NaN are images that could not be read.
    """
    folds = folds_of(labels)
    scatters = [Scatter(views[0].shape[1], classes) for _ in range(FOLDS)]
    for view in views:
        is_present = np.isfinite(view).all(1)
        for fold, scatter in enumerate(scatters):
            rows = is_present & (folds == fold)
            scatter.add(view[rows], labels[rows])
    return scatters


def projected_features(views: Sequence[np.ndarray], scatters: Sequence[Scatter]) -> np.ndarray:
    """Return unit features float32 [views, N, k] by the projection fitted to all images; rows of NaN become zeros."""
    return _projected(views, discriminant(Scatter.sum_of(scatters)))


def soft_labels(
    views: Sequence[np.ndarray], scatters: Sequence[Scatter], labels: np.ndarray, temperature: float | None
) -> SoftLabels:
    """Return the soft labels of the images, from the teacher's features [N, D] in each view.

    Without a given temperature, it is that of `TEMPERATURES` with which the labels are most probable.
    """
    folds, total = folds_of(labels), Scatter.sum_of(scatters)
    classes, size = len(total.class_means), max(1, min(total.classes - 1, LARGEST, len(total.mean)))
    features = np.zeros((len(views), len(labels), size), np.float32)
    centers = np.zeros((FOLDS, size, classes), np.float32)
    for fold, scatter in enumerate(scatters):
        projected = _projected(views, discriminant(total.without(scatter)))
        rest = folds != fold
        blocks = ((view[rest], labels[rest]) for view in projected)
        used = projected.shape[2]  # fewer than `size` if a fold holds all images of a class
        features[:, ~rest, :used] = projected[:, ~rest]
        centers[fold, :used] = class_directions(blocks, used, classes).T
    result = SoftLabels(features, centers, folds, temperature or 1.0)
    return result if temperature else dataclasses.replace(result, temperature=_likeliest(result, labels))


def _projected(views: Sequence[np.ndarray], project: Projection) -> np.ndarray:
    return np.stack([np.nan_to_num(normalized(project(view))) for view in views])


def _likeliest(targets: SoftLabels, labels: np.ndarray) -> float:
    """Return the temperature with which the probabilities of the labels are largest."""
    cosines, right = _judged(targets, labels)

    def surprise(temperature: float) -> float:
        return -float(np.log(_softmax(cosines / temperature)[np.arange(len(right)), right] + 1e-30).sum())

    return min(TEMPERATURES, key=surprise)


def _judged(targets: SoftLabels, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return cosines [n, C] and labels [n] of images in the first view: of some of very many, and of no missing one."""
    count = max(1, JUDGED // targets.centers.shape[2])
    chosen = np.random.default_rng(0).permutation(len(labels))[:count]
    chosen = chosen[np.abs(targets.features[0, chosen]).max(1, initial=0.0) > 0]
    return targets.cosines(0, chosen), labels[chosen]


def _softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float32)
