"""Schedules of the learning rate, with PaddleClas's names and warm-up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from shitu_cli.config.kinds import Count, Natural, Portion, Positive, Range, Rate
from shitu_cli.config.parts.base import Part

_MAKERS = "shitu_cli.training.schedules"
Fall = Annotated[Portion, "factor of each fall"]


@dataclass(frozen=True, kw_only=True)
class Schedule(Part):
    """The learning rate over training; epochs count from the end of the warm-up."""

    ignored: ClassVar[tuple[str, ...]] = ("verbose", "epochs", "step_each_epoch")
    warmup_epoch: Annotated[Rate, "epochs over which the rate rises"] = 0.0
    warmup_start_lr: Annotated[Rate, "rate at the first step of the warm-up"] = 0.0
    by_epoch: Annotated[bool, "whether the rate changes once an epoch instead of every step"] = False
    last_epoch: Annotated[int, Range(-1), "where the schedule begins: -1 at its first rate, 0 at the next one"] = -1

    @property
    def first(self) -> float:
        """The rate that the warm-up leads to."""
        raise NotImplementedError


@dataclass(frozen=True)
class FromRate(Schedule):
    """A schedule that begins at a given rate."""

    learning_rate: Annotated[Rate, "the rate that the warm-up leads to"]

    @property
    def first(self) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class Constant(FromRate, built_by=f"{_MAKERS}:constant", variants={"Constant": {}, "ConstLR": {}}):
    """The same rate all the time."""


@dataclass(frozen=True)
class Cosine(FromRate, built_by=f"{_MAKERS}:cosine"):
    """Falls along half a cosine."""

    eta_min: Annotated[Rate, "the rate at the end"] = 0.0


@dataclass(frozen=True)
class Linear(FromRate, built_by=f"{_MAKERS}:linear"):
    """Falls along a power of the time that is left."""

    end_lr: Annotated[Rate, "the rate at the end"] = 0.0
    power: Annotated[Positive, "the power; 1 is a straight line"] = 1.0
    cycle: Annotated[bool, "whether to begin again at the end"] = False


@dataclass(frozen=True)
class Step(FromRate, built_by=f"{_MAKERS}:step"):
    """Falls every `step_size` epochs."""

    step_size: Annotated[Positive, "epochs from one fall to the next"]
    gamma: Fall = 0.1


@dataclass(frozen=True)
class MultiStepDecay(FromRate, built_by=f"{_MAKERS}:multi_step"):
    """Falls at given epochs."""

    milestones: Annotated[tuple[Rate, ...], "the epochs, in rising order"]
    gamma: Fall = 0.1

    def problems(self) -> Iterator[tuple[str, str]]:
        if list(self.milestones) != sorted(self.milestones):
            yield "milestones", f"got {list(self.milestones)}, expected rising epochs"


@dataclass(frozen=True)
class Piecewise(Schedule, built_by=f"{_MAKERS}:piecewise"):
    """Takes given rates, one after the other; with `learning_rate`, as in PaddleClas, that and tenths of it."""

    decay_epochs: Annotated[tuple[Rate, ...], "the epochs at which the next rate begins, in rising order"]
    values: Annotated[tuple[Rate, ...], "the rates, one more than decay_epochs"]
    learning_rate: Annotated[
        Rate | None,
        "if given, the rate begins there and falls to a tenth every 30 epochs, whatever the two lists say",
    ] = None

    @property
    def first(self) -> float:
        return self.learning_rate or self.values[0]

    def problems(self) -> Iterator[tuple[str, str]]:
        if len(self.values) != len(self.decay_epochs) + 1:
            yield "values", f"got {len(self.values)}, expected one more than the {len(self.decay_epochs)} decay_epochs"
        if list(self.decay_epochs) != sorted(self.decay_epochs):
            yield "decay_epochs", f"got {list(self.decay_epochs)}, expected rising epochs"


@dataclass(frozen=True)
class Cyclic(Schedule, built_by=f"{_MAKERS}:cyclic"):
    """Rises and falls in turns (arXiv:1506.01186); the lengths count steps, or epochs with `by_epoch`."""

    ignored: ClassVar[tuple[str, ...]] = (*Schedule.ignored, "scale_mode")  # of a scale_fn
    not_supported: ClassVar[Mapping[str, Any]] = {"scale_fn": None}
    base_learning_rate: Annotated[Rate, "the lowest rate"]
    max_learning_rate: Annotated[Rate, "the highest rate"]
    step_size_up: Annotated[Count, "steps of a rise"]
    step_size_down: Annotated[Count | None, "steps of a fall; null: as many"] = None
    mode: Annotated[
        Literal["triangular", "triangular2", "exp_range"], "whether turns stay as high, halve, or shrink by exp_gamma"
    ] = "triangular"
    exp_gamma: Annotated[Positive, "factor of each step with exp_range"] = 1.0

    @property
    def first(self) -> float:
        return self.base_learning_rate


@dataclass(frozen=True)
class ReduceOnPlateau(FromRate, built_by=f"{_MAKERS}:PlateauSchedule"):
    """Falls when results stop improving."""

    mode: Annotated[Literal["min", "max"], "min: the loss of each epoch, max: the score of each evaluation"] = "min"
    factor: Fall = 0.1
    patience: Annotated[Natural, "results without improvement before a fall"] = 10
    threshold: Annotated[Rate, "the smallest improvement that counts"] = 1e-4
    threshold_mode: Annotated[Literal["rel", "abs"], "whether the threshold is a share or a difference"] = "rel"
    cooldown: Annotated[Natural, "results after a fall that are not counted"] = 0
    min_lr: Annotated[Rate, "the smallest rate"] = 0.0
    epsilon: Annotated[Rate, "falls smaller than this are left out"] = 1e-8
