"""What a training run is asked for besides its config, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shitu_cli.evaluation.metrics import UNDECIDED_SHARE

UNDECIDED = "undecided_share"  # in the figures of an evaluation: of the queries, whose first image rounding decides


@dataclass
class TrainOptions:
    """`score` names the metric that decides about best_model; `save_every_steps` adds saves inside an epoch.

    `keep` counts saves (None: one), `keep_earlier` models of earlier runs (None: all).
    """

    score: str = "recall@1"
    save_every_steps: int | None = None
    keep: int | None = None
    keep_earlier: int | None = None


@dataclass
class TrainResult:
    """`evaluations` holds one dict of metrics with its `epoch` (counted from 1) per online evaluation.

    `best_score` and `best_epoch` are of those that mean something (see `is_meaningful`), None without any.

    `seconds` passed in steps of training, `evaluation_seconds` in online evaluation, `elapsed_seconds` in all, saves
    included; a resumed run counts from its beginning, without the time in which it did not run.
    """

    interrupted: bool
    epochs_done: int
    evaluations: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    elapsed_seconds: float = 0.0


def is_meaningful(metrics: Mapping[str, float]) -> bool:
    """Return whether an evaluation's recall says something about the network, and not only how sums were rounded."""
    return metrics.get(UNDECIDED, 0.0) <= UNDECIDED_SHARE
