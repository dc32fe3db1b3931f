"""Several processes for one run: starting them, watching them, and ending all when one ends badly.

Each process is this very command again, told its rank by the environment variables of Paddle's own engine.
This module does not load Paddle: the parent only watches.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from shitu_cli.errors import EnvironmentProblem, ShituError, TrainingError, UsageError

RANK, WORLD = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
DEVICE, THREADS = "SHITU_RANK_DEVICE", "SHITU_RANK_THREADS"
GRACE_SECONDS = 5.0


def is_child() -> bool:
    """Whether this process is one of several that `launch` has started."""
    return DEVICE in os.environ


def is_main() -> bool:
    """Whether this process is the one that speaks: a lone one, or rank 0."""
    return not is_child() or os.environ.get(RANK, "0") == "0"


def own_device(configured: str) -> str:
    """The device of this process: its own among several, else the configured one."""
    return os.environ.get(DEVICE, configured)


def own_threads() -> int | None:
    """The number of compute threads of this process, None for all cores."""
    return int(os.environ[THREADS]) if THREADS in os.environ else None


def parse_devices(text: str) -> list[str]:
    """`cpu:2` → two CPU processes, `0,1` or `gpu:0,1` → one per GPU; UsageError otherwise."""
    cpu = re.fullmatch(r"cpu:(\d+)", text)
    if cpu and int(cpu.group(1)) > 0:
        return ["cpu"] * int(cpu.group(1))
    gpus = re.fullmatch(r"(?:gpu:)?(\d+(?:,\d+)*)", text)
    if gpus:
        numbers = gpus.group(1).split(",")
        if len(set(numbers)) == len(numbers):
            return [f"gpu:{number}" for number in numbers]
    raise UsageError(f"--devices: got {text!r}, expected GPU numbers such as 0,1,2,3, or cpu:2 for two processes")


def launch(devices: str | None, *, nnodes: int, node_rank: int, master: str | None, output: Path) -> bool:
    """Run this command once per device and wait; False when there is nothing to launch (then run here).

    Rank 0 shows its output, the others write `output/rank<N>.out`. Raises the error of the process that failed
    first, after ending the others; an interrupted run ends with exit code 130.
    """
    if devices is None or is_child():
        return False
    names = parse_devices(devices)
    if nnodes > 1 and (master is None or ":" not in master):
        raise UsageError("--nnodes needs --master host:port, the same on every machine")
    if node_rank >= nnodes:
        raise UsageError(f"--node-rank {node_rank}: machines are numbered 0 to {nnodes - 1}")
    if len(names) * nnodes == 1:
        os.environ.setdefault(DEVICE, names[0])
        return False
    environments = rank_environments(names, nnodes=nnodes, node_rank=node_rank, master=master)
    _watch(environments, node_rank * len(names), output)
    return True


def rank_environments(
    devices: Sequence[str], *, nnodes: int = 1, node_rank: int = 0, master: str | None = None
) -> list[dict[str, str]]:
    """The environment of each process of this machine, in the order of its devices; `master` is host:port."""
    here = len(devices)
    address = master or f"127.0.0.1:{_free_port()}"
    first, world = node_rank * here, here * nnodes
    return [
        _environment(device, first + n, world, here, address, local=nnodes == 1) for n, device in enumerate(devices)
    ]


def _environment(device: str, rank: int, world: int, local_world: int, master: str, *, local: bool) -> dict[str, str]:
    host, _, port = master.rpartition(":")
    endpoints = [f"{host}:{int(port) + n}" for n in range(world)]
    environment = {
        **os.environ,
        RANK: str(rank),
        WORLD: str(world),
        "PADDLE_MASTER": master,
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        DEVICE: device,
    }
    if device == "cpu":
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        threads = str(max(1, (os.cpu_count() or 1) // local_world))
        environment |= {THREADS: threads, "OPENBLAS_NUM_THREADS": threads}  # the latter is for numpy's products
        if local:
            environment["GLOO_SOCKET_IFNAME"] = "lo"
    else:
        environment["FLAGS_selected_gpus"] = device.partition(":")[2]
    return environment


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(environments: Sequence[dict[str, str]], first: int, output: Path) -> None:
    """Start all, forward signals, and wait until all have ended or one has failed."""
    command = [sys.executable, "-m", "shitu_cli", *sys.argv[1:]]
    running: list[subprocess.Popen[bytes]] = []
    stop: list[int] = []
    former = {number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.ExitStack() as files:
            for number, environment in enumerate(environments):
                # The first process listens; starting the others a little later spares them a retry of 3 s.
                if number == 1:
                    time.sleep(0.3)
                sink = files.enter_context(_log(output, first + number).open("wb")) if first + number else None
                running.append(subprocess.Popen(command, env=environment, stdout=sink, stderr=sink))
            _wait(running, stop)
    except OSError as error:
        raise EnvironmentProblem(f"cannot start the processes: {error}") from error
    finally:
        _end(running)
        for number, handler in former.items():
            signal.signal(number, handler)
    _raise_failure([process.returncode for process in running], first, output, bool(stop))


def _wait(running: Sequence[subprocess.Popen[bytes]], stop: list[int]) -> None:
    forwarded = False
    while any(process.poll() is None for process in running):
        if any(process.returncode not in (None, 0, 130) for process in running):
            time.sleep(0.5)  # the others fail of themselves now; the first cause is told apart below
            return
        if stop and not forwarded:
            forwarded = True
            for process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
        time.sleep(0.1)


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.kill()
    for process in running:
        process.wait()


def _raise_failure(codes: Sequence[int], first: int, output: Path, stopped: bool) -> None:
    """Raise for the process whose end is the cause: killed or failing by itself before those it took along."""
    if stopped:
        sys.exit(130)
    failed = [number for number, code in enumerate(codes) if code not in (0, 130)]
    if not failed:
        if 130 in codes:
            sys.exit(130)
        return

    def cause(number: int) -> int:
        code = codes[number]
        # -9 is also how this parent ends the survivors, so an own exit code or another signal says more.
        return {1: 2, -int(getattr(signal, "SIGKILL", 9)): 1}.get(code, 0)

    number = min(failed, key=cause)
    rank, code = first + number, codes[number]
    if rank == 0 and code > 0:
        raise SystemExit(code)  # it has shown its error already
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    lines = [] if rank == 0 else _log(output, rank).read_text(errors="replace").strip().splitlines()[-6:]
    error: ShituError = TrainingError(
        f"process {rank} of the run ended with {how}; the others were stopped",
        details=lines,
        hint="what was saved is whole: shitu train --resume (with the same options)",
    )
    if code > 0:
        error.exit_code = code
    raise error


def _log(output: Path, rank: int) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    return output / f"rank{rank}.out"
