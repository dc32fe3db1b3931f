"""`train --frozen`: a projection on a network that is trained already, written into it as its neck."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training import trained_neck
from shitu_cli.training.checkpoint import load_checkpoint
from tests.command import shitu

NETWORK = ["-o", "Arch.Backbone.name=PPLCNet_x0_25"]


@pytest.fixture
def workspace(trained_workspace: Path) -> Path:
    """A workspace whose network has been trained a little."""
    return trained_workspace


@pytest.fixture
def start(workspace: Path) -> list[str]:
    """The options that start from that network."""
    return [*NETWORK, "--init-from", str(workspace / "output/latest")]


def test_the_projection_is_the_neck_of_what_is_evaluated(workspace: Path, start: list[str]) -> None:
    done = shitu("train", "--frozen", *start, "--views", "2", "--json", cwd=workspace)
    result = json.loads(done.stdout)
    assert result["closed"] and result["size"] == 5
    assert "before training: recall@1" in done.stderr and "linear discriminant analysis" in done.stderr
    saved = load_checkpoint(workspace / "output/latest")
    assert saved.weights["neck.fc.weight"].shape == (1280, 5) and not any(n.startswith("head.") for n in saved.weights)
    earlier = load_checkpoint(workspace / "output/earlier/001/latest")
    backbone = [name for name in earlier.weights if name.startswith("backbone.")]
    assert all(np.array_equal(saved.weights[name], earlier.weights[name]) for name in backbone)
    evaluated = json.loads(shitu("evaluate", "--model", "output/latest", "--json", cwd=workspace).stdout)
    assert evaluated["metrics"]["recall@1"] == pytest.approx(result["after"]["recall@1"], abs=1e-6)
    best = json.loads(shitu("evaluate", "--json", cwd=workspace).stdout)["metrics"]["recall@1"]
    assert best >= result["before"]["recall@1"] - 1e-6  # the bare features stay where they are better


def test_features_come_from_the_cache_the_second_time(workspace: Path, start: list[str]) -> None:
    first = json.loads(shitu("train", "--frozen", *start, "--views", "2", "--json", cwd=workspace).stdout)
    start = [*NETWORK, "--init-from", str(workspace / "output/earlier/001/latest")]
    again = shitu("train", "--frozen", *start, "--views", "2", "--json", cwd=workspace)
    assert again.stderr.count("from the cache") == 4  # query, gallery and two views
    second = json.loads(again.stdout)
    assert second["after"] == first["after"]


def test_the_first_image_may_be_unreadable(workspace: Path, start: list[str]) -> None:
    """The size of the views is that of the first image that can be read."""
    first = (workspace / "lists/train_list.txt").read_text().split("\t")[0]
    next(workspace.rglob(first)).write_bytes(b"no image")
    skip = ["-o", "DataLoader.Train.dataset.on_error=skip", "-o", "DataLoader.Eval.Gallery.dataset.on_error=skip"]
    done = shitu("train", "--frozen", *start, *skip, "--views", "2", cwd=workspace)
    assert "after: recall@1" in done.stdout


def test_new_classes_are_whitened(workspace: Path, start: list[str]) -> None:
    """The gallery has other classes than the training list."""
    listed = workspace / "lists/train_list.txt"
    kept = [line for line in listed.read_text().splitlines() if int(line.split("\t")[1]) < 3]
    for name in ("query_list.txt", "gallery_list.txt"):
        lines = (workspace / "lists" / name).read_text().splitlines()
        (workspace / "lists" / name).write_text("\n".join(li for li in lines if int(li.split("\t")[1]) >= 3) + "\n")
    listed.write_text("\n".join(kept) + "\n")
    done = shitu("train", "--frozen", *start, "--views", "1", "--json", cwd=workspace)
    result = json.loads(done.stdout)
    assert not result["closed"] and result["size"] in (512, 1280, 2)  # the best of three on the evaluation lists
    assert "the gallery holds new classes, so the projection is a whitening" in done.stderr


def test_a_trained_neck_is_kept_where_it_is_better(workspace: Path, start: list[str]) -> None:
    done = shitu("train", "--frozen", "--neck", "trained", *start, "--views", "2", "--json", cwd=workspace)
    result = json.loads(done.stdout)
    line = next(line for line in done.stderr.splitlines() if "recall@1 with the projection in closed form" in line)
    closed, trained = (float(word) for word in re.findall(r"0\.\d{4}|1\.0000", line))
    assert result["neck"] == ("trained" if trained >= closed else "closed-form")
    assert result["after"]["recall@1"] == pytest.approx(max(closed, trained), abs=1e-4)
    assert load_checkpoint(workspace / "output/latest").run["neck"] == result["neck"]


def test_options_of_the_projection(workspace: Path, start: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for words, says in (
        (["--views", "3"], "--views: only --frozen learns a projection"),
        (["--frozen", "--neck", "wide"], "--neck wide: expected closed-form or trained"),
    ):
        done = shitu("train", *words, *start, cwd=workspace, check=False)
        assert done.returncode == 2 and says in done.stderr
    monkeypatch.setattr(trained_neck, "available_memory", lambda: 50_000)
    done = shitu("train", "--frozen", "--neck", "trained", *start, cwd=workspace, check=False)
    assert done.returncode == 5 and "of features in memory, more than half of the 0.0 GB that are free" in done.stderr


def test_without_trained_weights_it_says_what_is_missing(workspace: Path) -> None:
    done = shitu("train", "--frozen", cwd=workspace, check=False)
    assert done.returncode == 2 and "needs a network that is trained already" in done.stderr
    assert "Arch.Backbone.pretrained=" in done.stderr


def test_it_is_not_resumed(workspace: Path, start: list[str]) -> None:
    # As in the template tuned: the config that is kept beside the weights must not ask for a second projection.
    shitu("train", "--frozen", *start, "--views", "1", "-o", "Global.projection=True", cwd=workspace)
    done = shitu("train", "--resume", cwd=workspace, check=False)
    assert done.returncode == 2 and "nothing to continue" in done.stderr and "--init-from" in done.stderr
    state = json.loads(shitu("--json", cwd=workspace).stdout)
    assert state["next"].startswith("shitu evaluate") and state["steps"][1]["is_done"]
    assert state["steps"][1]["state"].startswith("a projection of the features of trained weights, recall@1 ")
