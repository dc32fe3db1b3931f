"""`train` killed with SIGKILL at random moments, on one process and on two: nothing is lost, and the bits are the same.

`SHITU_KILLS=N` sets how many kills each test does at least.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training.checkpoint import BEST, LATEST, has_checkpoint, load_checkpoint
from shitu_cli.training.save_files import files_of_save
from tests.command import all_end, children_of
from tests.command import shitu_process as shitu

KILLS = int(os.environ.get("SHITU_KILLS", "5"))
XBM = "{weight: 0.5, start_iter: 2, xbm_size: 24, xbm_weight: 1.0, embedding_size: 1280}"
RUN = [
    *("train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "EMA.decay=0.9", "-o", "Global.eval_interval=1"),
    *("-o", f"Loss.Train=[{{CELoss: {{weight: 1.0}}}}, {{ContrastiveLoss_XBM: {XBM}}}]"),
    *("--batch-size", "5", "--save-every-steps", "2"),
]
PROCESSES = {1: [], 2: ["--devices", "cpu:2"]}


def contents(prefix: Path) -> dict[str, bytes]:
    """Every array of a checkpoint, and what its evaluations found."""
    saved = load_checkpoint(prefix)
    arrays = {
        **saved.training,
        **saved.optimizer,
        **{f"weights {name}": value for name, value in saved.weights.items()},
    }
    found = {name: value.tobytes() for name, value in arrays.items() if isinstance(value, np.ndarray)}
    return {**found, "evaluations": repr(saved.state.evaluations).encode()}


def kill_somewhere(command: list[str], cwd: Path, rng: random.Random, longest: float) -> tuple[int | None, float]:
    """Run, and kill the command or one of its processes after a random time; its exit code if it ended before."""
    started = time.monotonic()
    words = [sys.executable, "-m", "shitu_cli", *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)
    moment = started + rng.uniform(0, longest)
    while run.poll() is None and time.monotonic() < moment:
        time.sleep(0.01)
    if run.poll() is not None:
        assert run.returncode == 0, run.communicate()[1].decode()
        return 0, time.monotonic() - started
    children = children_of(run.pid)
    victim = rng.choice([run.pid, *children])
    os.kill(victim, signal.SIGKILL)
    run.communicate(timeout=60)
    assert all_end(children, 30)
    return None, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("processes", PROCESSES)
def test_train_killed_at_random_moments_loses_nothing(workspace: Path, processes: int) -> None:
    output, rng, options = workspace / "output", random.Random(processes), PROCESSES[processes]
    shitu(*RUN, *options, "--epochs", "1", "--seed", "1", cwd=workspace)
    earlier = {name: contents(output / name) for name in (LATEST, BEST)}
    shutil.copytree(output, workspace / "before")
    new = [*RUN, *options, "--epochs", "3", "--seed", "5"]
    started = time.monotonic()
    shitu(*new, cwd=workspace)
    longest = 1.1 * (time.monotonic() - started)
    wanted = {name: contents(output / name) for name in (LATEST, BEST)}
    kills = rounds = 0
    while kills < KILLS:
        shutil.rmtree(output)
        shutil.copytree(workspace / "before", output)
        rounds += 1
        for _ in range(100):
            begun = bool(list((output / "earlier").glob("001*")))
            code, _took = kill_somewhere([*new, "--resume"] if begun else new, workspace, rng, longest)
            if code == 0:
                break
            kills += 1
            assert_nothing_lost(output, earlier)
        assert {name: contents(output / name) for name in (LATEST, BEST)} == wanted
        assert {name: contents(output / "earlier/001" / name) for name in (LATEST, BEST)} == earlier
    print(f"{processes} processes: {kills} kills in {rounds} runs, all of them to the same bits")


def assert_nothing_lost(output: Path, earlier: dict[str, dict[str, bytes]]) -> None:
    """What can be resumed is whole, and the model of the run before is here or set aside."""
    assert has_checkpoint(output / LATEST)
    load_checkpoint(output / LATEST)
    if list((output / "earlier").glob("*.moving")):
        return  # the next command completes it, which the end of this test looks at
    old = output / "earlier/001" if (output / "earlier/001").is_dir() else output
    for name, values in earlier.items():
        assert contents(old / name) == values


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("command", ["evaluate", "export"])
def test_evaluate_and_export_killed_at_random_moments(workspace: Path, command: str) -> None:
    """The report and the exported model are those of before or the new ones, and the next run gives the same bytes."""
    rng = random.Random(command)
    shitu(*RUN, "--epochs", "1", cwd=workspace)
    words = ["evaluate"] if command == "evaluate" else ["export", "--out", "inference/"]
    started = time.monotonic()
    shitu(*words, cwd=workspace)
    longest = time.monotonic() - started
    wanted = results(workspace)
    ended = 0
    for number in range(KILLS):
        fresh = number % 3 == 0
        if fresh:
            for folder in ("reports/evaluate.html", "inference", ".shitu/cache"):
                remove(workspace / folder)
        code, _took = kill_somewhere(words, workspace, rng, longest)
        ended += code == 0
        found = results(workspace)
        assert found.items() <= wanted.items()  # whole, or not there yet
        assert fresh or found == wanted
        assert all(files_of_save(workspace / "output" / name) for name in (LATEST, BEST))
        if fresh:
            shitu(*words, cwd=workspace)
            assert results(workspace) == wanted
    left = [path.name for path in workspace.iterdir() if path.name.startswith(".inference")]
    shitu(*words, cwd=workspace)
    assert not [path.name for path in workspace.iterdir() if path.name.startswith(".inference")], left
    print(f"{command}: {KILLS - ended} kills of {KILLS} trials")


def results(workspace: Path) -> dict[str, bytes]:
    """What the two commands leave for people and programs, as far as it does not hold the time."""
    files = [*(workspace / "inference").glob("inference.*"), *(workspace / "reports").glob("evaluate*.json")]
    return {path.name: path.read_bytes() for path in files if path.suffix != ".yml"}


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
