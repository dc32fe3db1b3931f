"""Two real processes train what one trains; one that dies takes the run along."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training.checkpoint import has_checkpoint, load_checkpoint
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import all_end, children_of, shitu, shitu_process, shitu_started

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
    shitu_process("train", *PLAIN, *args, cwd=workspace)
    return read_paddle(workspace / "output/latest.pdparams")


def distance(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
    """Euclidean, over all trained weights."""
    names = [name for name in a if not name.endswith(("_mean", "_variance"))]
    return float(np.sqrt(sum(float(((a[name] - b[name]) ** 2).sum()) for name in names)))


@pytest.mark.slow
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


@pytest.mark.slow
def test_all_processes_share_the_evaluation_and_agree_with_evaluate(workspace: Path) -> None:
    """Each has its own batch-norm statistics after an epoch: those of the first, which are saved, count."""
    args = ["-o", "Arch.Backbone.name=PPLCNet_x0_25", "--epochs", "1", "--batch-size", "4", "--devices", "cpu:2"]
    shitu_process("train", *args, cwd=workspace)
    records = [json.loads(line) for line in (workspace / "output/metrics.jsonl").read_text().splitlines()]
    (online,) = [record for record in records if record["kind"] == "eval"]
    values = json.loads(shitu_process("evaluate", "--json", "--devices", "cpu:2", cwd=workspace).stdout)
    assert {name: online[name] for name in values["metrics"]} == values["metrics"]


@pytest.mark.slow
def test_the_same_run_on_two_processes_repeats_to_the_bit(workspace: Path) -> None:
    args = ("--epochs", "2", "--batch-size", "4", "--devices", "cpu:2")
    first, second = trained(workspace, *args), trained(workspace, *args)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_dead_process_ends_the_run_within_seconds(workspace: Path) -> None:
    args = ["train", *PLAIN, "--epochs", "500", "--batch-size", "4", "--devices", "cpu:2"]
    run = shitu_started(*args, cwd=workspace)
    log = workspace / "output/train.log"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "saved latest" in log.read_text()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    children = children_of(run.pid)
    assert len(children) == 2
    killed = next(pid for pid in children if b"PADDLE_TRAINER_ID=1" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(killed, signal.SIGKILL)
    output, _ = run.communicate(timeout=60)  # long before its 500 epochs are over
    assert run.returncode == 6
    assert "process 1 of the run ended with signal SIGKILL" in output and "--resume" in output
    assert all_end(children)
    assert load_checkpoint(workspace / "output/latest").state.epoch >= 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_at_any_moment_ends_all_and_leaves_a_whole_checkpoint(workspace: Path) -> None:
    """Start, step, save, and the parent itself: everything ends, what was saved last can be continued."""
    args = ["train", *PLAIN, "--epochs", "500", "--batch-size", "4", "--save-every-steps", "1", "--devices", "cpu:2"]
    random = np.random.default_rng(4)
    for trial in range(9):
        resume = ["--resume"] if (workspace / "output/latest.pdstates").is_file() else []
        run = shitu_started(*args, *resume, "-o", "Arch.Head.shard=True", cwd=workspace)
        while len(children_of(run.pid)) < 2:
            assert run.poll() is None
            time.sleep(0.05)
        children = children_of(run.pid)
        deadline = time.monotonic() + (120 if trial >= 6 else 0)
        while time.monotonic() < deadline and not has_checkpoint(workspace / "output/latest"):
            time.sleep(0.05)  # on a slow machine too, the last three are killed while they train and save
        time.sleep(random.uniform(0, 10))
        victim = [*children, run.pid][trial % 3]
        assert run.poll() is None, run.communicate()[0]
        os.kill(victim, signal.SIGKILL)
        output, _ = run.communicate(timeout=30)
        assert all_end(children)
        assert run.returncode == (-9 if victim == run.pid else 6), output
        assert victim == run.pid or f"process {trial % 3} of the run ended with signal SIGKILL" in output
        if has_checkpoint(workspace / "output/latest"):
            load_checkpoint(workspace / "output/latest")
    assert has_checkpoint(workspace / "output/latest")


@pytest.mark.slow
def test_the_error_of_the_process_that_failed_is_shown(workspace: Path) -> None:
    """A broken picture that only the second process reads: its line, its exit code."""
    lines = (workspace / "lists/train_list.txt").read_text().splitlines()
    name = lines[-1].split()[0]
    broken = next(path for path in workspace.rglob(Path(name).name) if str(path).endswith(name))
    broken.write_bytes(b"no picture")
    order = ["-o", "DataLoader.Train.sampler.shuffle=False", "--batch-size", "18"]
    done = shitu_process("train", *PLAIN, "--epochs", "1", *order, "--devices", "cpu:2", cwd=workspace, check=False)
    assert done.returncode == 3, done.stderr
    assert "process 1 of the run ended with exit code 3" in done.stderr and broken.name in done.stderr


def test_devices_are_checked(workspace: Path) -> None:
    for wrong in ("cpu", "cpu:0", "gpu:0,0", "a,b"):
        done = shitu("train", "--devices", wrong, cwd=workspace, check=False)
        assert done.returncode == 2 and "--devices" in done.stderr


@pytest.mark.slow
def test_a_signal_during_evaluation_stops_all_together(workspace: Path) -> None:
    args = ["train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_interval=1"]
    run = shitu_started(*args, "--epochs", "500", "--batch-size", "4", "--devices", "cpu:2", cwd=workspace)
    log = workspace / "output/train.log"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "epoch 2:" in log.read_text()):
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=60)  # long before its 500 epochs are over
    assert run.returncode == 130, output
    assert "everything is saved" in output and "--resume" in output


# What a run has done by the time when a user stops it: it loads, has started its processes, has trained.
MOMENTS: dict[str, Callable[[int, Path], bool]] = {
    "it loads": lambda pid, log: "_multiarray_umath" in Path(f"/proc/{pid}/maps").read_text(),
    "processes start": lambda pid, log: len(children_of(pid)) == 2,
    "it trains": lambda pid, log: log.exists() and "saved latest" in log.read_text(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_twice_stops_all_at_once(workspace: Path, moment: str) -> None:
    """As a terminal sends it, to all processes, while they load too."""
    run = shitu_started("train", *PLAIN, "--epochs", "1000", "--devices", "cpu:2", own_group=True, cwd=workspace)
    while not MOMENTS[moment](run.pid, workspace / "output/train.log"):
        assert run.poll() is None
        time.sleep(0.02)
    children = children_of(run.pid)
    for _ in range(2):
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
        time.sleep(0.2)
    text, _ = run.communicate(timeout=60)
    assert run.returncode == 130 and "Traceback" not in text and "KeyboardInterrupt" not in text, text
    assert all_end(children)
    if moment == "it trains":
        assert load_checkpoint(workspace / "output/latest").state.epoch >= 1
