"""Gradients of several batches that make one step (Global.update_freq)."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import paddle
import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.reader import make_part
from shitu_cli.data.batch import Batch
from shitu_cli.model.losses import build_loss
from shitu_cli.processes.collectives import Ranks
from shitu_cli.reporting import SilentReporter
from shitu_cli.training.gradient_step import GradientStep
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.optimizer import OptimizerStep, build_scope
from tests.command import SMALL
from tests.parts import loss_item

CLASSES = 4


def gradient(weight: np.ndarray, batch: Batch) -> np.ndarray:
    """Of the mean cross-entropy of a batch with the scores `images @ weight`."""
    images = batch.images.reshape(len(batch.labels), -1)
    scores = np.exp(images @ weight)
    missing = scores / scores.sum(1, keepdims=True) - np.eye(CLASSES)[batch.labels]
    return images.T @ missing / len(images)


@pytest.mark.parametrize(("freq", "groups"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (7, [5])])
def test_a_group_of_batches_makes_one_step(freq: int, groups: list[int]) -> None:
    """By the mean of their gradients, with the rates of its place among the steps; the last group may be smaller."""
    random = np.random.default_rng(4)
    batches = [
        Batch(random.standard_normal((n, 3, 2, 1)).astype("float32"), random.integers(0, CLASSES, n), np.arange(n))
        for n in (4, 4, 4, 4, 3)
    ]
    start = random.standard_normal((6, CLASSES)).astype("float32")
    weight = paddle.create_parameter([6, CLASSES], "float32")
    weight.set_value(start)
    part = make_part("optimizer", "SGD", lr={"name": "Linear", "learning_rate": 2.0})
    own = [("head.weight", weight)]
    optimizer = OptimizerStep([build_scope(part, own, epochs=1, steps_per_epoch=len(groups), ranks=Ranks())])
    general = SimpleNamespace(update_freq=freq, epochs=1)
    training: Any = SimpleNamespace(
        config=SimpleNamespace(Global=general, AMP=None, train_metrics=()),
        device="cpu",
        ranks=Ranks(),
        dataset=SimpleNamespace(normalization=None),
        steps_per_epoch=len(batches),
        model=lambda images, labels: {"logits": images.flatten(1) @ weight},
        networks=[],
        loss=build_loss((loss_item("CELoss"),)),
        optimizer=optimizer,
        ema=None,
        teacher=None,
    )
    gradients, state = GradientStep(training), LoopState()
    assert gradients.updates_per_epoch == len(groups)
    for number, batch in enumerate(batches):
        in_group, is_last = gradients.group_at(number)
        gradients.add_gradients(batch, state, in_group)
        if is_last:
            gradients.update(state)
    assert state.global_step == len(groups)
    expected, left = start.astype("float64"), iter(batches)
    for number, size in enumerate(groups):
        mean = sum(gradient(expected, next(left)) for _ in range(size)) / size
        expected = expected - 2.0 * (1 - number / len(groups)) * mean
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_schedules_count_steps_not_batches(workspace: Path) -> None:
    from shitu_cli.training.build import build_training

    line = "Optimizer.lr={name: Linear, learning_rate: 1.0}"
    for freq in (1, 4):
        options = [*SMALL[1::2], line, "Global.epochs=1", f"Global.update_freq={freq}"]
        config = load_config(workspace / "shitu.yaml", [*options, "DataLoader.Train.sampler.batch_size=4"])
        training = build_training(config, device="cpu", ranks=Ranks(), threads=1, reporter=SilentReporter())
        updates = -(-training.steps_per_epoch // freq)
        assert training.steps_per_epoch > freq and updates == GradientStep(training).updates_per_epoch
        rates = [training.optimizer.lr(step) for step in range(updates + 1)]
        assert rates == pytest.approx(np.linspace(1, 0, updates + 1), abs=1e-6)
