"""Which evaluation counts as the best one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from shitu_cli.config.patch import patch_yaml
from shitu_cli.steps.status import status
from shitu_cli.training.loop_state import LoopState
from shitu_cli.training.scores import take_score
from shitu_cli.workspace import Workspace

SCHEDULE: Any = SimpleNamespace(on_result=lambda *values: None)


def test_a_run_that_goes_on_with_another_score_begins_anew_to_compare() -> None:
    state = LoopState()
    state.epoch, state.epoch_losses = 1, [0.5]
    assert take_score(state, {"recall@1": 0.98}, "recall@1", SCHEDULE)[0]
    assert not take_score(state, {"recall@1": 0.97}, "recall@1", SCHEDULE)[0]
    assert take_score(state, {"top1": 0.6}, "top1", SCHEDULE)[0] and state.best_score == 0.6
    assert not take_score(state, {"top1": 0.5}, "top1", SCHEDULE)[0]


def test_the_score_that_the_config_names_first_chooses_among_several() -> None:
    state = LoopState()
    state.epoch, state.epoch_losses = 1, [0.5]
    evaluations = [{"recall@1": 0.9, "mAP": 0.4}, {"recall@1": 0.8, "mAP": 0.5}, {"recall@1": 0.95, "mAP": 0.45}]
    taken = [take_score(state, metrics, "mAP", SCHEDULE) for metrics in evaluations]
    assert [better for better, _ in taken] == [True, True, False] and state.best_score == 0.5
    assert "mAP 0.5000  recall@1 0.8000" in taken[1][1]
    better, _ = take_score(state, {"recall@1": 0.3, "mAP": 0.1}, "recall@1", SCHEDULE)
    assert better and state.best_score == 0.3  # 0.5 was the best of another figure


def test_a_run_that_ended_early_is_not_to_be_continued(trained_workspace: Path) -> None:
    """The state of a workspace goes on to the next step, as `train --resume` has nothing to do."""
    states, config = trained_workspace / "output/latest.pdstates", trained_workspace / "output/config.yaml"
    values = json.loads(states.read_text())
    values["state"]["evaluations"] = [{"epoch": 1, "recall@1": 0.5}, {"epoch": 2, "recall@1": 0.5}]
    states.write_text(json.dumps(values))
    for patience, command in ((2, "shitu train --resume"), (1, None)):
        changes = {"Global.epochs": 9, "Global.early_stop": patience}
        config.write_text(patch_yaml(config.read_text(), changes)[0])
        step = status(Workspace(trained_workspace))[1]
        assert step.state.endswith(", of 9")
        assert (step.command and str(step.command)) == command
