"""--dry-run: what a command would cost, without a trace; what cannot fit is refused with what would."""

from __future__ import annotations

import itertools
import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.steps import costs, training_costs
from shitu_cli.steps.costs import disk_need, spread, total_size
from tests.command import SMALL, shitu
from tests.features import detectors

Usage = namedtuple("Usage", "total used free")
TRACES = ("prepare.lock", "train.lock")  # locks that prepare has left


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "SECONDS", 0.05)


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in TRACES}


COMMANDS = {
    "prepare": ["prepare", "./data"],
    "train": ["train", *SMALL, "--epochs", "7", "--batch-size", "8"],
    "evaluate": ["evaluate"],
    "extract": ["extract", "./data", "--out", "features.npy"],
    "index build": ["index", "build", "./data"],
}


def arguments(name: str, model: Path) -> list[str]:
    return [*COMMANDS[name], *([] if name in ("prepare", "train") else ["--model", str(model)]), "--dry-run"]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_dry_run_says_what_it_costs_and_writes_nothing(workspace: Path, exported: Path, name: str) -> None:
    before = everything_in(workspace)
    values = json.loads(shitu(*arguments(name, exported), "--json", cwd=workspace).stdout)
    assert everything_in(workspace) == before
    training = (workspace / "lists/train_list.txt").read_text().count("\n")
    assert values["images"] == (training if name == "train" else 48)
    assert values["bytes_to_read"] > 300 * values["images"] and values["fits"]
    assert values["seconds"]["total"] > 0 and values["measured"]
    for need in values["needs"]:
        assert need["needed"] > 0 and need["available"] > need["needed"]
    if name == "train":
        seconds = values["seconds"]
        assert seconds["total"] == pytest.approx(seconds["the first epoch"] + 6 * seconds["a later epoch"], abs=0.01)


def test_what_does_not_fit_is_refused_with_what_would(
    workspace: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 0)
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    done = shitu("train", *COMMANDS["train"][1:], "--dry-run", cwd=workspace, check=False)
    assert done.returncode == 5 and "this does not fit on this machine" in done.stderr
    assert f"disk for checkpoints ({workspace}/output)" in done.stderr and "1.0 kB available" in done.stderr
    assert "memory" in done.stderr and "hint: shitu train --batch-size 4" in done.stderr
    done = shitu(*arguments("extract", exported), "--json", cwd=workspace, check=False)
    assert done.returncode == 5 and not json.loads(done.stdout)["fits"]


def test_table_for_people(workspace: Path, exported: Path) -> None:
    text = shitu(*arguments("extract", exported), cwd=workspace).stdout
    for expected in ("what it would cost; nothing was written", "48 images", "available", "time in all"):
        assert expected in text


def test_contradictions_are_refused(workspace: Path) -> None:
    commands = (
        ["train", "--frozen"],
        ["train", "--devices", "cpu:2"],
        ["evaluate", "--devices", "cpu:2"],
        ["index", "build", "--features", "x.npy"],
    )
    for words in commands:
        done = shitu(*words, "--dry-run", cwd=workspace, check=False)
        assert done.returncode == 2 and "--dry-run" in done.stderr, words


def test_samples_are_spread_evenly(tmp_path: Path) -> None:
    assert list(spread(3, 5)) == [0, 1, 2] and list(spread(10, 5)) == [0, 2, 4, 6, 8]
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes(100 * number))
    assert total_size(4, lambda n: str(tmp_path / str(n))) == 600
    assert total_size(5, lambda n: str(tmp_path / str(n))) == 750  # the missing one counts like the others
    assert total_size(2, lambda n: str(tmp_path / "none")) is None
    need = disk_need(tmp_path / "not" / "there", 5)
    assert need.available is not None and need.available > 5 and need.fits


def cost_of(workspace: Path, *words: str) -> dict[str, Any]:
    return dict(json.loads(shitu(*words, "--dry-run", "--json", cwd=workspace).stdout))


def test_options_of_evaluate_count(workspace: Path, exported: Path) -> None:
    """A part has a part of the features and ranks nothing; mirrored images are seen too; cross-fitting trains."""
    model = ("--model", str(exported))
    part = cost_of(
        workspace, "evaluate", *model, "--shard", "2/2", "--flip", "-o", "DataLoader.Eval.Query.sampler.batch_size=4"
    )
    whole = cost_of(workspace, "evaluate", *model, "--query-expansion", "2", "--rerank")
    assert 0 < part["images"] < whole["images"] and set(part["seconds"]) == {"features", "total", "margin"}
    assert set(whole["seconds"]) == {"features", "ranking", "total", "margin"}
    assert [need["what"] for need in part["needs"]] == ["memory"], "a shard keeps no features for later"


def test_a_cross_fit_costs_its_trainings(workspace: Path, exported: Path) -> None:
    before = everything_in(workspace)
    cost = cost_of(workspace, "evaluate", "--model", str(exported), "--cross-fit", "3", "-o", "Global.epochs=5")
    seconds = cost["seconds"]
    assert seconds["total"] > 3 * seconds["a training"] > 0 and "3 trainings" in cost["remarks"][0]
    assert {need["what"] for need in cost["needs"]} >= {"memory", "disk for checkpoints"}
    assert everything_in(workspace) == before


def test_re_ranking_counts_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second for each look at the clock: what is left is how the figures grow."""
    seconds = itertools.count()
    monkeypatch.setattr(training_costs.time, "perf_counter", lambda: float(next(seconds)))
    monkeypatch.setattr(training_costs, "rank", lambda *sets, **options: None)
    monkeypatch.setattr(training_costs, "reranked", lambda *features, **options: None)

    def cost(queries: int, gallery: int, rerank: bool) -> float:
        return training_costs._ranking_seconds(queries, gallery, 8, rerank=rerank, query_expansion=0)

    assert cost(1000, 100_000, False) == 5 * 5
    assert cost(1000, 100_000, True) == pytest.approx((101_000 / 2200) ** 2 + 5 * 50)


def test_a_detector_and_a_server_are_measured(workspace: Path, exported: Path) -> None:
    (workspace / "mainbody").mkdir()
    detectors.paddle_finished(workspace / "mainbody/model.onnx")
    (workspace / "mainbody/infer_cfg.yml").write_text(detectors.DESCRIPTION)
    words = ("./data", "--model", str(exported), "--detector", "mainbody")
    for argv in (("extract", *words, "--shard", "1/2"), ("index", "build", *words)):
        cost = cost_of(workspace, *argv)
        assert "cut out by mainbody" in cost["measured"] and cost["images"] == (32 if "--shard" in argv else 48)
    cost = cost_of(workspace, "index", "build", *words[:3], "--store", "milvus:http://localhost:1")
    assert [need["what"] for need in cost["needs"]] == ["memory"] and "to the server" in cost["remarks"][0]


def test_a_teacher_costs_its_features_once(workspace: Path, exported: Path) -> None:
    image = next((workspace / "data").rglob("*.jpg")).read_bytes()
    (workspace / "more").mkdir()
    for number in range(5):
        (workspace / "more" / f"{number}.jpg").write_bytes(image + bytes([number]))
    before = everything_in(workspace)
    views = ("-o", "Loss.Train.TeacherLoss.views=1000", "--unlabelled", "more")
    cost = cost_of(workspace, *COMMANDS["train"], "--teacher", str(exported), *views)
    labelled = (workspace / "lists/train_list.txt").read_text().count("\n")
    seconds, memory = cost["seconds"], next(need for need in cost["needs"] if need["what"] == "memory")
    assert 0 < seconds["features of the teacher"] < seconds["total"]
    assert cost["images"] == labelled + 5
    assert memory["needed"] > 1000 * labelled * 1280 * 4  # all views of all images with labels
    assert everything_in(workspace) == before


def test_photos_of_unknown_things_and_shards_count(workspace: Path, exported: Path) -> None:
    model = ("--model", str(exported))
    cost = cost_of(workspace, "evaluate", *model, "--unknown", "data")
    assert set(cost["seconds"]) == {"features", "ranking", "features of unknown things", "total", "margin"}
    for part in ("1/2", "2/2"):
        shitu("evaluate", *model, "--shard", part, cwd=workspace)
    cost = cost_of(workspace, "evaluate", *model, "--merge", "reports/shards")
    assert set(cost["seconds"]) == {"ranking", "total", "margin"}
    (workspace / "reports/shards/evaluate.1-of-2.shard").unlink()
    done = shitu("evaluate", *model, "--merge", "reports/shards", "--dry-run", cwd=workspace, check=False)
    assert done.returncode == 3, "what evaluate refuses"
