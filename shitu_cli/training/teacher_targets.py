"""What a student learns from a teacher's features of the views of its images: unit features, and soft labels.

The features are projected as `--frozen` does it (training/projection.py). A projection knows the labels of the images
that it was fitted to, and would give them back. The probabilities that an image gets are those of a projection fitted
to other images (cross-fitting): they are as unsure as the teacher is of images that it does not know. No projection
knows images without labels: theirs is the one that was fitted to all others, which knows most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shitu_cli.features.unit_length import normalized
from shitu_cli.training.projection import LARGEST, Projection, Scatter, class_directions, discriminant

FOLDS = 4
TEMPERATURES = tuple(1 / scale for scale in (4, 6, 8, 12, 16, 20, 24, 32, 48))  # to choose from
JUDGED = 1 << 23  # cosines that the choice is made from
STORED = np.float16  # of values between -1 and 1: there may be very many


@dataclass(frozen=True)
class SoftLabels:
    """Unit features float16 [views, N, k], each by a projection that was not fitted to its image.

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


@dataclass(frozen=True)
class Answers:
    """What a teacher answers about images: unit features float16 [views, N, k], and soft labels; None: not needed."""

    features: np.ndarray | None
    labels: SoftLabels | None

    def __call__(self, indices: np.ndarray, view: int) -> dict[str, np.ndarray]:
        """Return what `TeacherLoss` compares with, float32, of images by their position in a list, in a view."""
        answers = {}
        if self.features is not None:
            answers["teacher_features"] = self.features[view, indices].astype(np.float32)
        if self.labels is not None:
            answers["teacher_labels"] = self.labels(view, indices)
        return answers


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


def projected_features(views: Iterable[np.ndarray], scatters: Sequence[Scatter]) -> np.ndarray:
    """Return unit features float16 [views, N, k] of images, which may be others, by the projection fitted to all.

    Rows of NaN become zeros.
    """
    project = discriminant(Scatter.sum_of(scatters))
    return np.stack([_unit_features(view, project).astype(STORED) for view in views])


def soft_labels(
    views: Sequence[np.ndarray], scatters: Sequence[Scatter], labels: np.ndarray, temperature: float | None
) -> SoftLabels:
    """Return the soft labels of the images, from the teacher's features [N, D] in each view.

    Without a given temperature, it is that of `TEMPERATURES` with which the labels are most probable.
    """
    folds, total = folds_of(labels), Scatter.sum_of(scatters)
    classes, size = len(total.class_means), max(1, min(total.classes - 1, LARGEST, len(total.mean)))
    features = np.zeros((len(views), len(labels), size), STORED)
    centers = np.zeros((FOLDS, size, classes), np.float32)
    for fold, scatter in enumerate(scatters):
        project, own = discriminant(total.without(scatter)), folds == fold
        used = len(project.bias)  # fewer than `size` if a fold holds all images of a class
        for number, view in enumerate(views):
            features[number, own, :used] = _unit_features(view[own], project)
        blocks = ((_unit_features(view[~own], project), labels[~own]) for view in views)
        centers[fold, :used] = class_directions(blocks, used, classes).T
    result = SoftLabels(features, centers, folds, temperature or 1.0)
    return result if temperature else dataclasses.replace(result, temperature=_likeliest(result, labels))


def centers_of(projected: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the directions of the classes as `SoftLabels.centers`, from the `projected_features` of images."""
    return class_directions(((view, labels) for view in projected), projected.shape[2], classes).T[None]


def _unit_features(features: np.ndarray, project: Projection) -> np.ndarray:
    return np.nan_to_num(normalized(project(features)))


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
