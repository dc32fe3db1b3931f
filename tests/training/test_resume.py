"""A run that was killed and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import dataclasses
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.training.checkpoint import load_checkpoint, save_checkpoint
from shitu_cli.weights.paddle_files import read_paddle
from tests.cli.test_mistakes import fails
from tests.command import SMALL, shitu, shitu_process, shitu_started

RUN = ["train", *SMALL, "--epochs", "3", "--batch-size", "4", "--seed", "5", "--save-every-steps", "1"]


def weights(workspace: Path) -> dict[str, np.ndarray]:
    return read_paddle(workspace / "output" / "latest.pdparams")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.fixture
def uninterrupted(workspace: Path) -> dict[str, np.ndarray]:
    shitu_process(*RUN, cwd=workspace)
    done = weights(workspace)
    shutil.rmtree(workspace / "output")
    return done


def saves(workspace: Path) -> int:
    """How often the runs of a workspace have saved."""
    log = workspace / "output/train.log"
    return log.read_text().count(" saved ") if log.is_file() else 0


def killed_run(workspace: Path, rng: random.Random, number: int, *, signal_number: int, workers: str) -> int:
    """Train, killed after one of the first steps was saved, and resumed until it ends; how often it was killed."""
    kills = 0
    resume: list[str] = []
    while True:
        process = shitu_started(*RUN, "--num-workers", workers, *resume, cwd=workspace)
        last = saves(workspace) + rng.randint(1, 5)
        while process.poll() is None and kills < number:
            if saves(workspace) >= last:
                process.send_signal(signal_number)
                kills += 1
                break
            time.sleep(rng.uniform(0.001, 0.01))
        output, _ = process.communicate()
        if process.returncode == 0:
            return kills
        assert process.returncode in (-signal_number, 130), output
        resume = ["--resume"]


@pytest.mark.slow
@pytest.mark.parametrize(("signal_number", "workers"), [(signal.SIGKILL, "2"), (signal.SIGTERM, "0")])
def test_killed_and_resumed_is_the_same_to_the_bit(
    workspace: Path, uninterrupted: dict[str, np.ndarray], signal_number: int, workers: str
) -> None:
    kills = killed_run(workspace, random.Random(1), 2, signal_number=signal_number, workers=workers)
    assert kills == 2
    assert same(weights(workspace), uninterrupted)


def test_resume_without_a_checkpoint_says_what_to_do(workspace: Path) -> None:
    done = shitu("train", "--resume", cwd=workspace, check=False)
    assert done.returncode == 2
    assert "nothing to resume" in done.stderr and "shitu train" in done.stderr


def test_another_network_is_refused(workspace: Path) -> None:
    shitu(*RUN[:-2], "--epochs", "1", cwd=workspace)
    done = shitu(
        "train", "--resume", "-o", "Arch.Backbone.name=PPLCNet_x0_35", "--batch-size", "4", cwd=workspace, check=False
    )
    assert done.returncode == 2
    assert "Arch" in done.stderr


def test_a_checkpoint_that_does_not_fit_is_named_with_the_way_out(trained_workspace: Path) -> None:
    prefix = trained_workspace / "output/latest"
    saved = load_checkpoint(prefix)
    name, *others = saved.weights
    save_checkpoint(
        prefix.parent, ["latest"], dataclasses.replace(saved, weights={key: saved.weights[key] for key in others})
    )
    says = (
        f"training cannot continue from {prefix}: it does not fit the network",
        f"{name}: only in the network",
        f"--init-from {prefix}",
    )
    run = ["train", *SMALL, "--epochs", "2", "--batch-size", "8", "--seed", "3", "--resume"]
    fails(*run, cwd=trained_workspace, code=3, says=says)


def test_a_damaged_latest_falls_back_to_the_whole_generation(workspace: Path) -> None:
    shitu(*RUN, "--keep", "2", cwd=workspace)
    latest = workspace / "output" / "latest.pdparams"
    data = latest.read_bytes()
    latest.unlink()
    latest.write_bytes(data[: len(data) // 2])
    loaded = load_checkpoint(workspace / "output" / "latest")
    assert any("latest.pdparams is damaged" in note for note in loaded.notes)
    assert loaded.state.epoch == 3


def test_another_batch_size_goes_on_and_says_so(workspace: Path) -> None:
    shitu(*RUN[:-2], "--epochs", "1", cwd=workspace)
    done = shitu("train", *SMALL, "--epochs", "2", "--batch-size", "8", "--seed", "5", "--resume", cwd=workspace)
    assert "changed since" in done.stderr
    assert "exactly as without the interruption" not in done.stdout
