"""The drawn data set: repeatable, honest about unseen classes, and not solved by colour alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.preparation import synthetic


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "SPLITS", {"train": (4, 3), "query": (3, 2), "gallery": (3, 3)})
        counts = synthetic.write_dataset(root, size=64)
    assert counts == {"train": 12, "query": 6, "gallery": 9}
    return root


def test_evaluation_shows_only_classes_that_training_never_saw(dataset: Path) -> None:
    classes = {split: {p.name for p in (dataset / split).iterdir()} for split in ("train", "query", "gallery")}
    assert classes["query"] == classes["gallery"]
    assert not classes["train"] & classes["query"]


def test_no_picture_appears_twice(dataset: Path) -> None:
    pictures = [p.read_bytes() for p in dataset.rglob("*.jpg")]
    assert len(set(pictures)) == len(pictures) == 27


def test_the_same_seed_draws_the_same_pictures() -> None:
    product = synthetic.make_product(5)
    first, second = (synthetic.photograph(product, np.random.default_rng(1)) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == (128, 128, 3)
    np.testing.assert_array_equal(first, second)
    other = synthetic.photograph(product, np.random.default_rng(2))
    assert np.abs(first.astype(int) - other).mean() > 10


def test_a_colour_histogram_does_not_solve_it() -> None:
    """Unseen classes are told apart poorly by colour alone, so that a good recall means something was learnt."""
    products = [synthetic.make_product(label) for label in range(64, 76)]

    def histogram(image: np.ndarray) -> np.ndarray:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        return np.sqrt(cv2.calcHist([hsv], [0, 1, 2], None, [12, 6, 4], [0, 180, 0, 256, 0, 256])).ravel()

    shots = [
        [histogram(synthetic.photograph(p, np.random.default_rng((i, n)))) for n in range(6)]
        for i, p in enumerate(products)
    ]
    features = np.array(shots)
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    gallery, labels = features[:, 2:].reshape(48, -1), np.repeat(np.arange(12), 4)
    right = [labels[np.argmax(gallery @ features[c, q])] == c for c in range(12) for q in range(2)]
    assert np.mean(right) < 0.7
