"""A disk that is full while a checkpoint or an export is written costs nothing that was there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shitu_cli.training.checkpoint import load_checkpoint
from tests.command import SMALL, shitu

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files as Linux shells do")


def limited(kilobytes: int, *args: str, cwd: Path) -> subprocess.CompletedProcess:
    """Run the command in a shell whose files cannot grow beyond a size: the write fails as on a full disk."""
    words = " ".join([sys.executable, "-m", "shitu_cli", *args])
    script = f"trap '' XFSZ; ulimit -f {kilobytes}; exec {words}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(["bash", "-c", script], cwd=cwd, capture_output=True, text=True, env=environment)


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(trained_workspace: Path) -> None:
    before = (trained_workspace / "output/latest.pdparams").read_bytes()
    done = limited(200, "train", *SMALL, "--epochs", "2", "--batch-size", "8", "--resume", cwd=trained_workspace)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "cannot write" in done.stderr and "shitu train --resume" in done.stderr
    assert (trained_workspace / "output/latest.pdparams").read_bytes() == before
    assert load_checkpoint(trained_workspace / "output/latest").state.epoch == 1
    shitu("train", *SMALL, "--epochs", "2", "--batch-size", "8", "--resume", cwd=trained_workspace)
    assert load_checkpoint(trained_workspace / "output/latest").state.epoch == 2


@pytest.mark.slow
def test_a_new_run_that_cannot_be_saved_gives_way(trained_workspace: Path) -> None:
    run = ["train", *SMALL, "--epochs", "1", "--batch-size", "8"]
    before = {path.name: path.read_bytes() for path in (trained_workspace / "output").glob("*.pd*")}
    done = limited(200, *run, cwd=trained_workspace)
    assert done.returncode == 5, done.stdout + done.stderr
    assert "the model of the previous run is where it was" in done.stderr and "--resume" not in done.stderr
    assert {path.name: path.read_bytes() for path in (trained_workspace / "output").glob("*.pd*")} == before
    assert load_checkpoint(trained_workspace / "output/latest").state.epoch == 1
    assert shitu("evaluate", "--json", cwd=trained_workspace).returncode == 0


@pytest.mark.slow
def test_a_full_disk_leaves_no_half_export(trained_workspace: Path) -> None:
    done = limited(100, "export", "--out", "inference/", cwd=trained_workspace)
    assert done.returncode in (1, 5), done.stdout + done.stderr
    assert not (trained_workspace / "inference").exists()
    assert not [p for p in trained_workspace.iterdir() if p.name.startswith(".inference")]
