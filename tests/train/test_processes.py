"""Two real processes train what one trains; one that dies takes the run along."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from shitu_cli.model.weights import read_pickle
from tests.command import shitu

# Dropout draws its own numbers in every process, so these networks have none.
PLAIN = [
    *("-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_during_train=False"),
    *("-o", "Arch.Backbone.dropout_prob=0.0", "--seed", "1", "--lr", "0.01"),
]
# The first step of the warm-up has rate 0, so this is one update: after more of them rounding has grown too large
# (two single-process runs that differ in nothing but the order of sums are 1 % apart after one, 10 % after two).
ONE_UPDATE = ["--epochs", "1", "-o", "Global.iter_per_epoch=2"]


def trained(workspace: Path, *args: str) -> dict[str, np.ndarray]:
    shutil.rmtree(workspace / "output", ignore_errors=True)
    shitu("train", *PLAIN, *args, cwd=workspace)
    return read_pickle(workspace / "output/latest.pdparams")


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Euclidean, over all trained weights."""
    names = [name for name in a if not name.endswith(("_mean", "_variance"))]
    return float(np.sqrt(sum(float(((a[name] - b[name]) ** 2).sum()) for name in names)))


def test_two_processes_train_what_one_trains_with_twice_the_batch(workspace: Path) -> None:
    start = trained(workspace, *ONE_UPDATE, "--batch-size", "8", "--lr", "0.0")
    one = trained(workspace, *ONE_UPDATE, "--batch-size", "8")
    synced = ("--batch-size", "4", "--devices", "cpu:2", "-o", "Arch.use_sync_bn=True")
    two = trained(workspace, *ONE_UPDATE, *synced)
    assert "batches of 4 x 2 processes" in (workspace / "output/train.log").read_text()
    half = trained(workspace, *ONE_UPDATE, "--batch-size", "4")
    update = distance(one, start)
    assert distance(one, two) < 0.03 * update
    assert distance(one, half) > 0.3 * update  # so the test above can fail


def test_the_same_run_on_two_processes_repeats_to_the_bit(workspace: Path) -> None:
    args = ("--epochs", "2", "--batch-size", "4", "--devices", "cpu:2")
    first, second = trained(workspace, *args), trained(workspace, *args)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_a_dead_process_ends_the_run_within_seconds(workspace: Path) -> None:
    args = ["train", *PLAIN, "--epochs", "500", "--batch-size", "4", "--devices", "cpu:2"]
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


def test_a_signal_during_evaluation_stops_all_together(workspace: Path) -> None:
    args = ["train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_interval=1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "shitu_cli", *args, "--epochs", "500", "--batch-size", "4", "--devices", "cpu:2"],
        cwd=workspace,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    log = workspace / "output/train.log"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "epoch 2:" in log.read_text()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    start = time.monotonic()
    output, _ = run.communicate(timeout=60)
    assert time.monotonic() - start < 15
    assert run.returncode == 130, output
    assert "everything is saved" in output and "--resume" in output
