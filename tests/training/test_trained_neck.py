"""A neck trained on stored features."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np

from shitu_cli.features.unit_length import normalized
from shitu_cli.reporting import Bar, SilentReporter
from shitu_cli.training.projection import Projection, Scatter, discriminant
from shitu_cli.training.trained_neck import EPOCHS, SCALE, gathered, train_neck

RNG = np.random.default_rng(3)
LABELS = np.repeat([0, 2, 3, 7], 30)  # some classes have no image
FEATURES = (RNG.standard_normal((8, 20))[LABELS] + 2 * RNG.standard_normal((120, 20))).astype(np.float32)
START = discriminant(Scatter.of([(FEATURES, LABELS)], 20, 8))


def loss(projection: Projection) -> float:
    """The mean cross entropy of a softmax over cosines with the class means."""
    x = normalized(projection(FEATURES))
    present = np.unique(LABELS)
    means = normalized(np.stack([x[label == LABELS].mean(0) for label in present]))
    logits = SCALE * x @ means.T
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(x)), np.searchsorted(present, LABELS)].mean())


def test_it_separates_the_classes_better_than_what_it_starts_from() -> None:
    neck = train_neck(FEATURES, LABELS, START, seed=1)
    assert neck.weight.shape == START.weight.shape == (20, 3)
    assert loss(neck) < 0.9 * loss(START)


def test_progress_counts_all_steps() -> None:
    class Recorder(SilentReporter):
        def progress(self, what: str, total: int, unit: str = "images") -> AbstractContextManager[Bar]:
            with super().progress(what, total, unit) as self.bar:
                return nullcontext(self.bar)

    recorder = Recorder()
    train_neck(FEATURES, LABELS, START, seed=1, reporter=recorder)
    assert recorder.bar.pace.done == recorder.bar.pace.total == EPOCHS


def test_a_seed_decides_every_bit() -> None:
    necks = [train_neck(FEATURES, LABELS, START, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(necks[0].weight, necks[1].weight) and np.array_equal(necks[0].bias, necks[1].bias)
    assert not np.array_equal(necks[0].weight, necks[2].weight)


def test_the_size_of_the_features_does_not_matter() -> None:
    """A trunk whose features are a thousand times as large gives the same unit features."""
    large = FEATURES * 1024
    start = discriminant(Scatter.of([(large, LABELS)], 20, 8))
    expected = normalized(train_neck(FEATURES, LABELS, START, seed=1)(FEATURES))
    assert np.allclose(normalized(train_neck(large, LABELS, start, seed=1)(large)), expected, atol=0.02)


def test_blocks_are_joined_in_their_order() -> None:
    features, labels = gathered((FEATURES[i : i + 50], LABELS[i : i + 50]) for i in range(0, 120, 50))
    assert np.array_equal(features, FEATURES) and np.array_equal(labels, LABELS)
