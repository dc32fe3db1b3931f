"""Which evaluation counts as the best one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.scores import take_score

SCHEDULE: Any = SimpleNamespace(on_result=lambda *values: None)


def test_a_run_that_goes_on_with_another_score_begins_anew_to_compare() -> None:
    state = LoopState()
    state.epoch, state.epoch_losses = 1, [0.5]
    assert take_score(state, {"recall@1": 0.98}, "recall@1", SCHEDULE)[0]
    assert not take_score(state, {"recall@1": 0.97}, "recall@1", SCHEDULE)[0]
    assert take_score(state, {"top1": 0.6}, "top1", SCHEDULE)[0] and state.best_score == 0.6
    assert not take_score(state, {"top1": 0.5}, "top1", SCHEDULE)[0]
