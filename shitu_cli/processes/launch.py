"""Launch several processes for one run, watch them, and stop all when one fails.

Each process runs this same command; Paddle's own environment variables carry its rank. This module does not load
Paddle: the parent only watches.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from shitu_cli.errors import Command, EnvironmentProblem, ShituError, TrainingError, UsageError
from shitu_cli.processes.machines import Machines, alone, interface_of, meet
from shitu_cli.runtime.setup import hold_back, let_through
from shitu_cli.runtime.threads import THREADS, available_cores

RANK, WORLD = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
DEVICE, PARENT = "SHITU_RANK_DEVICE", "SHITU_RANK_PARENT"
GRACE_SECONDS = 3.0  # for other machines to report what happened
INTERRUPT_CODE = 130


class ProcessGone(TrainingError):
    """Raised when a collective fails because another process has ended; its exit code marks it as a consequence."""

    exit_code = 76

    def __init__(self, error: BaseException) -> None:
        super().__init__(
            "another process of the run has ended", details=(str(error).strip().splitlines() or [repr(error)])[-1:]
        )


MAX_PROCESSES = 256  # on one machine


def is_child() -> bool:
    """Return whether this process is one of several that `launch` has started."""
    return DEVICE in os.environ


def is_main() -> bool:
    """Return whether this process is the one that prints: the only one, or rank 0."""
    return not is_child() or os.environ.get(RANK, "0") == "0"


def rank() -> int:
    """Return the number of this process among those of the run, from 0."""
    return int(os.environ.get(RANK, "0")) if is_child() else 0


def world() -> int:
    """Return the number of processes of the run."""
    return int(os.environ.get(WORLD, "1")) if is_child() else 1


def own_device(default: str) -> str:
    """Return the device assigned to this process, or `default` if it is the only one."""
    return os.environ.get(DEVICE, default)


def parse_devices(text: str) -> list[str]:
    """Return the device of each process: `cpu:2` → two on the CPU, `0,1` or `gpu:0,1` → one per GPU.

    Raises UsageError for any other text.
    """
    cpu = re.fullmatch(r"cpu:(\d+)", text)
    if cpu and cpu.group(1).isascii() and 0 < int(cpu.group(1)[:9]) <= MAX_PROCESSES:
        return ["cpu"] * int(cpu.group(1))
    if cpu and cpu.group(1).strip("0"):
        raise UsageError(f"--devices {text[:40]}: at most cpu:{MAX_PROCESSES}", hint="one per core is enough")
    gpus = re.fullmatch(r"(?:gpu:)?(\d+(?:,\d+)*)", text)
    if gpus:
        numbers = gpus.group(1).split(",")
        if len(set(numbers)) == len(numbers):
            return [f"gpu:{number}" for number in numbers]
    raise UsageError(f"--devices: got {text!r}, expected GPU numbers such as 0,1,2,3, or cpu:2 for two processes")


def launch(
    devices: str | None,
    *,
    nnodes: int,
    node_rank: int,
    master: str | None,
    output: Path,
    show_line: Callable[[str], None] = lambda text: None,
) -> bool:
    """Run this command once per device and wait; return False if there is nothing to launch (then run here).

    Rank 0 shows its output, the others write `output/rank<N>.out`. Raises the error of the process that failed
    first, after ending the others; an interrupted run ends with exit code 130. `show_line` shows a line to the user.
    """
    if is_child():
        _exit_with_parent()
        return False
    if devices is None:
        if nnodes > 1:
            raise UsageError(
                "--nnodes needs --devices: the devices of this machine to train on, such as 0,1,2,3 or cpu:2"
            )
        return False
    names = parse_devices(devices)
    if node_rank >= nnodes:
        raise UsageError(f"--node-rank {node_rank}: machines are numbered 0 to {nnodes - 1}")
    if len(names) * nnodes == 1:
        os.environ.setdefault(DEVICE, names[0])
        return False
    if nnodes == 1:
        _run(names, alone(len(names)), output, show_line)
        return True
    show_line(f"machine {node_rank} of {nnodes}: waiting for the others at {master} ...")
    machines = meet(len(names), nnodes=nnodes, node_rank=node_rank, master=master)
    show_line(
        f"all machines are connected; this one runs {len(names)} of {machines.world} processes, "
        f"from rank {machines.first}"
    )
    try:
        _run(names, machines, output, show_line)
        machines.send("done")
    except ShituError as error:
        machines.send("failed", machine=node_rank, text=error.message, code=error.exit_code)
        raise
    except SystemExit as stop:
        kind = "done" if stop.code == INTERRUPT_CODE else "failed"
        machines.send(kind, machine=node_rank, text="failed; its own output shows the error", code=stop.code)
        raise
    finally:
        machines.leave()
    return True


def rank_environments(devices: Sequence[str], machines: Machines) -> list[dict[str, str]]:
    """Return the environment of each process of this machine, in the order of its devices."""
    return [_environment(device, machines.first + n, machines, len(devices)) for n, device in enumerate(devices)]


def _environment(device: str, rank: int, machines: Machines, local_world: int) -> dict[str, str]:
    host, _, port = machines.address.rpartition(":")
    endpoints = [f"{host}:{int(port) + n}" for n in range(machines.world)]  # only the first one is ever used
    environment = {
        **os.environ,
        RANK: str(rank),
        WORLD: str(machines.world),
        "PADDLE_MASTER": machines.address,
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
        DEVICE: device,
        PARENT: str(os.getpid()),
    }
    threads = str(max(1, available_cores() // local_world))
    environment |= {THREADS: threads, "OPENBLAS_NUM_THREADS": threads}  # the latter is for numpy's products
    if device == "cpu":
        environment["PADDLE_DISTRI_BACKEND"] = "gloo"
        interface = interface_of(machines.own_host)
        if interface:  # otherwise gloo resolves the host name, often to the loopback
            environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    else:
        environment["FLAGS_selected_gpus"] = device.partition(":")[2]
    return environment


def _exit_with_parent() -> None:
    """End this process when its parent has ended, even if that happened before this call.

    On Linux the kernel does it; a thread could not run while Paddle waits for the other processes.
    """
    parent = os.environ.get(PARENT)
    if parent is None:  # started by the user's own launcher, which manages its processes
        return
    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, int(signal.SIGKILL))

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="shitu-parent-watch").start()


def _run(devices: Sequence[str], machines: Machines, output: Path, show_line: Callable[[str], None]) -> None:
    """Start all processes of this machine, forward signals, and wait until all have ended or one has failed."""
    command = [sys.executable, "-m", "shitu_cli", *sys.argv[1:]]
    running: list[subprocess.Popen[bytes]] = []
    stop: list[int] = []
    failure: tuple[int, str, int] | None = None
    former = {number: signal.signal(number, lambda n, _: stop.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with contextlib.ExitStack() as files:
            for rank, environment in enumerate(rank_environments(devices, machines), machines.first):
                # The first process listens; starting the others a little later avoids their retry after 3 s.
                if rank == machines.first + 1:
                    time.sleep(0.3)
                sink = files.enter_context(_log(output, rank).open("wb")) if rank else None
                # The child accepts Ctrl-C once its command line is parsed (see __main__.py), and SIGTERM once Paddle
                # (runtime/setup.py), or a model that runs without it (cli/extract.py), is loaded.
                hold_back(signal.SIGINT, signal.SIGTERM)
                try:
                    running.append(subprocess.Popen(command, env=environment, stdout=sink, stderr=sink))
                finally:
                    let_through(signal.SIGINT, signal.SIGTERM)
            failure = _wait(running, machines, stop)
            codes = [process.poll() for process in running]
    except OSError as error:
        raise EnvironmentProblem(f"cannot start the processes: {error}") from error
    finally:
        _end(running)
        for number, handler in former.items():
            signal.signal(number, handler)
    if failure is not None:
        _raise_elsewhere(*failure)
    if stop:
        _leave_stopped(codes[0], show_line)
    _raise_failure(codes, machines.first, output)


def _wait(
    running: Sequence[subprocess.Popen[bytes]], machines: Machines, stop: list[int]
) -> tuple[int, str, int] | None:
    """Wait until all have ended or one has failed; return the failure of another machine if that is the cause."""
    is_forwarded = False
    while True:
        codes = [
            process.poll() for process in running
        ]  # poll all: one that still runs must not hide that another has died
        if any(code not in (None, 0, INTERRUPT_CODE) for code in codes):
            return _cause_elsewhere(running, machines)
        if None not in codes:
            return None
        failure = machines.failure()
        if failure is not None:
            return failure
        if stop and not is_forwarded:
            is_forwarded = True
            for process in running:
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
        time.sleep(0.1)


def _cause_elsewhere(running: Sequence[subprocess.Popen[bytes]], machines: Machines) -> tuple[int, str, int] | None:
    """Wait a little after a failure for its cause: from other processes here, or reported by another machine."""
    time.sleep(0.5)
    codes = [process.poll() for process in running]
    if not machines.links or any(code not in (None, 0, ProcessGone.exit_code, INTERRUPT_CODE) for code in codes):
        return None  # the cause is here
    deadline = time.monotonic() + GRACE_SECONDS
    failure = machines.failure()
    while failure is None and time.monotonic() < deadline:
        time.sleep(0.1)
        failure = machines.failure()
    return failure


def _raise_elsewhere(machine: int, text: str, code: int) -> None:
    error = TrainingError(
        f"machine {machine} of the run {text}" if text.startswith("has left") else f"machine {machine}: {text}",
        details=["the processes of this machine were stopped"],
        hint=[
            "the last save is intact; continue from it: ",
            Command("train", "--resume"),
            " (with the same options, on all machines)",
        ],
    )
    error.exit_code = code
    raise error


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in running:
        if process.poll() is None:
            process.kill()
    for process in running:
        process.wait()


def _leave_stopped(code: int | None, show_line: Callable[[str], None]) -> NoReturn:
    if code != INTERRUPT_CODE:  # it ended before it could report that
        show_line("stopped by Ctrl-C")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would hit an interpreter without handlers
    sys.exit(INTERRUPT_CODE)


def _raise_failure(codes: Sequence[int | None], first: int, output: Path) -> None:
    """Raise for the process that failed first, not for those that failed because of it; None: it had to be killed."""
    failures = [(rank, code) for rank, code in enumerate(codes, first) if code and code != INTERRUPT_CODE]
    if not failures:
        if INTERRUPT_CODE in codes:
            sys.exit(INTERRUPT_CODE)
        return
    # A process that loses another exits with the code of ProcessGone, or the communication library aborts it.
    priority = {ProcessGone.exit_code: 2, -int(signal.SIGABRT): 1}
    rank, code = min(failures, key=lambda end: priority.get(end[1], 0))
    if code == ProcessGone.exit_code:
        raise TrainingError("the processes of the run lost their connection", hint=Command("train", "--resume"))
    if rank == 0 and code > 0:
        raise SystemExit(code)  # it has already shown its error
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    lines = [] if rank == 0 else _log(output, rank).read_text(errors="replace").strip().splitlines()[-6:]
    error: ShituError = TrainingError(
        f"process {rank} of the run ended with {how}; the others were stopped",
        details=lines,
        hint=["the last save is intact; continue from it: ", Command("train", "--resume"), " (with the same options)"],
    )
    if code > 0:
        error.exit_code = code
    raise error


def _log(output: Path, rank: int) -> Path:
    output.mkdir(parents=True, exist_ok=True)
    return output / f"rank{rank}.out"
