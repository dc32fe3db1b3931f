"""Learning rate as a pure function of the step, with PaddleClas's names, arguments and warm-up.

A schedule has no hidden state: `lr(step)` is the rate of that optimiser step (counted from 0), so resuming needs only
the step. Only ReduceOnPlateau reacts to results; its memory is `LoopState.schedule`.
As in Paddle's LinearWarmup, the schedule proper starts at its own step 0 when the warm-up ends.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import NamedTuple

from shitu_cli.config.parts import schedules as parts

Rate = Callable[[int], float]


class Span(NamedTuple):
    """The time that a schedule covers; its unit is an epoch if the part has `by_epoch`, else an optimiser step."""

    epochs: int
    steps_per_epoch: int

    def units(self, part: parts.Schedule, epochs: float) -> float:
        """Return `epochs` in units of the schedule, not rounded."""
        return epochs * (1 if part.by_epoch else self.steps_per_epoch)

    def decay(self, part: parts.Schedule) -> int:
        """Return the number of units after the warm-up."""
        return round(self.units(part, self.epochs - min(part.warmup_epoch, self.epochs)))


class Schedule:
    """Warm-up followed by `after`; both are counted in units of epochs when `by_epoch`."""

    def __init__(self, part: parts.Schedule, span: Span, after: Rate) -> None:
        warmup = min(part.warmup_epoch, span.epochs)
        self._after = after
        self._warmup_units = int(warmup) if part.by_epoch else round(warmup * span.steps_per_epoch)
        self._warmup_start, self._warmup_end = part.warmup_start_lr, part.first
        self._unit_steps = max(1, span.steps_per_epoch) if part.by_epoch else 1
        self._passed = part.last_epoch + 1  # units that Paddle's schedulers count before the first one

    def lr(self, step: int) -> float:
        """Return the learning rate of optimiser step `step` (from 0)."""
        unit = step // self._unit_steps + self._passed
        if unit < self._warmup_units:
            return self._warmup_start + (self._warmup_end - self._warmup_start) * unit / self._warmup_units
        return self._after(unit - self._warmup_units)

    def on_result(self, value: float, better: str, memory: dict[str, float]) -> None:
        """Take note of a result: the loss of an epoch (`better` "min") or the score of an evaluation ("max").

        Only ReduceOnPlateau uses it.
        """


class PlateauSchedule(Schedule):
    """Multiplies the rate by `factor` after more than `patience` results without improvement.

    `mode` "min" watches the training loss of each epoch, "max" the score of each evaluation.

    `memory` is LoopState.schedule: `scale`, `best`, `bad`, `cooldown`.
    """

    def __init__(self, part: parts.ReduceOnPlateau, span: Span) -> None:
        super().__init__(part, span, lambda unit: self._current)
        self._current, self._part = part.learning_rate, part

    def restore(self, memory: dict[str, float]) -> None:
        """Restore the rate that a resumed run had."""
        self._current = memory.get("rate", self._current)

    def on_result(self, value: float, better: str, memory: dict[str, float]) -> None:
        if better != self._part.mode:
            return
        if memory.get("cooldown", 0) > 0:
            memory["cooldown"] -= 1
            memory["rate"] = self._current
            return
        if "best" not in memory or self._is_better(value, memory["best"]):
            memory["best"], memory["bad"] = value, 0
        else:
            memory["bad"] = memory.get("bad", 0) + 1
        if memory["bad"] > self._part.patience:
            memory["cooldown"], memory["bad"] = self._part.cooldown, 0
            lowered = max(self._current * self._part.factor, self._part.min_lr)
            if self._current - lowered > self._part.epsilon:
                self._current = lowered
        memory["rate"] = self._current

    def _is_better(self, value: float, best: float) -> bool:
        margin = best * self._part.threshold if self._part.threshold_mode == "rel" else self._part.threshold
        return value < best - margin if self._part.mode == "min" else value > best + margin


def build_schedule(part: parts.Schedule, *, epochs: int, steps_per_epoch: int) -> Schedule:
    """Build the schedule that `Optimizer.lr` describes."""
    schedule: Schedule = part.build(Span(epochs, steps_per_epoch))
    return schedule


def constant(part: parts.Constant, span: Span) -> Schedule:
    return Schedule(part, span, lambda unit: part.learning_rate)


def cosine(part: parts.Cosine, span: Span) -> Schedule:
    total = span.decay(part)

    def rate(unit: int) -> float:
        if total <= 0:
            return part.learning_rate
        return part.eta_min + (part.learning_rate - part.eta_min) * (1 + math.cos(math.pi * unit / total)) / 2

    return Schedule(part, span, rate)


def linear(part: parts.Linear, span: Span) -> Schedule:
    total = max(1, span.decay(part))

    def rate(unit: int) -> float:
        length = total * max(1, math.ceil(unit / total)) if part.cycle else total
        left = 1 - min(unit, length) / length
        return (part.learning_rate - part.end_lr) * left**part.power + part.end_lr

    return Schedule(part, span, rate)


def step(part: parts.Step, span: Span) -> Schedule:
    # A fraction of a step is cut off, as in PaddleClas; falls at given epochs come at the first step after them.
    size = max(1, int(span.units(part, part.step_size)))
    return Schedule(part, span, lambda unit: part.learning_rate * part.gamma ** (unit // size))


def multi_step(part: parts.MultiStepDecay, span: Span) -> Schedule:
    limits = [span.units(part, milestone) for milestone in part.milestones]
    return Schedule(part, span, lambda unit: part.learning_rate * part.gamma ** bisect_right(limits, unit))


TENTH_EVERY = 30  # epochs, for Piecewise with a learning_rate


def piecewise(part: parts.Piecewise, span: Span) -> Schedule:
    epochs, values = part.decay_epochs, part.values
    if part.learning_rate:
        epochs = tuple(range(TENTH_EVERY, span.epochs, TENTH_EVERY))
        values = tuple(part.learning_rate * 0.1**fall for fall in range(len(epochs) + 1))
    limits = [span.units(part, epoch) for epoch in epochs]
    return Schedule(part, span, lambda unit: values[bisect_right(limits, unit)])


def cyclic(part: parts.Cyclic, span: Span) -> Schedule:
    up = part.step_size_up
    total = up + (part.step_size_down or up)

    def rate(unit: int) -> float:
        turn, place = divmod(unit, total)
        height = place / up if place <= up else (total - place) / (total - up)
        shrunk = {"triangular": 1.0, "triangular2": 0.5**turn, "exp_range": part.exp_gamma**unit}[part.mode]
        return part.base_learning_rate + (part.max_learning_rate - part.base_learning_rate) * height * shrunk

    return Schedule(part, span, rate)
