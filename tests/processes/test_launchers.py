"""Runs of other launchers: their variables, lists of nodes, and real runs of Paddle's launcher."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.processes import launchers, this_process
from shitu_cli.processes.launchers import PADDLE, SLURM, find_placement, nodes_of, take_placement
from shitu_cli.runtime.threads import THREADS
from shitu_cli.weights.paddle_files import read_paddle
from tests.command import SMALL, shitu, shitu_started
from tests.mutations import cases
from tests.processes.test_machines import free_port

PADDLE_RUN = {
    "PADDLE_TRAINER_ID": "1",
    "PADDLE_TRAINERS_NUM": "2",
    "PADDLE_TRAINER_ENDPOINTS": "10.0.0.1:6170,10.0.0.2:6170",
    "PADDLE_CURRENT_ENDPOINT": "10.0.0.2:6170",
}
SLURM_RUN = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "gpu[07-10]",
    "SLURM_STEP_TASKS_PER_NODE": "2(x4)",
}


def test_a_process_alone_has_no_placement() -> None:
    assert find_placement({}) is None
    assert find_placement({"PADDLE_TRAINERS_NUM": "1", "PADDLE_TRAINER_ID": "0"}) is None
    assert find_placement({**SLURM_RUN, "SLURM_NTASKS": "1"}) is None


def test_a_paddle_job() -> None:
    place = find_placement(PADDLE_RUN)
    assert place is not None
    assert (place.launcher, place.rank, place.world, place.master, place.device) == (
        PADDLE,
        1,
        2,
        "10.0.0.1:6170",
        "cpu",
    )
    place = find_placement({**PADDLE_RUN, "PADDLE_MASTER": "10.0.0.1:7000", "FLAGS_selected_gpus": "3"})
    assert place is not None and (place.master, place.device) == ("10.0.0.1:7000", "gpu:3")
    assert place.environment()["FLAGS_selected_gpus"] == "3"
    place = find_placement({**PADDLE_RUN, "FLAGS_selected_gpus": "3"}, "cpu")
    assert place is not None and place.device == "cpu" and place.environment()["PADDLE_DISTRI_BACKEND"] == "gloo"


def test_a_slurm_step() -> None:
    place = find_placement(SLURM_RUN)
    assert place is not None
    port = 20000 + 123456 % 20000
    assert (place.launcher, place.rank, place.world, place.master) == (SLURM, 5, 8, f"gpu07:{port}")
    assert (place.device, place.local_world) == ("cpu", 2)
    named = find_placement({**SLURM_RUN, "MASTER_ADDR": "head", "MASTER_PORT": "9000", "CUDA_VISIBLE_DEVICES": "0,1"})
    assert named is not None and (named.master, named.device) == ("head:9000", "gpu:1")
    bound = find_placement({**SLURM_RUN, "CUDA_VISIBLE_DEVICES": "2"})  # a card of its own
    assert bound is not None and bound.device == "gpu:0"


def test_few_variables_of_slurm_are_enough() -> None:
    place = find_placement({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_NODELIST": "a1,b2"})
    assert place is not None and (place.rank, place.world, place.master) == (0, 2, "a1:20000")


def test_a_batch_script_of_slurm_runs_alone() -> None:
    batch = {name: value for name, value in SLURM_RUN.items() if not name.startswith("SLURM_STEP")}
    assert find_placement({**batch, "SLURM_JOB_NODELIST": "gpu[07-10]", "ENVIRONMENT": "BATCH"}) is None
    assert find_placement({**SLURM_RUN, "ENVIRONMENT": "BATCH"}) is not None
    assert find_placement({**SLURM_RUN, "SLURM_STEP_NUM_TASKS": "1"}) is None  # srun -n 1 in a job of 8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PADDLE_TRAINER_ID": "2"}, "PADDLE_TRAINER_ID: got '2', expected a number from 0 to 1"),
        ({"PADDLE_TRAINER_ID": ""}, "PADDLE_TRAINER_ID: not set"),
        ({"PADDLE_TRAINERS_NUM": "two"}, "PADDLE_TRAINERS_NUM: got 'two'"),
        ({"PADDLE_TRAINERS_NUM": "3"}, "PADDLE_TRAINER_ENDPOINTS: 2 endpoints, PADDLE_TRAINERS_NUM is 3"),
        ({"PADDLE_TRAINER_ENDPOINTS": "a,b"}, "expected host:port of the first process"),
        ({"PADDLE_TRAINER_ENDPOINTS": ""}, "expected host:port of the first process"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, str], expected: str) -> None:
    with pytest.raises(EnvironmentProblem, match="variables cannot be used") as caught:
        find_placement({**PADDLE_RUN, **changes})
    assert any(expected in line for line in caught.value.details)


def test_all_that_is_wrong_is_named_at_once() -> None:
    wrong = {"SLURM_PROCID": "9", "SLURM_STEP_NODELIST": "gpu[", "MASTER_PORT": "x"}
    with pytest.raises(EnvironmentProblem) as caught:
        find_placement({**SLURM_RUN, **wrong})
    assert len(caught.value.details) == 3


@cases(300)
@given(st.dictionaries(st.sampled_from([*PADDLE_RUN, *SLURM_RUN, "MASTER_ADDR", "MASTER_PORT"]), st.text(max_size=12)))
def test_any_environment_gives_a_seat_or_says_what_is_wrong(changes: dict[str, str]) -> None:
    for base in (PADDLE_RUN, SLURM_RUN, {}):
        try:
            place = find_placement({**base, **changes})
        except EnvironmentProblem as problem:
            assert problem.details
        else:
            assert place is None or (0 <= place.rank < place.world and place.local_world >= 1 and place.environment())


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("node1", ["node1"]),
        ("a,b.c-d", ["a", "b.c-d"]),
        ("gpu[08-10]", ["gpu08", "gpu09", "gpu10"]),
        ("r[1-2]n[3,5-6]x", ["r1n3x", "r1n5x", "r1n6x", "r2n3x", "r2n5x", "r2n6x"]),
        ("a[1],b[002]", ["a1", "b002"]),
    ],
)
def test_lists_of_nodes(text: str, nodes: list[str]) -> None:
    assert nodes_of(text) == nodes


@pytest.mark.parametrize("text", ["", ",", "a,", "a[", "a]", "a[]", "a[2-1]", "a[x]", "a[1-]", "a b", "a[1-9999999]"])
def test_other_text_is_no_list_of_nodes(text: str) -> None:
    with pytest.raises(ValueError):
        nodes_of(text)


words = st.from_regex(r"[a-z][a-z0-9.-]{0,6}", fullmatch=True)
spans = st.tuples(st.integers(0, 120), st.integers(0, 9), st.integers(1, 4))


@cases(300)
@given(st.lists(st.tuples(words, st.lists(spans, max_size=3)), min_size=1, max_size=4))
def test_a_list_of_nodes_is_read_as_it_is_written(items: list[tuple[str, list[tuple[int, int, int]]]]) -> None:
    texts, nodes = [], []
    for word, ranges in items:
        if not ranges:
            texts.append(word)
            nodes.append(word)
            continue
        parts = []
        for first, more, width in ranges:
            start = str(first).zfill(width)
            parts.append(start if more == 0 else f"{start}-{str(first + more).zfill(width)}")
            nodes += [f"{word}{str(n).zfill(len(start))}" for n in range(first, first + more + 1)]
        texts.append(f"{word}[{','.join(parts)}]")
    assert nodes_of(",".join(texts)) == nodes


@cases(300)
@given(st.text(alphabet="ab[]0123456789,- ", max_size=30))
def test_any_text_is_a_list_of_nodes_or_not(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert all("[" not in node and node for node in nodes_of(text))


def test_a_process_takes_its_placement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {**PADDLE_RUN, "PADDLE_LOCAL_SIZE": "2"})
    monkeypatch.setattr(launchers, "available_cores", lambda: 8)
    assert take_placement() is not None
    assert (this_process.rank(), this_process.world(), this_process.is_main()) == (1, 2, False)
    assert this_process.own_device("x") == "cpu" and not this_process.has_parent()
    assert os.environ["SHITU_RANK_THREADS"] == "4"


def test_options_that_start_processes_contradict_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(PADDLE_RUN))
    with pytest.raises(UsageError, match=f"{PADDLE} has started 2 processes already"):
        take_placement(devices="cpu:2")
    monkeypatch.setattr(os, "environ", dict(SLURM_RUN))
    with pytest.raises(UsageError, match="Slurm has started 8 processes already"):
        take_placement(devices="0,1")
    assert take_placement(devices="0,1", nnodes=4) is None  # srun starts our own launcher on each machine


TRAIN = ["train", *SMALL, "-o", "Arch.Backbone.dropout_prob=0.0", "--seed", "1", "--lr", "0.01", "--batch-size", "4"]


def by_hand(workspace: Path, args: list[str], port: int, kind: str) -> list[subprocess.Popen[str]]:
    """Start two processes at two addresses of the loopback, as srun would on two nodes, or a PaddleJob in two pods."""
    runs = []
    for rank in (1, 0):
        slurm = {"SLURM_PROCID": str(rank), "SLURM_NTASKS": "2", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "0"}
        slurm |= {"SLURM_STEP_NODELIST": "127.0.0.[1-2]", "MASTER_PORT": str(port), "SLURM_CPUS_PER_TASK": "1"}
        job = {"PADDLE_TRAINER_ID": str(rank), "PADDLE_TRAINERS_NUM": "2", "PADDLE_LOCAL_SIZE": "2"}
        job |= {"PADDLE_TRAINER_ENDPOINTS": f"127.0.0.1:{port},127.0.0.2:{port}"}
        runs.append(shitu_started(*args, cwd=workspace, env=slurm if kind == "slurm" else job))
    return runs[::-1]


def by_launcher(workspace: Path, args: list[str], port: int) -> list[subprocess.Popen[str]]:
    """Start Paddle's launcher at two addresses of the loopback, as on two machines."""
    command = str(Path(sys.executable).with_name("shitu"))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nnodes", "2", "--nproc_per_node", "1"]
    return [
        subprocess.Popen(
            [
                *(*launcher, "--master", f"127.0.0.1:{port}", "--host", f"127.0.0.{rank + 1}", "--rank", str(rank)),
                *("--log_dir", f"logs{rank}", command, *args),
            ],
            cwd=workspace,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", THREADS: "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for rank in (0, 1)
    ]


def family(pid: int) -> list[int]:
    """The processes that a process has started, and itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for child in children for one in family(int(child))] + [pid]


@pytest.mark.slow
def test_runs_of_launchers_killed_and_resumed_train_the_same_bits(workspace: Path) -> None:
    """Two addresses of the loopback stand for two machines: Slurm trains, what Paddle's launcher has begun is killed,
    and a PaddleJob goes on with it. On the launcher's port somebody talks nonsense."""
    if not Path(sys.executable).with_name("shitu").is_file():
        pytest.skip("the command shitu is not installed beside this Python")
    whole = by_hand(workspace, [*TRAIN, "--epochs", "2"], free_port(), "slurm")
    outputs = [run.communicate(timeout=200)[0] for run in whole]
    assert [run.returncode for run in whole] == [0, 0], outputs
    assert "next: shitu evaluate" in outputs[0] and "next:" not in outputs[1]
    expected = read_paddle(workspace / "output/latest.pdparams")
    log = workspace / "output/train.log"
    log.unlink()
    port = free_port()
    killed = by_launcher(workspace, [*TRAIN, "--epochs", "2", "--save-every-steps", "1"], port)
    deadline = time.monotonic() + 120
    while not (log.is_file() and "saved latest" in log.read_text()):
        assert all(run.poll() is None for run in killed) and time.monotonic() < deadline
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
            stranger.sendall(b"\0\xff nonsense\r\n\r\n")
        time.sleep(0.02)
    for pid in family(killed[1].pid):
        os.kill(pid, signal.SIGKILL)
    assert killed[0].wait(timeout=90) != 0 and killed[1].wait() == -9
    again = by_hand(workspace, [*TRAIN, "--epochs", "2", "--resume"], free_port(), "kubernetes")
    outputs = [run.communicate(timeout=200)[0] for run in again]
    assert [run.returncode for run in again] == [0, 0], outputs
    assert "continuing at epoch" in outputs[0], outputs
    resumed = read_paddle(workspace / "output/latest.pdparams")
    assert all(np.array_equal(expected[name], resumed[name]) for name in expected)


@pytest.mark.slow
def test_the_launcher_of_paddle_runs_train_evaluate_and_extract(workspace: Path) -> None:
    command = Path(sys.executable).with_name("shitu")
    if not command.is_file():
        pytest.skip("the command shitu is not installed beside this Python")

    def launched(*args: str) -> str:
        launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--log_dir", "logs", str(command)]
        done = subprocess.run(
            [sys.executable, *launcher, *args],
            cwd=workspace,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        logs = [(workspace / f"logs/workerlog.{rank}").read_text() for rank in (0, 1)]
        assert done.returncode == 0, done.stderr[-3000:] + "\n".join(logs)
        return logs[0]

    assert "x 2 processes" in launched(*TRAIN, "--epochs", "1")
    launched("evaluate", "--no-cache")
    report = json.loads((workspace / "reports/evaluate.json").read_text())
    launched("extract", "./data", "--out", "two.npy", "--model", "output/latest", "--batch-size", "4")
    assert shitu("evaluate", "--no-cache", cwd=workspace).returncode == 0
    assert json.loads((workspace / "reports/evaluate.json").read_text()) == report
    shitu("extract", "./data", "--out", "one.npy", "--model", "output/latest", "--batch-size", "4", cwd=workspace)
    assert (workspace / "two.npy").read_bytes() == (workspace / "one.npy").read_bytes()


def test_wrong_variables_end_a_run_with_their_names(workspace: Path) -> None:
    done = shitu("train", cwd=workspace, check=False, env={"PADDLE_TRAINERS_NUM": "2"})
    assert done.returncode == 5 and "PADDLE_TRAINER_ID: not set" in done.stderr, done.stderr
