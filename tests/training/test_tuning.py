"""Training from trained weights: what they reach is measured first, the head begins at it, the better one is best."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training import online
from shitu_cli.training.checkpoint import load_checkpoint
from shitu_cli.training.online import BARE
from tests.command import SMALL, shitu

TUNE = ["-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Arch.Neck=null", "-o", "Global.projection=True",
        "-o", "Arch.Head.start=class_means", "-o", "Arch.Backbone.freeze_norm=True", "-o", "Arch.Backbone.freeze_at=3",
        "-o", "Global.eval_interval=1", "--batch-size", "8", "--seed", "3"]  # fmt: skip


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A workspace whose network, which has no neck, has been trained a little; to be copied, not changed."""
    root = shutil.copytree(prepared, tmp_path_factory.mktemp("bare"), dirs_exist_ok=True)
    shitu("train", *SMALL, "-o", "Arch.Neck=null", "--epochs", "1", "--batch-size", "8", "--seed", "3", cwd=root)
    return root


@pytest.fixture
def workspace(tmp_path: Path, bare: Path) -> Path:
    return shutil.copytree(bare, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def start(workspace: Path) -> list[str]:
    """The options that tune that network."""
    return ["train", *TUNE, "--init-from", str(workspace / "output/latest")]


def test_what_the_start_reaches_is_said_first_and_what_training_brought_at_the_end(
    workspace: Path, start: list[str]
) -> None:
    done = shitu(*start, "--epochs", "2", "--lr", "0.01", "--json", cwd=workspace)
    lines = done.stderr.splitlines()
    before = next(n for n, line in enumerate(lines) if line.startswith("before training: recall@1"))
    assert before < next(n for n, line in enumerate(lines) if line.startswith("epoch 1: "))
    result = json.loads(done.stdout)
    first = result["evaluations"][0]
    assert first["epoch"] == 0 and result["score_before"] == first[BARE]
    assert lines[before].startswith(f"before training: recall@1 {first[BARE]:.4f}")
    assert f"recall@1 before training {first[BARE]:.4f}" in done.stderr  # the same figure
    assert (
        first["recall@1"] == first[BARE]
        or f"projection of the features: recall@1 {first['recall@1']:.4f}" in done.stderr
    )
    saved = load_checkpoint(workspace / "output/best_model")
    assert saved.state.best_score == result["best_score"] == max(e["recall@1"] for e in result["evaluations"])
    evaluated = json.loads(shitu("evaluate", "--json", cwd=workspace).stdout)["metrics"]["recall@1"]
    assert evaluated == pytest.approx(result["best_score"], abs=1e-6)


def test_the_head_begins_at_the_mean_features_of_the_classes(workspace: Path, start: list[str]) -> None:
    shitu(*start, "--epochs", "1", "--lr", "0", "-o", "Global.eval_during_train=False", cwd=workspace)
    centers = load_checkpoint(workspace / "output/latest").weights["head.weight"]
    assert np.linalg.norm(centers, axis=0) == pytest.approx(1, abs=1e-5)
    cosines = centers.T @ centers
    assert cosines.min() > 0.5  # features behind the same layers: random centres would be at right angles


@pytest.mark.slow
def test_a_run_killed_before_its_first_step_goes_on_to_the_same_bits(
    workspace: Path, start: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [*start, "--epochs", "1", "--lr", "0.01"]
    shitu(*run, cwd=workspace)
    uninterrupted = load_checkpoint(workspace / "output/latest")
    measure = online.OnlineEvaluation.__call__

    def killed(*args: object) -> object:
        monkeypatch.setattr(online.OnlineEvaluation, "__call__", measure)
        raise KeyboardInterrupt

    monkeypatch.setattr(online.OnlineEvaluation, "__call__", killed)
    resumed_from = ["--init-from", str(workspace / "output/earlier/001/latest")]
    run[run.index("--init-from") : run.index("--init-from") + 2] = resumed_from
    assert shitu(*run, cwd=workspace, check=False).returncode
    started = load_checkpoint(workspace / "output/latest")
    assert started.state.evaluation_due and started.state.epoch == 0
    shitu("train", "--resume", cwd=workspace)
    resumed = load_checkpoint(workspace / "output/latest")
    assert resumed.state.evaluations == uninterrupted.state.evaluations
    assert all(np.array_equal(resumed.weights[name], value) for name, value in uninterrupted.weights.items())


@pytest.mark.slow
def test_training_ends_where_evaluations_bring_nothing_more(workspace: Path, start: list[str]) -> None:
    early = ["-o", "Global.early_stop=1"]
    done = shitu(*start, "--epochs", "6", "--lr", "0", *early, "--json", cwd=workspace)
    result = json.loads(done.stdout)
    assert result["epochs_done"] == 2
    assert result["best_epoch"] == 0 and "no epoch beat" in done.stderr  # the rate is 0
    assert "training ends after epoch 2 of 6" in done.stderr
    resumed = shitu("train", "--resume", cwd=workspace)
    assert "nothing to do: 2 epochs are done" in resumed.stderr and "early_stop" in resumed.stderr


def test_a_projection_needs_the_place_of_the_neck(workspace: Path) -> None:
    done = shitu("train", "-o", "Global.projection=True", cwd=workspace, check=False)
    assert done.returncode == 4 and "Global.projection: a projection takes the place of a neck" in done.stderr
