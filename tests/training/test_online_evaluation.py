"""What an online evaluation has found stays known, whenever the run is killed."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shitu_cli import load_config
from shitu_cli.cli import console
from shitu_cli.config.schema import GlobalConfig
from shitu_cli.data.dataset import RecDataset
from shitu_cli.errors import DataError
from shitu_cli.evaluation.metrics import UNDECIDED_SHARE
from shitu_cli.pace import Pace
from shitu_cli.training import online, run
from shitu_cli.training.checkpoint import load_checkpoint
from shitu_cli.training.history import read_histories
from shitu_cli.training.online import OnlineResult, evaluations_after, images_per_evaluation
from shitu_cli.training.options import UNDECIDED
from shitu_cli.training.outlook import Outlook
from tests.command import shitu
from tests.kills import Killed

RUN = ["train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "--batch-size", "8", "--seed", "5", "--epochs", "2"]


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """`scores(0.5, 0.4, ...)`: what the next evaluations find, None for a kill; the list shrinks as they run.

    `undecided` holds the shares of queries that rounding decides, one for each evaluation.
    """

    def give(*values: float | None, undecided: Sequence[float] = ()) -> list[float | None]:
        left, shares = list(values), list(undecided)

        class Written:
            def __call__(self, model: object, processes: object) -> OnlineResult:
                value = left.pop(0)
                if value is None:
                    raise Killed
                return OnlineResult({"recall@1": value, **({UNDECIDED: shares.pop(0)} if shares else {})})

            def estimate_seconds(self, model: object) -> float:
                return 100.0

        monkeypatch.setattr(run, "_evaluation", lambda training, reporter: Written())
        return left

    return give


def test_how_long_an_evaluation_takes_is_asked_once_and_nobody_has_to_know(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Fickle:
        def __call__(self, model: object, processes: object) -> OnlineResult:
            return OnlineResult({"recall@1": 0.5})

        def estimate_seconds(self, model: object) -> float:
            asked.append(model)
            raise DataError("an image of the query list cannot be read")

    monkeypatch.setattr(run, "_evaluation", lambda training, reporter: Fickle())
    shitu(*RUN, "-o", "Global.eval_interval=2", cwd=workspace)
    assert len(asked) == 1


def test_images_of_one_list_count_once(workspace: Path) -> None:
    config = load_config(workspace / "shitu.yaml")
    both = images_per_evaluation(config, 0)
    loaders = config.DataLoader
    one = dataclasses.replace(config, DataLoader=dataclasses.replace(loaders, query=loaders.gallery))
    assert loaders.gallery is not None and both > images_per_evaluation(one, 0)
    assert images_per_evaluation(one, 0) == len(RecDataset(loaders.gallery.dataset))


def test_a_kill_during_the_last_evaluation_loses_only_that_evaluation(
    workspace: Path, scores: Callable[..., list[float | None]]
) -> None:
    scores(0.5, None)
    killed = shitu(*RUN, "-o", "Global.eval_interval=1", cwd=workspace, check=False)
    assert "Killed" in killed.stderr
    scores(0.25)  # worse than before: not a reason to forget it
    shitu(*RUN, "--resume", cwd=workspace)
    saved = load_checkpoint(workspace / "output/latest")
    assert [item["recall@1"] for item in saved.state.evaluations] == [0.5, 0.25]
    assert load_checkpoint(workspace / "output/best_model").state.epoch == 1
    left = scores(0.75)
    done = shitu(*RUN, "--resume", cwd=workspace)
    assert left == [0.75] and "nothing to do" in done.stderr
    records = [json.loads(line) for line in (workspace / "output/metrics.jsonl").read_text().splitlines()]
    assert [record["recall@1"] for record in records if record["kind"] == "eval"] == [0.5, 0.25]


def test_without_evaluation_the_best_that_was_measured_stays(
    workspace: Path, scores: Callable[..., list[float | None]]
) -> None:
    scores(0.5)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    shitu(*RUN, "--resume", "--eval-during-train", "false", cwd=workspace)
    assert load_checkpoint(workspace / "output/latest").state.epoch == 2
    assert load_checkpoint(workspace / "output/best_model").state.epoch == 1


def test_the_time_of_evaluation_is_said(workspace: Path, scores: Callable[..., list[float | None]]) -> None:
    scores(0.5, 0.6)
    done = shitu(*RUN, "--json", cwd=workspace)
    result = json.loads(done.stdout)
    parts = result["seconds"] + result["evaluation_seconds"]
    assert 0 < result["seconds"] < parts <= result["elapsed_seconds"]


def test_a_score_that_rounding_decides_beats_none_that_was_measured(
    workspace: Path, scores: Callable[..., list[float | None]]
) -> None:
    scores(0.9, 0.3, 1.0, undecided=(1.0, 0.0, 0.5))
    done = shitu(*RUN, "--epochs", "3", "-o", "Global.eval_interval=1", "--json", cwd=workspace)
    assert json.loads(done.stdout)["best_score"] == 0.3
    assert load_checkpoint(workspace / "output/best_model").state.epoch == 2
    (history,) = read_histories(workspace / "output")
    assert history.scores == [(2, 0.3)]
    assert "epoch 2: " in done.stderr and "(best so far)" in done.stderr
    assert done.stderr.count("nearly coincide") == 2 and "50% of the queries" in done.stderr
    assert "0.9000" not in done.stderr and "1.0000" not in done.stderr


def test_without_any_real_score_the_newest_weights_are_the_best(
    workspace: Path, scores: Callable[..., list[float | None]]
) -> None:
    scores(0.9, 0.2, undecided=(1.0, 1.0))
    done = shitu(*RUN, "-o", "Global.eval_interval=1", "--json", cwd=workspace)
    result = json.loads(done.stdout)
    assert result["best_score"] is None and len(result["evaluations"]) == 2
    assert load_checkpoint(workspace / "output/best_model").state.epoch == 2
    assert "best_model holds the newest weights" in done.stderr


def test_a_real_evaluation_says_how_much_rounding_decides(workspace: Path) -> None:
    done = shitu(*RUN, "--epochs", "1", "--json", cwd=workspace)
    (evaluation,) = json.loads(done.stdout)["evaluations"]
    assert 0 <= evaluation[UNDECIDED] <= 1
    assert (json.loads(done.stdout)["best_score"] is None) == (evaluation[UNDECIDED] > UNDECIDED_SHARE)


def test_evaluations_to_come_are_in_the_time_that_is_left(
    workspace: Path, scores: Callable[..., list[float | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as a few batches say, then as long as they took; a resumed run knows how many are left."""
    expected, expect = list[float](), Outlook.expect

    def noted(outlook: Outlook, pace: Pace, epoch: int) -> None:
        expect(outlook, pace, epoch)
        expected.append(pace.expected)

    monkeypatch.setattr(Outlook, "expect", noted)
    scores(0.1, None)
    three = [*RUN[:-1], "3", "-o", "Global.eval_interval=1"]
    shitu(*three, cwd=workspace, check=False)
    assert expected[0] == 3 * 100.0 and 0 < expected[1] < 2 * 100.0 and len(expected) == 2
    scores(0.1, 0.1)  # the one that was killed, and that of the last epoch
    shitu(*three, "--resume", cwd=workspace)
    assert expected[2:] == [100.0, 0.0]


@pytest.mark.parametrize(
    ("epochs", "interval", "first", "count"), [(10, 1, 0, 10), (10, 4, 0, 3), (10, 1, 8, 3), (1, 100, 50, 1)]
)
def test_how_often_a_run_evaluates(epochs: int, interval: int, first: int, count: int) -> None:
    """After 4, 8 and the last of 10 epochs, for one."""
    chosen = GlobalConfig(epochs=epochs, eval_interval=interval, start_eval_epoch=first)
    assert evaluations_after(0, chosen) == count and evaluations_after(epochs, chosen) == 0


def test_evaluations_share_a_trace_and_show_how_far_they_are(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace takes longer than a small evaluation; over large lists, the line of training stands still for long."""
    traces, trace = list[object](), online.trace_for_engine
    monkeypatch.setattr(online, "trace_for_engine", lambda *of: traces.append(of) or trace(*of))
    monkeypatch.setattr(console, "LOG_SECONDS", 0)
    shown = shitu(*RUN, "-o", "Global.eval_interval=1", cwd=workspace).stderr.splitlines()
    kinds = [kind for kind, _ in itertools.groupby(line.split()[0] for line in shown if " images " in line)]
    assert kinds == ["training", "query", "gallery"] * 2
    assert len(traces) == 1
