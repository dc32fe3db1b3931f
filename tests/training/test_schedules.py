"""Learning rates, compared with Paddle's own schedulers, which PaddleClas uses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from paddle.optimizer import lr

from shitu_cli.config.reader import make_part
from shitu_cli.training.schedules import Schedule, build_schedule

EPOCHS, STEPS = 10, 5
POWER = {"end_lr": 0.01, "power": 2.0}


def schedule(name: str, *, epochs: int = EPOCHS, **args: object) -> Schedule:
    return build_schedule(make_part("schedule", name, **args), epochs=epochs, steps_per_epoch=STEPS)


def rates(scheduler: lr.LRScheduler, count: int) -> list[float]:
    """The rates that a scheduler has before each of `count` steps."""
    values = []
    for _ in range(count):
        values.append(scheduler())
        scheduler.step()
    return values


@pytest.mark.parametrize("mode", ["triangular", "triangular2", "exp_range"])
@pytest.mark.parametrize("last_epoch", [-1, 0])
def test_cyclic(mode: str, last_epoch: int) -> None:
    sizes = {"step_size_up": 7, "step_size_down": 4, "mode": mode, "exp_gamma": 0.97, "last_epoch": last_epoch}
    ours = schedule("Cyclic", base_learning_rate=0.001, max_learning_rate=0.1, **sizes)
    theirs = lr.CyclicLR(0.001, 0.1, 7, 4, mode=mode, exp_gamma=0.97, last_epoch=last_epoch)
    assert [ours.lr(n) for n in range(40)] == pytest.approx(rates(theirs, 40), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "args", "after"),
    [
        ("Cosine", {}, lambda last: lr.CosineAnnealingDecay(0.1, T_max=35, last_epoch=last)),
        ("MultiStepDecay", {"milestones": [2, 4]}, lambda last: lr.MultiStepDecay(0.1, [10, 20], last_epoch=last)),
        (
            "MultiStepDecay",
            {"milestones": [1.3, 4.06]},
            lambda last: lr.MultiStepDecay(0.1, [6.5, 20.3], last_epoch=last),
        ),
        ("Step", {"step_size": 2.38, "gamma": 0.3}, lambda last: lr.StepDecay(0.1, 11, 0.3, last_epoch=last)),
        ("Linear", POWER, lambda last: lr.PolynomialDecay(0.1, 35, 0.01, 2.0, last_epoch=last)),
        (
            "Linear",
            {**POWER, "cycle": True},
            lambda last: lr.PolynomialDecay(0.1, 35, 0.01, 2, True, last_epoch=last),
        ),
    ],
)
@pytest.mark.parametrize("last_epoch", [-1, 0])
def test_where_a_schedule_begins(
    name: str, args: dict[str, object], after: Callable[[int], lr.LRScheduler], last_epoch: int
) -> None:
    """last_epoch 0 skips the first rate, also of the warm-up."""
    ours = schedule(name, learning_rate=0.1, warmup_epoch=3, warmup_start_lr=0.01, last_epoch=last_epoch, **args)
    theirs = lr.LinearWarmup(after(last_epoch), 15, 0.01, 0.1, last_epoch=last_epoch)
    assert [ours.lr(n) for n in range(60)] == pytest.approx(rates(theirs, 60), rel=1e-7)


@pytest.mark.parametrize(
    ("name", "args", "after"),
    [
        ("Cosine", {}, lr.CosineAnnealingDecay(0.1, T_max=8)),
        ("Step", {"step_size": 3}, lr.StepDecay(0.1, 3)),
        ("Linear", POWER, lr.PolynomialDecay(0.1, 8, 0.01, 2.0)),
        ("MultiStepDecay", {"milestones": [2, 4]}, lr.MultiStepDecay(0.1, [2, 4])),
    ],
)
def test_schedules_by_epoch(name: str, args: dict[str, object], after: lr.LRScheduler) -> None:
    ours = schedule(name, learning_rate=0.1, warmup_epoch=2, warmup_start_lr=0.01, by_epoch=True, **args)
    theirs = rates(lr.LinearWarmup(after, 2, 0.01, 0.1), EPOCHS)
    assert [ours.lr(n) for n in range(EPOCHS * STEPS)] == pytest.approx(np.repeat(theirs, STEPS), rel=1e-7)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(
    ("threshold_mode", "epsilon", "last"),
    [("rel", 1e-8, 0.01), ("abs", 0.004, 0.0125)],  # 0.004 forbids the fall from 0.0125 to min_lr
)
def test_plateau(mode: str, threshold_mode: str, epsilon: float, last: float) -> None:
    settings = {"factor": 0.5, "patience": 1, "threshold": 0.05, "threshold_mode": threshold_mode, "cooldown": 2}
    settings |= {"min_lr": 0.01, "epsilon": epsilon}
    ours = schedule("ReduceOnPlateau", learning_rate=0.1, mode=mode, **settings)
    theirs, memory = lr.ReduceOnPlateau(0.1, mode, **settings), dict[str, float]()
    sizes = [0.8, 0.79, 0.7, 0.69, 0.69, 0.3, 0.2, 0.5, 0.2, 0.195, 0.1, 0.099, *[0.2] * 20]
    expected = []
    for size in sizes if mode == "min" else [1 - size for size in sizes]:
        ours.on_result(size, mode, memory)
        ours.on_result(100 * size, "max" if mode == "min" else "min", memory)  # results of the other kind do not count
        theirs.step(size)
        expected.append(theirs())
        assert ours.lr(len(expected)) == pytest.approx(expected[-1], rel=1e-12), len(expected)
    assert len(set(expected)) >= 4 and expected[-1] == pytest.approx(last)


def test_one_epoch_ahead() -> None:
    """The person re-identification recipes have `by_epoch: True, last_epoch: 0`: each fall comes an epoch early."""
    ours = schedule("Piecewise", decay_epochs=[4], values=[0.1, 0.01], by_epoch=True, last_epoch=0)
    assert [ours.lr(epoch * STEPS) for epoch in range(6)] == [0.1, 0.1, 0.1, 0.01, 0.01, 0.01]


def test_a_learning_rate_overrides_the_lists_of_piecewise() -> None:
    lists = {"decay_epochs": [50, 150], "values": [0.1, 0.01, 0.001]}
    ours = schedule("Piecewise", epochs=70, learning_rate=0.1, **lists)
    epochs = [0, 29, 30, 59, 60, 69]
    assert [ours.lr(n * STEPS) for n in epochs] == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert [schedule("Piecewise", epochs=20, learning_rate=0.1, **lists).lr(n * STEPS) for n in (0, 19)] == [0.1, 0.1]
    lower = schedule("Piecewise", epochs=70, learning_rate=0.05, warmup_epoch=2, **lists)  # not the first of the list
    assert [lower.lr(n * STEPS) for n in (1, 2, 32)] == pytest.approx([0.025, 0.05, 0.005])
    plain = schedule("Piecewise", epochs=70, **lists)
    assert [plain.lr(n * STEPS) for n in (0, 49, 50)] == [0.1, 0.1, 0.01]
