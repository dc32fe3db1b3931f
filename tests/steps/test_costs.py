"""--dry-run: what a command would cost, without a trace; what cannot fit is refused with what would."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path

import pytest

from shitu_cli.steps import costs, rehearsal
from shitu_cli.steps.costs import disk_need, spread, total_size
from shitu_cli.steps.rehearsal import _evaluations
from tests.command import SMALL, shitu
from tests.features.conftest import exported
from tests.training.conftest import prepared, workspace

__all__ = ["exported", "prepared", "workspace"]
Usage = namedtuple("Usage", "total used free")
TRACES = ("prepare.lock", "train.lock")  # locks that prepare has left


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "SECONDS", 0.05)


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
        assert values["seconds"]["total"] == pytest.approx(7 * values["seconds"]["an epoch"], abs=0.01)


def test_what_does_not_fit_is_refused_with_what_would(
    workspace: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "available_memory", lambda: 0)
    monkeypatch.setattr(costs.shutil, "disk_usage", lambda path: Usage(10**9, 10**9 - 1000, 1000))
    done = shitu("train", *COMMANDS["train"][1:], "--dry-run", cwd=workspace, check=False)
    assert done.returncode == 5 and "this cannot fit here" in done.stderr
    assert f"disk for checkpoints ({workspace}/output)" in done.stderr and "1.0 kB available" in done.stderr
    assert "memory" in done.stderr and "hint: shitu train --batch-size 4" in done.stderr
    done = shitu(*arguments("extract", exported), "--json", cwd=workspace, check=False)
    assert done.returncode == 5 and not json.loads(done.stdout)["fits"]


def test_table_for_people(workspace: Path, exported: Path) -> None:
    text = shitu(*arguments("extract", exported), cwd=workspace).stdout
    for expected in ("what it would cost; nothing was written", "48 images", "available", "time in all"):
        assert expected in text


def test_contradictions_are_refused(workspace: Path) -> None:
    for words in (["train", "--frozen"], ["train", "--devices", "cpu:2"], ["index", "build", "--features", "x.npy"]):
        done = shitu(*words, "--dry-run", cwd=workspace, check=False)
        assert done.returncode == 2 and "--dry-run" in done.stderr, words


def test_evaluations_are_counted_as_training_does() -> None:
    assert _evaluations(10, 1, 0) == 10
    assert _evaluations(10, 4, 0) == 3  # 4, 8 and the last
    assert _evaluations(10, 1, 8) == 3
    assert _evaluations(1, 100, 50) == 1


def test_samples_are_spread_evenly(tmp_path: Path) -> None:
    assert list(spread(3, 5)) == [0, 1, 2] and list(spread(10, 5)) == [0, 2, 4, 6, 8]
    for number in range(4):
        (tmp_path / str(number)).write_bytes(bytes(100 * number))
    assert total_size(4, lambda n: str(tmp_path / str(n))) == 600
    assert total_size(5, lambda n: str(tmp_path / str(n))) == 750  # the missing one counts like the others
    assert total_size(2, lambda n: str(tmp_path / "none")) is None
    need = disk_need(tmp_path / "not" / "there", 5)
    assert need.available is not None and need.available > 5 and need.fits


def test_a_shard_without_images_costs_no_time() -> None:
    assert rehearsal._per_image(lambda stop: None, 0, 32) == 0.0


def test_what_a_dry_run_does_not_measure_is_refused(workspace: Path) -> None:
    for argv in (("evaluate", "--cross-fit", "4"), ("index", "build", "--store", "milvus:http://localhost:1")):
        done = shitu(*argv, "--dry-run", cwd=workspace, check=False)
        assert done.returncode == 2 and "--dry-run measures" in done.stderr
