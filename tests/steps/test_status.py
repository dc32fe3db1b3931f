"""What `shitu` says of a workspace: whether results are those of its present weights and preprocessing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.config.load import load_config
from shitu_cli.config.places import Places
from shitu_cli.features.engine import features_fingerprint
from shitu_cli.files import sha256_of
from shitu_cli.steps.models import changed_preparation, exported_features
from shitu_cli.steps.status import StepState, status
from shitu_cli.workspace import Workspace
from tests.command import shitu

METRICS = {"recall@1": 0.9, "mAP": 0.8}


@pytest.fixture
def space(workspace: Path, exported: Path) -> Workspace:
    """A prepared workspace that has been trained, evaluated, exported and indexed, as far as its files say."""
    (workspace / "output").mkdir()
    (workspace / "output/best_model.pdparams").write_bytes(b"weights")
    (workspace / "output/latest.pdstates").write_text(json.dumps({"state": {"epoch": 9, "best_score": 0.9}}))
    shutil.copytree(exported, workspace / "inference")
    manifest = json.loads((exported / "manifest.json").read_text())
    config = load_config(workspace / "shitu.yaml")
    assert config.DataLoader.query is not None
    ops = config.DataLoader.query.dataset.transform_ops
    listed = [{op.name: op.args} for op in ops]
    manifest |= {"transform_ops": listed, "source": {"sha256": weights_of(workspace)}}
    (workspace / "inference/manifest.json").write_text(json.dumps(manifest))
    report(workspace, "evaluate", features_fingerprint(f"{weights_of(workspace)}/features", ops), [])
    (workspace / "index").mkdir()
    features = exported_features(Places.of(config))
    (workspace / "index/manifest.json").write_text(json.dumps({"model": features, "count": 3, "kind": "flat"}))
    return Workspace(workspace)


def weights_of(root: Path) -> str:
    return sha256_of(root / "output/best_model.pdparams")


def report(root: Path, name: str, features: str, options: list[str], metrics: dict[str, float] = METRICS) -> None:
    measured = {"options": options, "features": features, "model": "output/best_model (PPLCNet_x0_5)"}
    values: dict[str, Any] = {"measured": measured, "metrics": metrics, "queries": 9, "unanswerable": 0}
    (root / "reports").mkdir(exist_ok=True)
    (root / "reports" / f"{name}.json").write_text(json.dumps(values))


def states(space: Workspace) -> dict[str, StepState]:
    return {state.step: state for state in status(space)}


def test_nothing_is_left_to_do(space: Workspace) -> None:
    found = states(space)
    assert [state.command for name, state in found.items() if name != "train"] == [None] * 4


def test_another_preprocessing_makes_figures_export_and_index_old(space: Workspace) -> None:
    """Else a search prepares images in one way, and the figures are those of another."""
    file = space.config_path
    file.write_text(file.read_text().replace("size: 112", "size: 64"))
    found = states(space)
    assert "of images prepared in another way" in found["evaluate"].state and found["evaluate"].command
    assert "prepares images in another way than the config" in found["export"].state and found["export"].command
    (space.root / "index/manifest.json").write_text(json.dumps({"model": f"{weights_of(space.root)}/features/other"}))
    assert "of another model or preprocessing" in states(space)["index"].state


def test_figures_with_options_are_as_old_as_others(space: Workspace) -> None:
    report(space.root, "evaluate-with-options", f"{'0' * 64}/backbone/x", ["-o Global.retrieval_feature_from=backbone"])
    assert "backbone" not in states(space)["evaluate"].state  # of an earlier training
    (space.root / "reports/evaluate.json").unlink()
    assert "backbone" in (state := states(space)["evaluate"].state) and "of an older model" in state


def test_a_classifier_is_measured_by_its_own_figures(space: Workspace) -> None:
    file = space.config_path
    file.write_text(file.read_text().replace("eval_mode: retrieval", "eval_mode: classification"))
    (space.root / "reports/evaluate.json").unlink()
    assert states(space)["evaluate"].state == "not evaluated yet"
    report(space.root, "classifier", weights_of(space.root), [], {"top1": 0.75, "top5": 1.0})
    assert states(space)["evaluate"] == StepState("evaluate", "top1 0.7500, top5 1.0000")
    report(space.root, "classifier", "0" * 64, [], {"top1": 0.75})
    assert states(space)["evaluate"].state == "top1 0.7500, of another model" and states(space)["evaluate"].command


def test_the_list_of_the_last_run_counts_not_the_configs(space: Workspace) -> None:
    """A run on another list (-o) would else have to be repeated for ever."""
    (space.root / "mine.txt").write_text("data/class_000/000.jpg\t0\n")
    path = space.root / "output/latest.pdstates"
    run = {"config": {"DataLoader.Train.dataset.cls_label_path": "./mine.txt"}}
    run |= {"train_list": sha256_of(space.root / "mine.txt")}  # type: ignore[dict-item]
    path.write_text(json.dumps({**json.loads(path.read_text()), "run": run}))
    assert "has changed since" not in states(space)["train"].state
    (space.root / "mine.txt").write_text("data/class_000/001.jpg\t0\n")
    assert "the training list has changed since" in states(space)["train"].state


def test_another_preparation_than_that_of_the_training_is_said(trained: Path) -> None:
    """Such as a size that only `train -o` set: the figures are not those that training showed."""
    key = "DataLoader.Eval.Query.dataset.transform_ops.1.ResizeImage.size"
    plain, other = (load_config(trained / "shitu.yaml", words) for words in ([], [f"{key}=80"]))
    for prefix in (trained / "output/latest", trained / "output/latest.pdparams"):
        assert changed_preparation(plain, prefix) is None
        assert f"when this model was trained: {key}: 112 then, 80 now" in str(changed_preparation(other, prefix))
    assert changed_preparation(other, trained / "inference") is None


def test_another_output_directory_is_where_all_look(trained_workspace: Path) -> None:
    """`train` wrote into it, and `shitu` said "not trained yet", `extract` that there was no checkpoint."""
    config = trained_workspace / "shitu.yaml"
    config.write_text(config.read_text().replace("output_dir: ./output", "output_dir: ./runs"))
    (trained_workspace / "output").rename(trained_workspace / "runs")
    shown = shitu(cwd=trained_workspace).stdout
    assert "1 epoch" in shown and "not trained yet" not in shown
    done = shitu("extract", "data/class_000", "--out", "f.npy", cwd=trained_workspace)
    assert "8 vectors" in done.stdout and not (trained_workspace / "output").exists()
