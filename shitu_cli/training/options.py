"""What a training run is asked for besides its config, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field


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
