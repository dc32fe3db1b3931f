"""Two launchers on the loopback stand for two machines: they train as one, and fail together with the reason."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.processes.machines import WAIT, interface_of, meet, patience
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import SMALL, all_end, children_of, shitu, shitu_process, shitu_started

RUN = [*SMALL, "-o", "Arch.Backbone.dropout_prob=0.0", "--seed", "1", "--lr", "0.01", "--batch-size", "4"]


SECRET = b"sixteen characters and more"


def free_port() -> int:
    """One of which the next is free too, below those that systems give to whoever asks for any."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port


def start(workspace: Path, machine: int, port: int, *args: str, wait: float = 60) -> subprocess.Popen[str]:
    place = ["--nnodes", "2", "--node-rank", str(machine), "--master", f"127.0.0.1:{port}", "--devices", "cpu:1"]
    return shitu_started("train", *RUN, *place, *args, cwd=workspace, env={WAIT: str(wait)})


@pytest.fixture
def one_core() -> Iterator[None]:
    """So that every process computes on one thread, alone on its machine or not."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@pytest.mark.slow
def test_two_machines_train_what_one_with_as_many_processes_trains(workspace: Path, one_core: None) -> None:
    shitu_process("train", *RUN, "--epochs", "1", "--devices", "cpu:2", cwd=workspace)
    one = read_paddle(workspace / "output/latest.pdparams")
    shutil.rmtree(workspace / "output")
    port = free_port()
    runs = [start(workspace, machine, port, "--epochs", "1") for machine in (1, 0)]
    outputs = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    assert "this one runs 1 of 2 processes, from rank 1" in outputs[0] and "next: shitu evaluate" in outputs[1]
    two = read_paddle(workspace / "output/latest.pdparams")
    assert all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["process", "command"])
def test_a_machine_that_fails_ends_the_others_within_seconds(workspace: Path, victim: str) -> None:
    port = free_port()
    other, first = (start(workspace, machine, port, "--epochs", "500") for machine in (1, 0))
    log = workspace / "output/train.log"
    deadline = time.monotonic() + 120
    while not (log.is_file() and "saved latest" in log.read_text()):
        assert first.poll() is None and other.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    ranks = children_of(first.pid) + children_of(other.pid)
    os.kill(ranks[1] if victim == "process" else other.pid, signal.SIGKILL)
    output, _ = first.communicate(timeout=60)  # long before its 500 epochs are over
    assert first.returncode == 6, output
    said = {
        "process": "machine 1: process 1 of the run ended with signal SIGKILL",
        "command": "machine 1 of the run has left",
    }
    assert said[victim] in output and "shitu train --resume" in output
    other.communicate(timeout=30)
    assert other.returncode == (6 if victim == "process" else -9)
    assert all_end(ranks)


def test_machines_that_were_started_differently_are_told(workspace: Path) -> None:
    port = free_port()
    other = start(workspace, 1, port)
    done = shitu_process(
        *("train", *RUN, "--nnodes", "3", "--node-rank", "0", "--master", f"127.0.0.1:{port}", "--devices", "cpu:1"),
        cwd=workspace,
        check=False,
    )
    output, _ = other.communicate(timeout=60)
    for code, text in ((done.returncode, done.stderr), (other.returncode, output)):
        assert code == 2 and "machine 1 runs with --nnodes 2, machine 0 with --nnodes 3" in text


@pytest.mark.slow
def test_machines_with_other_options_are_told(workspace: Path) -> None:
    port = free_port()
    runs = [start(workspace, machine, port, "--epochs", epochs) for machine, epochs in ((1, "3"), (0, "2"))]
    outputs = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [2, 2], outputs
    assert "processes 0 and 1 of the run were started with different data or options" in outputs[1]
    assert "Global.epochs: 2 and 3" in outputs[1]


def test_a_machine_that_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT, "0.5")
    port = free_port()
    with pytest.raises(EnvironmentProblem, match=f"no machine answers at 127.0.0.1:{port}"):
        meet(1, nnodes=2, node_rank=1, master=f"127.0.0.1:{port}", secret=SECRET)
    with pytest.raises(EnvironmentProblem, match=f"machine 1, 2 of 3 did not connect to 127.0.0.1:{port} in time"):
        meet(1, nnodes=3, node_rank=0, master=f"127.0.0.1:{port}", secret=SECRET)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(EnvironmentProblem, match="did not start the run"):
        meet(1, nnodes=2, node_rank=1, master=f"127.0.0.1:{port}", secret=SECRET)


@pytest.mark.parametrize("text", ["soon", "nan", "inf", "0", "-1"])
def test_the_time_to_wait_is_checked(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(WAIT, text)
    with pytest.raises(UsageError, match=f"{WAIT}: got '{text}', expected seconds"):
        patience()


@pytest.mark.parametrize("master", [None, "host", "host:", ":7000", "host:70000", "host:port"])
def test_the_address_is_checked(master: str | None) -> None:
    with pytest.raises(UsageError, match=r"--master.*host:port"):
        meet(1, nnodes=2, node_rank=0, master=master, secret=SECRET)


def test_the_options_are_checked(workspace: Path) -> None:
    for args, expected in (
        (["--nnodes", "2", "--master", "a:1"], "--nnodes needs --devices"),
        (["--nnodes", "2", "--master", "a:1", "--devices", "cpu:1", "--node-rank", "2"], "numbered 0 to 1"),
    ):
        done = shitu("train", *args, cwd=workspace, check=False)
        assert done.returncode == 2 and expected in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel as Linux answers")
def test_the_interface_of_an_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("203.0.113.77") is None
