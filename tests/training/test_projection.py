"""Closed-form projections against their definitions, written naively."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest

from shitu_cli.training.projection import Scatter, discriminant, whitening
from shitu_cli.training.projection_fit import estimate_fit


def drawn(classes: int = 5, per_class: int = 40, size: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes that differ in the first two values, with noise that is thirty times as large in the last two."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((classes * per_class, size)) * np.array([1] * (size - 2) + [30] * 2)
    labels = np.repeat(np.arange(classes), per_class)
    centres = np.zeros((classes, size))
    centres[:, :2] = random.standard_normal((classes, 2)) * 4
    return (noise + centres[labels] + 3).astype(np.float32), labels


def scatter_of(features: np.ndarray, labels: np.ndarray, block: int = 7) -> Scatter:
    scatter = Scatter(features.shape[1], int(labels.max()) + 2)
    order = np.random.default_rng(1).permutation(len(features))
    for first in range(0, len(features), block):
        rows = order[first : first + block]
        scatter.add(features[rows], labels[rows])
    return scatter


def naive(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(within, between) by loops over images and classes."""
    x = features.astype(np.float64)
    size, mean = x.shape[1], x.mean(0)
    within, between = np.zeros((size, size)), np.zeros((size, size))
    for label in np.unique(labels):
        rows = x[labels == label]
        centre = rows.mean(0)
        for row in rows:
            within += np.outer(row - centre, row - centre)
        between += len(rows) * np.outer(centre - mean, centre - mean)
    return within / len(x), between / len(x)


def cosine_recall(query: np.ndarray, labels: np.ndarray) -> float:
    unit = query / np.linalg.norm(query, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    return float((labels[similarity.argmax(1)] == labels).mean())


def test_sums_in_blocks_are_the_covariances() -> None:
    features, labels = drawn()
    scatter = scatter_of(features, labels)
    within, between = naive(features, labels)
    assert np.allclose(scatter.within, within, atol=1e-9) and np.allclose(scatter.between, between, atol=1e-9)
    assert scatter.classes == 5 and np.allclose(scatter.mean, features.mean(0, dtype=np.float64))


def test_many_images_of_many_classes_at_once_need_little_memory() -> None:
    """A table of all classes of all images of a view would be 5 GB for Stanford Online Products."""
    labels = np.arange(6000) // 2
    features = np.random.default_rng(0).standard_normal((len(labels), 8)).astype(np.float32)
    scatter = Scatter(8, 3000)
    tracemalloc.start()
    scatter.add(features, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20
    assert np.allclose(scatter.class_means, features.reshape(3000, 2, 8).mean(1), atol=1e-6)


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_directions_solve_the_generalised_problem(shrinkage: float) -> None:
    features, labels = drawn()
    within, between = naive(features, labels)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 8 * np.eye(8)
    for projection, wanted, count in (
        (discriminant(scatter_of(features, labels), shrinkage=shrinkage), between, 4),
        (whitening(scatter_of(features, labels), shrinkage=shrinkage), between + within, 8),
    ):
        v = projection.weight.astype(np.float64)
        assert v.shape == (8, count)
        assert np.allclose(v.T @ shrunk @ v, np.eye(count), atol=1e-4)
        ratios = np.diag(v.T @ wanted @ v)
        assert (np.diff(ratios) <= 1e-5).all()
        assert np.allclose(wanted @ v, shrunk @ v * ratios, atol=1e-3)  # and so no other direction has more
        assert np.allclose(projection(features.mean(0, keepdims=True)), 0, atol=1e-4)


def test_classes_are_told_apart_in_spite_of_the_noise() -> None:
    """Shrinkage adds a share of the mean variance, here that of the noise: with little of it the noise is gone."""
    features, labels = drawn()
    scatter = scatter_of(features, labels)
    bare = cosine_recall(features, labels)
    told_apart = cosine_recall(discriminant(scatter, shrinkage=1e-3, largest=2)(features), labels)
    best = cosine_recall((features - features.mean(0))[:, :2], labels)  # only these two values differ between classes
    assert told_apart > best - 0.03 and told_apart > bare
    assert cosine_recall(whitening(scatter)(features), labels) > bare


def test_few_images_are_whitened_less() -> None:
    """With three images for 64 values, whitening must not enlarge what no image has shown."""
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((3, 64)).astype(np.float32), np.zeros(3, int)
    scatter = scatter_of(features, labels)
    lengths = [np.linalg.norm(whitening(scatter, shrinkage=s).weight, axis=0) for s in (None, 0.001)]
    assert lengths[0].max() / lengths[0].min() < 3 < lengths[1].max() / lengths[1].min()


def test_dimensions_are_bounded() -> None:
    features, labels = drawn(classes=12, per_class=10)
    scatter = scatter_of(features, labels)
    assert discriminant(scatter, largest=3).weight.shape == whitening(scatter, largest=3).weight.shape == (8, 3)
    assert discriminant(scatter).weight.shape == (8, 8)


@pytest.mark.parametrize("case", ["one class", "single images", "equal images", "a constant value"])
def test_degenerate_data_gives_finite_projections(case: str) -> None:
    features, labels = drawn(classes=4, per_class=5)
    if case == "one class":
        labels = np.zeros_like(labels)
    elif case == "single images":
        labels = np.arange(len(features))
    elif case == "equal images":
        features = np.repeat(features[::5], 5, axis=0)
    else:
        features[:, 3] = 7
    scatter = scatter_of(features, labels)
    for projection in (discriminant(scatter), whitening(scatter)):
        assert np.isfinite(projection(features)).all() and projection.weight.shape[1] >= 1


def test_more_classes_than_values() -> None:
    """Both ways to the directions, with fewer classes than values and with more, give what the definition says."""
    features, labels = drawn(classes=30, per_class=8)
    projection = discriminant(scatter_of(features, labels), shrinkage=0.0)
    within, between = naive(features, labels)
    assert projection.weight.shape == (8, 8)
    assert np.allclose(projection.weight.T @ within @ projection.weight, np.eye(8), atol=1e-4)
    ratios = np.diag(projection.weight.T @ between @ projection.weight)
    assert np.all(np.diff(ratios) <= 1e-5)


def test_the_time_of_a_fit_is_estimated_from_smaller_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fit of half of the values takes a second by this clock, that of all of them eight."""
    seconds = itertools.count()
    monkeypatch.setattr("shitu_cli.training.projection_fit.time.perf_counter", lambda: float(next(seconds)))
    assert [estimate_fit(64, 5, closed=closed) for closed in (True, False)] == [8.0, 8.0]
    assert estimate_fit(2, 10**6, closed=False) == 8.0
