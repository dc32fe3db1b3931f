"""Learning rate as a pure function of the step, with PaddleClas's names, arguments and warm-up.

A schedule has no hidden state: `lr(step)` is the rate of that optimiser step (counted from 0), so resuming needs
nothing but the step. Only ReduceOnPlateau reacts to results; what it remembers lives in `LoopState.schedule`.
As in Paddle's LinearWarmup, the schedule proper starts at its own step 0 when the warm-up ends.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

from shitu_cli.config.schema import Component
from shitu_cli.errors import ConfigError

Rate = Callable[[int], float]


class Schedule:
    """Warm-up followed by `after`; both are counted in units of epochs when `by_epoch`."""

    def __init__(
        self,
        after: Rate,
        *,
        warmup_units: int,
        warmup_start: float,
        warmup_end: float,
        by_epoch: bool,
        epoch_steps: int,
    ) -> None:
        self._after = after
        self._warmup_units = warmup_units
        self._warmup_start = warmup_start
        self._warmup_end = warmup_end
        self._unit_steps = max(1, epoch_steps) if by_epoch else 1

    def lr(self, step: int) -> float:
        """The learning rate of optimiser step `step` (from 0)."""
        unit = step // self._unit_steps
        if unit < self._warmup_units:
            return self._warmup_start + (self._warmup_end - self._warmup_start) * unit / self._warmup_units
        return self._after(unit - self._warmup_units)

    def on_result(self, value: float, better: str, memory: dict[str, float]) -> None:
        """A result has arrived: an epoch's loss (`better` "min") or an evaluation's score ("max").

        Only ReduceOnPlateau listens.
        """


class PlateauSchedule(Schedule):
    """Multiply the rate by `factor` when there was no improvement for more than `patience` results.

    `mode` "min" watches the training loss of each epoch, "max" the score of each evaluation.

    `memory` is LoopState.schedule: `scale`, `best`, `bad`, `cooldown`.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        mode: str,
        factor: float,
        patience: int,
        threshold: float,
        threshold_mode: str,
        cooldown: int,
        min_lr: float,
        epsilon: float,
        warmup_units: int,
        warmup_start: float,
        by_epoch: bool,
        epoch_steps: int,
    ) -> None:
        super().__init__(
            lambda unit: self._current,
            warmup_units=warmup_units,
            warmup_start=warmup_start,
            warmup_end=learning_rate,
            by_epoch=by_epoch,
            epoch_steps=epoch_steps,
        )
        self._current = learning_rate
        self._mode, self._factor, self._patience = mode, factor, patience
        self._threshold, self._threshold_mode = threshold, threshold_mode
        self._cooldown, self._min_lr, self._epsilon = cooldown, min_lr, epsilon

    def restore(self, memory: dict[str, float]) -> None:
        """Continue with the rate that a resumed run had."""
        self._current = memory.get("rate", self._current)

    def on_result(self, value: float, better: str, memory: dict[str, float]) -> None:
        if better != self._mode:
            return
        if memory.get("cooldown", 0) > 0:
            memory["cooldown"] -= 1
            memory["rate"] = self._current
            return
        if "best" not in memory or self._is_better(value, memory["best"]):
            memory["best"], memory["bad"] = value, 0
        else:
            memory["bad"] = memory.get("bad", 0) + 1
        if memory["bad"] > self._patience:
            memory["cooldown"], memory["bad"] = self._cooldown, 0
            lowered = max(self._current * self._factor, self._min_lr)
            if self._current - lowered > self._epsilon:
                self._current = lowered
        memory["rate"] = self._current

    def _is_better(self, value: float, best: float) -> bool:
        margin = best * self._threshold if self._threshold_mode == "rel" else self._threshold
        return value < best - margin if self._mode == "min" else value > best + margin


def build_schedule(component: Component, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """The schedule named by `Optimizer.lr`; ConfigError for a name or an argument that it does not have."""
    builder = SCHEDULES.get(component.name)
    if builder is None:
        raise ConfigError(
            f"Optimizer.lr.name: got {component.name}, expected one of {', '.join(sorted(SCHEDULES))}",
            hint="set Optimizer.lr.name in shitu.yaml, for example to Cosine",
        )
    try:
        return builder(epochs=epochs, steps_per_epoch=steps_per_epoch, **component.args)
    except TypeError as error:
        raise ConfigError(f"Optimizer.lr ({component.name}): {_argument_problem(error)}") from error


def _argument_problem(error: TypeError) -> str:
    return str(error).split(") ", 1)[-1].replace("()", "")


def _with_warmup(
    after: Rate,
    end: float,
    epochs: int,
    steps_per_epoch: int,
    warmup_epoch: float,
    warmup_start_lr: float,
    by_epoch: bool,
) -> Schedule:
    return Schedule(
        after,
        warmup_units=_warmup_units(epochs, steps_per_epoch, warmup_epoch, by_epoch),
        warmup_start=warmup_start_lr,
        warmup_end=end,
        by_epoch=by_epoch,
        epoch_steps=steps_per_epoch,
    )


def _warmup_units(epochs: int, steps_per_epoch: int, warmup_epoch: float, by_epoch: bool) -> int:
    warmup = min(warmup_epoch, epochs)
    return int(warmup) if by_epoch else round(warmup * steps_per_epoch)


def _unit(steps_per_epoch: int, by_epoch: bool) -> int:
    return 1 if by_epoch else steps_per_epoch


def _decay_units(epochs: int, steps_per_epoch: int, warmup_epoch: float, by_epoch: bool) -> int:
    return round((epochs - min(warmup_epoch, epochs)) * _unit(steps_per_epoch, by_epoch))


def _constant(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    return _with_warmup(
        lambda unit: learning_rate, learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr, by_epoch
    )


def _cosine(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    eta_min: float = 0.0,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    total = _decay_units(epochs, steps_per_epoch, warmup_epoch, by_epoch)

    def rate(unit: int) -> float:
        if total <= 0:
            return learning_rate
        return eta_min + (learning_rate - eta_min) * (1 + math.cos(math.pi * unit / total)) / 2

    return _with_warmup(rate, learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr, by_epoch)


def _linear(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    end_lr: float = 0.0,
    power: float = 1.0,
    cycle: bool = False,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    total = max(1, _decay_units(epochs, steps_per_epoch, warmup_epoch, by_epoch))

    def rate(unit: int) -> float:
        span = total * max(1, math.ceil(unit / total)) if cycle else total
        left = 1 - min(unit, span) / span
        return (learning_rate - end_lr) * left**power + end_lr

    return _with_warmup(rate, learning_rate, epochs, steps_per_epoch, warmup_epoch, warmup_start_lr, by_epoch)


def _step(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    step_size: float,
    gamma: float = 0.1,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    size = max(1, round(step_size * _unit(steps_per_epoch, by_epoch)))
    return _with_warmup(
        lambda unit: learning_rate * gamma ** (unit // size),
        learning_rate,
        epochs,
        steps_per_epoch,
        warmup_epoch,
        warmup_start_lr,
        by_epoch,
    )


def _multi_step(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    limits = [round(milestone * _unit(steps_per_epoch, by_epoch)) for milestone in milestones]
    return _with_warmup(
        lambda unit: learning_rate * gamma ** bisect_right(limits, unit),
        learning_rate,
        epochs,
        steps_per_epoch,
        warmup_epoch,
        warmup_start_lr,
        by_epoch,
    )


def _piecewise(
    *,
    epochs: int,
    steps_per_epoch: int,
    decay_epochs: Sequence[float],
    values: Sequence[float],
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    if len(values) != len(decay_epochs) + 1:
        raise ConfigError(
            f"Optimizer.lr (Piecewise): got {len(decay_epochs)} decay_epochs and {len(values)} values, "
            "expected one value more than decay_epochs"
        )
    limits = [round(epoch * _unit(steps_per_epoch, by_epoch)) for epoch in decay_epochs]
    return _with_warmup(
        lambda unit: float(values[bisect_right(limits, unit)]),
        values[0],
        epochs,
        steps_per_epoch,
        warmup_epoch,
        warmup_start_lr,
        by_epoch,
    )


def _plateau(
    *,
    epochs: int,
    steps_per_epoch: int,
    learning_rate: float,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
    epsilon: float = 1e-8,
    warmup_epoch: float = 0,
    warmup_start_lr: float = 0.0,
    by_epoch: bool = False,
) -> Schedule:
    return PlateauSchedule(
        learning_rate,
        mode=mode,
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        min_lr=min_lr,
        epsilon=epsilon,
        warmup_units=_warmup_units(epochs, steps_per_epoch, warmup_epoch, by_epoch),
        warmup_start=warmup_start_lr,
        by_epoch=by_epoch,
        epoch_steps=steps_per_epoch,
    )


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "Constant": _constant,
    "ConstLR": _constant,
    "Cosine": _cosine,
    "Linear": _linear,
    "Step": _step,
    "MultiStepDecay": _multi_step,
    "Piecewise": _piecewise,
    "ReduceOnPlateau": _plateau,
}
