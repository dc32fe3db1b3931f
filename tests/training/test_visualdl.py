"""Logs for VisualDL, with that package and without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.command import SMALL, shitu

RUN = ["train", *SMALL, "--epochs", "2", "--batch-size", "8", "-o", "Global.use_visualdl=True"]


def test_scalars_of_the_run(workspace: Path) -> None:
    visualdl = pytest.importorskip("visualdl", reason="an extra that not everybody installs")
    often = [f"Global.{key}" for key in ("print_batch_step=1", "eval_during_train=True", "eval_interval=1")]
    shitu(*RUN, *(word for setting in often for word in ("-o", setting)), cwd=workspace)
    (file,) = (workspace / "output/vdl").iterdir()
    reader = visualdl.LogReader(file_path=str(file))
    tags = reader.get_tags()["scalar"]
    assert {"train/loss", "train/lr", "eval/recall@1", "eval/mAP"} <= set(tags)
    steps = [item.id for item in reader.get_data("scalar", "train/loss")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > 2
    assert [item.id for item in reader.get_data("scalar", "eval/mAP")] == [1, 2]


def test_without_the_package_it_says_what_to_install(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "visualdl", None)
    done = shitu(*RUN, cwd=workspace, check=False)
    assert done.returncode == 5
    assert "needs the package visualdl" in done.stderr and "pip install visualdl" in done.stderr
    assert "Traceback" not in done.stderr and not (workspace / "output/latest.pdparams").exists()
