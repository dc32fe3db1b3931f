"""Two real processes train what one trains; one that dies takes the run along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from shitu_cli.model.weights import read_pickle
from tests.command import shitu

# Batch statistics stay per process, as in the field: the network of this test has none in use, and no dropout.
NO_STATISTICS = [
    *("-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_during_train=False"),
    *("-o", "Arch.Backbone.dropout_prob=0.0"),
]


def test_two_processes_see_every_picture_once_and_agree(workspace: Path) -> None:
    args = ["train", *NO_STATISTICS, "--epochs", "1", "--batch-size", "4", "--seed", "1", "--devices", "cpu:2"]
    shitu(*args, cwd=workspace)
    log = (workspace / "output/train.log").read_text()
    assert "batches of 4 x 2 processes" in log
    first = read_pickle(workspace / "output/latest.pdparams")
    shitu(*args, cwd=workspace)
    second = read_pickle(workspace / "output/latest.pdparams")
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_dead_process_ends_the_run_within_seconds(workspace: Path) -> None:
    args = ["train", *NO_STATISTICS, "--epochs", "500", "--batch-size", "4", "--devices", "cpu:2"]
    run = subprocess.Popen(
        [sys.executable, "-m", "shitu_cli", *args],
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = workspace / "output/train.log"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "saved latest" in log.read_text()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    children = _children(run.pid)
    assert len(children) == 2
    killed = next(pid for pid in children if b"PADDLE_TRAINER_ID=1" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(killed, signal.SIGKILL)
    start = time.monotonic()
    output, _ = run.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert run.returncode == 6
    assert "process 1 of the run ended with signal SIGKILL" in output and "--resume" in output
    time.sleep(0.5)
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
    shitu(*args[:-2], "--resume", "--epochs", "1", cwd=workspace, check=False)


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def test_devices_are_checked(workspace: Path) -> None:
    for wrong in ("cpu", "cpu:0", "gpu:0,0", "a,b"):
        done = shitu("train", "--devices", wrong, cwd=workspace, check=False)
        assert done.returncode == 2 and "--devices" in done.stderr
