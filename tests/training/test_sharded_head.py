"""Class centres divided over processes train what whole ones train, and are whole in checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu_cli.config.reader import make_part
from shitu_cli.config.schema import AmpConfig
from shitu_cli.errors import ConfigError
from shitu_cli.model import heads
from shitu_cli.processes.collectives import Ranks
from shitu_cli.processes.launch import rank_environments
from shitu_cli.processes.machines import alone
from shitu_cli.training.sharded_head import shard_head
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import shitu, shitu_process
from tests.training.head_rank import train

ROOT = Path(__file__).resolve().parents[2]
LARGE = {"epsilon": 0.1, "class_num": 4097, "scale": 30}
SAMPLED = {"shard": True, "class_num": 101, "sample_ratio": 0.2}


def trained_by(processes: int, folder: Path, **jobs: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """What tests/training/head_rank.py writes for each job; the processes are started once for all of them."""
    command = [sys.executable, "-m", "tests.training.head_rank", str(folder), json.dumps(jobs)]
    running = []
    for environment in rank_environments(["cpu"] * processes, alone(processes)):
        running.append(subprocess.Popen(command, cwd=ROOT, env={**environment, "OMP_NUM_THREADS": "1"}))
        time.sleep(0.3)  # the first listens; a process that comes before it tries again after 3 s
    assert [process.wait(timeout=120) for process in running] == [0] * processes
    return {name: dict(np.load(folder / f"{name}.npz")) for name in jobs}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Centres trained by two processes: divided, whole, and divided with some of the classes at a time."""
    jobs = {"divided": {"shard": True}, "whole": {}, "sampled": SAMPLED}
    return trained_by(2, tmp_path_factory.mktemp("two"), **jobs)


def assert_same(several: dict[str, np.ndarray], one: dict[str, np.ndarray]) -> None:
    assert one.keys() == several.keys() and any("velocity" in name for name in one)
    for name in one:
        assert np.abs(one[name] - several[name]).max() <= 1e-5 * np.abs(one[name]).max(), name


@pytest.mark.parametrize("centres", ["divided", "whole"])
def test_two_processes_train_what_one_trains(two: dict[str, dict[str, np.ndarray]], centres: str) -> None:
    """Losses, gradients of features, centres and velocity after steps over batches that divide unevenly."""
    assert_same(two[centres], train(Ranks()))


@pytest.mark.slow
def test_three_processes_train_what_one_trains(tmp_path: Path) -> None:
    three = trained_by(3, tmp_path, divided={"shard": True, **LARGE})
    assert_same(three["divided"], train(Ranks(), **LARGE))


def test_every_process_samples_of_its_own_classes(two: dict[str, dict[str, np.ndarray]]) -> None:
    """7 + 4 + 6 labels, and a fifth of 51 and 50 classes in each of three steps: the others do not move."""
    moved = np.flatnonzero(np.abs(two["sampled"]["head.weight"] - untouched(101)).sum(0))
    assert 21 <= len(moved) <= 3 * 21
    assert (moved < 51).any() and (moved >= 51).any()


RUN = [
    *("train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_during_train=False", "--epochs", "2"),
    *("--batch-size", "5", "--devices", "cpu:2", "-o", "Arch.Head.shard=True", "-o", "Arch.Head.sample_ratio=0.7"),
    *("-o", "EMA.decay=0.5", "--save-every-steps", "1", "--keep", "100"),
]


@pytest.mark.slow
def test_a_divided_run_resumes_to_the_bit_and_loads_anywhere(workspace: Path) -> None:
    done = shitu_process(*RUN, cwd=workspace)
    assert "the centres of 6 classes are divided over 2 processes (as requested)" in done.stdout
    output = workspace / "output"
    weights, optimizer = read_paddle(output / "latest.pdparams"), read_paddle(output / "latest.pdopt")
    assert weights["head.weight"].shape == (1280, 6)
    assert [v.shape for name, v in optimizer.items() if name.startswith("cos_margin")] == [(1280, 6)]
    for path in [*output.glob("latest.*"), *output.glob("best_model.*"), *output.glob("checkpoints/*")]:
        if "save_000003" not in path.name:
            path.unlink()
    assert (
        "exactly as without the interruption"
        in shitu_process("train", "--resume", "--devices", "cpu:2", cwd=workspace).stdout
    )
    resumed = read_paddle(output / "latest.pdparams")
    assert all(np.array_equal(resumed[name], weights[name]) for name in weights)
    one = shitu_process("train", "--resume", "--epochs", "3", cwd=workspace)
    assert "processes: 2 then, 1 now" in one.stderr and "exactly as without the interruption" not in one.stdout
    shitu_process("evaluate", cwd=workspace)


def test_what_cannot_be_divided_is_refused(workspace: Path) -> None:
    for extra, expected in (
        (["-o", "Arch.Head.name=FC"], "Arch.Head.shard"),
        (["-o", "Arch.Head.shard=maybe"], "expected true or false or auto"),
    ):
        done = shitu(*RUN, *extra, cwd=workspace, check=False)
        assert done.returncode == 4, done.stderr
        assert expected in done.stderr


class _Ranks(Ranks):
    """The second of several processes, without the others."""

    def __init__(self, world: int) -> None:
        self.rank, self.world = 1, world


def arc_margin(size: int, class_num: int, **more: object) -> nn.Layer:
    return make_part("head", "ArcMargin", embedding_size=size, class_num=class_num, **more).build()


def model_of(head: nn.Layer) -> nn.Layer:
    model = nn.Layer()
    model.head = head
    return model


def test_it_is_divided_when_that_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    small = shard_head(model_of(arc_margin(4, 11)), None, _Ranks(2), "cpu")
    assert not small.names and not small.reason
    monkeypatch.setattr(heads, "LARGE_BYTES", 4 * 11 * 4)
    assert not shard_head(model_of(arc_margin(4, 11)), None, Ranks(), "cpu").names
    assert not shard_head(model_of(arc_margin(4, 11, shard=False)), None, _Ranks(2), "cpu").names
    model = model_of(arc_margin(4, 11))
    whole, name = model.head.weight.numpy(), model.head.weight.name
    shards = shard_head(model, None, _Ranks(2), "cpu")
    assert shards.widths == [6, 5] and "divided over 2 processes (very many classes)" in shards.reason
    assert model.head.weight.name == name and np.array_equal(model.head.weight.numpy(), whole[:, 6:])
    assert np.array_equal(shards.own({"head.weight": whole})["head.weight"], whole[:, 6:])


def test_it_is_not_divided_where_that_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "LARGE_BYTES", 4 * 11 * 4)
    half = AmpConfig(use_amp=True, dtype="float16")
    for world, amp, device, why in (
        (12, None, "cpu", "only 11 classes for 12 processes"),
        (2, half, "gpu:0", "float16 skips"),
    ):
        shards = shard_head(model_of(arc_margin(4, 11)), amp, _Ranks(world), device)
        assert not shards.names and why in shards.reason
        with pytest.raises(ConfigError, match=why):
            shard_head(model_of(arc_margin(4, 11, shard=True)), amp, _Ranks(world), device)


def untouched(class_num: int) -> np.ndarray:
    paddle.seed(3)
    return arc_margin(6, class_num).weight.numpy()
