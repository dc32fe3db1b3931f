"""The options of a training run that are not in its config, and its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shitu_cli.evaluation.metrics import UNDECIDED_SHARE

UNDECIDED = "undecided_share"  # metric: the share of queries whose nearest image only rounding decides


@dataclass
class TrainOptions:
    """Options of a run: `save_every_steps` adds saves in an epoch.

    `keep` is the number of saves (None: one), `keep_earlier` models of earlier runs (None: all).
    """

    save_every_steps: int | None = None
    keep: int | None = None
    keep_earlier: int | None = None


@dataclass
class TrainResult:
    """`evaluations` holds one dict of metrics with its `epoch` (counted from 1) per online evaluation.

    `best_score` and `best_epoch` are of the meaningful ones (see `is_meaningful`), None without any; `score_before` is
    that of the features which training started from, None unless they were trained.

    `score` names the metric that selects best_model. `seconds` were spent in training steps, `evaluation_seconds` in
    online evaluation, `elapsed_seconds` in total with saves; a resumed run adds up the time of all its parts.
    """

    interrupted: bool
    epochs_done: int
    evaluations: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: list[float] = field(default_factory=list)
    best_score: float | None = None
    best_epoch: int | None = None
    score_before: float | None = None
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    score: str = "recall@1"


def is_meaningful(metrics: Mapping[str, float]) -> bool:
    """Return whether an evaluation's recall says something about the network, not only about how sums were rounded."""
    return metrics.get(UNDECIDED, 0.0) <= UNDECIDED_SHARE


def has_stagnated(evaluations: Sequence[Mapping[str, float]], score: str, patience: int | None) -> bool:
    """Return whether none of the last `patience` meaningful evaluations beat the best before them (None: never).

    Evaluations before the first epoch do not count.
    """
    scores = [item[score] for item in evaluations if item["epoch"] > 0 and score in item and is_meaningful(item)]
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
