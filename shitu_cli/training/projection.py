"""Linear projections of features in closed form, for a network whose weights stay frozen.

There are two, for two uses. If the classes stay the same, linear discriminant analysis keeps the directions in which
the classes differ most relative to the differences within a class (Fisher 1936; Hastie et al., The Elements of
Statistical Learning, 4.3.3). It discards what the trained classes have in common, but new classes may differ in just
that: for new classes, whitening within classes only rescales, so that what varies between images of one class counts
less (Mikolajczyk and Matas 2007). Both follow from sums over the images, D x D numbers however many images there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shitu_cli.features.unit_length import normalized

SHRINKAGE = 0.3  # share of the mean variance in place of the measured one; 0.2 to 0.5 are alike on grocery photos
NOTHING = 1e-9  # a smaller share of the variance is lost in rounding
LARGEST = 512  # the largest size of a feature by discriminant analysis, that of published recognition models
# Whitening loses by leaving values out: on grocery photos, with classes that it never saw, recall@1 is 0.66 with 512
# values of 1,280 and 0.70 with all of them (mean of three splits).
LARGEST_WHITE = 2048
IMAGES_PER_VALUE = 4
ROWS = 1024  # features that are summed at once: the table of their classes has as many numbers squared


class Scatter:
    """Sums over features in any order: `within` and `between` [D, D] are covariances, `mean` [D] is the mean.

    It needs D x D numbers and D per class, whatever the number of images.
    """

    def __init__(self, size: int, classes: int) -> None:
        self._counts = np.zeros(classes)
        self._sums = np.zeros((classes, size))
        self._squares = np.zeros((size, size))

    def add(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Add features [n, D] of images with labels int [n]."""
        for start in range(0, len(features), ROWS):
            self._add(features[start : start + ROWS], labels[start : start + ROWS])

    def _add(self, features: np.ndarray, labels: np.ndarray) -> None:
        rows = features.astype(np.float64)
        self._squares += rows.T @ rows
        present, places = np.unique(labels, return_inverse=True)
        members = np.zeros((len(present), len(rows)))
        members[places, np.arange(len(rows))] = 1
        self._sums[present] += members @ rows
        self._counts[present] += members.sum(1)

    @classmethod
    def of(cls, blocks: Iterable[tuple[np.ndarray, np.ndarray]], size: int, classes: int) -> Scatter:
        """Return the sums over blocks of features [n, D] and labels int [n]."""
        scatter = cls(size, classes)
        for features, labels in blocks:
            scatter.add(features, labels)
        return scatter

    @classmethod
    def sum_of(cls, parts: Sequence[Scatter]) -> Scatter:
        """Return the sums over the images of all parts, which have the same size and classes."""
        total = cls(len(parts[0]._squares), len(parts[0]._counts))
        for part in parts:
            total._counts += part._counts
            total._sums += part._sums
            total._squares += part._squares
        return total

    def without(self, part: Scatter) -> Scatter:
        """Return the sums over the images that are not in `part`, a part of these; whole classes leave no rounding."""
        rest = Scatter(len(self._squares), len(self._counts))
        rest._counts = self._counts - part._counts
        rest._sums = np.where((rest._counts > 0)[:, None], self._sums - part._sums, 0.0)
        rest._squares = self._squares - part._squares
        return rest

    @property
    def classes(self) -> int:
        """The number of classes with an image."""
        return int((self._counts > 0).sum())

    @property
    def images(self) -> int:
        """The number of features that were added."""
        return int(self._counts.sum())

    @property
    def mean(self) -> np.ndarray:
        return np.asarray(self._sums.sum(0) / max(1.0, self._counts.sum()))

    @property
    def class_means(self) -> np.ndarray:
        """The mean feature of each class, float32 [C, D]; zeros for a class without images."""
        return np.asarray(self._sums / np.maximum(self._counts, 1)[:, None], np.float32)

    @property
    def within(self) -> np.ndarray:
        """The mean covariance of images around the mean of their class."""
        return (self._squares - self._centres()) / max(1.0, self._counts.sum())

    @property
    def spread(self) -> np.ndarray:
        """The class means less the mean of all, each times the root of its share of the images: [D, classes]."""
        present = self._counts > 0
        means = self._sums[present] / self._counts[present, None]
        return np.asarray(((means - self.mean) * np.sqrt(self._counts[present, None] / self._counts.sum())).T)

    @property
    def between(self) -> np.ndarray:
        """The covariance of class means around the mean of all, weighted by the images of each class."""
        return self._centres() / max(1.0, self._counts.sum()) - np.outer(self.mean, self.mean)

    def _centres(self) -> np.ndarray:
        scaled = self._sums / np.sqrt(np.maximum(self._counts, 1))[:, None]
        return np.asarray(scaled.T @ scaled)


@dataclass(frozen=True)
class Projection:
    """x → x @ weight + bias, with weight float32 [D, k] and bias float32 [k]: a linear layer."""

    weight: np.ndarray
    bias: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(features @ self.weight + self.bias, np.float32)


def class_directions(blocks: Iterable[tuple[np.ndarray, np.ndarray]], size: int, classes: int) -> np.ndarray:
    """Return unit rows float32 [C, k]: where the unit features [n, k] of each class, with labels int [n], point."""
    sums = np.zeros((classes, size), np.float32)
    for features, labels in blocks:
        np.add.at(sums, labels, features)
    return normalized(sums)


def discriminant(scatter: Scatter, *, shrinkage: float = SHRINKAGE, largest: int = LARGEST) -> Projection:
    """Return the linear discriminant analysis of the features: at most one value fewer than there are classes."""
    count = max(1, min(scatter.classes - 1, largest, len(scatter.mean)))
    lower = _lower(scatter, shrinkage)
    if scatter.classes < len(scatter.mean):  # the covariance of class means is F Fᵀ of a narrow F, twenty times faster
        vectors, _, _ = np.linalg.svd(np.linalg.solve(lower, scatter.spread), full_matrices=False)
    else:
        vectors = _directions(lower, scatter.between)
    return _projection(scatter, lower, vectors[:, :count])


def whitening(scatter: Scatter, *, shrinkage: float | None = None, largest: int = LARGEST_WHITE) -> Projection:
    """Return the whitening within classes; of more than `largest` values, keep those that then vary most.

    Without a given `shrinkage` it follows from how many images there are for each value of a feature: a covariance of
    few images knows nothing of most directions, and would take them for those in which classes differ.
    """
    size = len(scatter.mean)
    if shrinkage is None:
        shrinkage = size / (size + IMAGES_PER_VALUE * scatter.images)
    count = min(largest, size)
    lower = _lower(scatter, shrinkage)
    return _projection(scatter, lower, _directions(lower, scatter.between + scatter.within)[:, :count])


def _directions(lower: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the u [D, D], largest first, of v = L⁻ᵀ u with the largest vᵀ target v / vᵀ L Lᵀ v."""
    inner = np.linalg.solve(lower, np.linalg.solve(lower, target).T)
    _, vectors = np.linalg.eigh((inner + inner.T) / 2)
    return np.asarray(vectors[:, ::-1])


def _lower(scatter: Scatter, shrinkage: float) -> np.ndarray:
    """Return L [D, D], lower triangular, with L Lᵀ the covariance within classes, shrunk towards a multiple of one."""
    within, total = scatter.within, np.trace(scatter.between) + np.trace(scatter.within)
    size = len(within)
    if np.trace(within) > NOTHING * total:
        shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / size * np.eye(size)
    else:  # each class has one image, or images that are all the same: all directions count alike
        shrunk = (total / size or 1.0) * np.eye(size)
    return np.asarray(np.linalg.cholesky(shrunk))


def _projection(scatter: Scatter, lower: np.ndarray, vectors: np.ndarray) -> Projection:
    """Return the projection on L⁻ᵀ `vectors` [D, k], along which the variance within classes is one."""
    directions = np.linalg.solve(lower.T, vectors)
    # The sign of an eigenvector is free: the largest entry decides it, so that every machine finds the same.
    directions *= np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    return Projection(directions.astype(np.float32), (-scatter.mean @ directions).astype(np.float32))
