"""The scores of online evaluations: which weights are best, and how they are reported."""

from __future__ import annotations

from collections.abc import Mapping

from shitu_cli.errors import TrainingError
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.online import BARE
from shitu_cli.training.options import UNDECIDED, is_meaningful
from shitu_cli.training.schedules import Schedule


def take_score(state: LoopState, metrics: Mapping[str, float], score: str, schedule: Schedule) -> tuple[bool, str]:
    """Record an evaluation; return whether its weights become the best, and a line that shows it.

    If features coincide, rounding decides the score and it does not count: such weights are the best only until the
    first meaningful score, however low. Raises TrainingError if there is no metric called `score`.
    """
    state.evaluation_due = False
    state.evaluations.append({"epoch": state.epoch, **metrics})
    if score not in metrics:
        raise TrainingError(f"the evaluation has no metric {score}, only {', '.join(metrics)}")
    if not is_meaningful(metrics):
        shown = (
            f"{score} cannot be measured: the features of different images nearly coincide, so that for "
            f"{metrics[UNDECIDED]:.0%} of the queries rounding would decide which image comes first"
        )
        return state.best_score is None, _line(state, shown)
    if state.best_score not in [item.get(score) for item in state.evaluations[:-1]]:  # it is of another metric
        state.best_score = state.best_epoch = None
    schedule.on_result(metrics[score], "max", state.schedule)
    better = state.best_score is None or metrics[score] > state.best_score
    if better:
        state.best_score, state.best_epoch = metrics[score], state.epoch
    names = dict.fromkeys((score, "recall@1", "recall@5", "top5", "mAP"))
    shown = "  ".join(f"{name} {metrics[name]:.4f}" for name in names if name in metrics)
    if (bare := metrics.get(BARE, metrics[score])) < metrics[score]:
        with_projection = f"{score} {bare:.4f}; with a projection of the features: {shown}"
        shown = f"{shown}  (without projection {bare:.4f})" if state.epoch else with_projection
    return better, _line(state, shown + ("  (best so far)" if better and state.epoch else ""))


def _line(state: LoopState, shown: str) -> str:
    if state.epoch == 0:
        return f"before training: {shown}"
    return f"epoch {state.epoch}: loss {state.epoch_losses[-1]:.4f}  {shown}"


def score_before(state: LoopState, score: str) -> float | None:
    """Return what the unchanged features of the start reached without a projection; None without a start."""
    first = next((item for item in state.evaluations if item["epoch"] == 0), {})
    value = first.get(BARE, first.get(score))
    return None if value is None else float(value)
