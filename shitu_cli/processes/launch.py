"""Launch several processes for one run, watch them, and stop all when one fails.

Each process runs this same command; Paddle's own environment variables carry its rank. This module does not load
Paddle: the parent only watches.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from shitu_cli.boundary import open_own
from shitu_cli.errors import EnvironmentProblem, ShituError, UsageError
from shitu_cli.processes import this_process
from shitu_cli.processes.failures import INTERRUPT_CODE, Advice, ProcessGone, log_file, raise_elsewhere, raise_failure
from shitu_cli.processes.launchers import take_placement
from shitu_cli.processes.machines import Machines, alone, interface_of, meet, patience, split_address
from shitu_cli.processes.secret import VARIABLE, find_secret
from shitu_cli.processes.this_process import DEVICE, PARENT
from shitu_cli.runtime.setup import hold_back, let_through
from shitu_cli.runtime.threads import THREADS, available_cores

GRACE_SECONDS = 3.0  # for other machines, and for the first process, to report what happened
MAX_PROCESSES = 256  # on one machine


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


@dataclass(frozen=True)
class Meeting:
    """How several machines find each other: their number, the number of this one, and where the first listens.

    Their secret is read from `secret_file`, else from the places in processes/secret.py, lastly the file `shared`.
    """

    nnodes: int
    node_rank: int
    master: str | None
    shared: Path
    secret_file: Path | None = None

    def join(self, processes: int, show_line: Callable[[str], None]) -> Machines:
        """Wait for all machines; this one runs `processes` processes. Raises as `meet` and `find_secret` do."""
        split_address(self.master)  # before anything is waited for
        show_line(f"machine {self.node_rank} of {self.nnodes}: waiting for the others at {self.master} ...")
        deadline = time.monotonic() + patience()
        secret = find_secret(
            self.secret_file, self.shared, creates=self.node_rank == 0, deadline=deadline, show_line=show_line
        )
        machines = meet(
            processes,
            nnodes=self.nnodes,
            node_rank=self.node_rank,
            master=self.master,
            secret=secret,
            show_line=show_line,
        )
        show_line(
            f"all machines are connected; this one runs {processes} of {machines.world} processes, "
            f"from rank {machines.first}"
        )
        return machines


def launch(
    devices: str | None,
    *,
    output: Path,
    advice: Advice,
    meeting: Meeting | None = None,
    device: str = "auto",
    show_line: Callable[[str], None] = lambda text: None,
) -> bool:
    """Run this command once per device and wait; return False if there is nothing to launch (then run here).

    Where another launcher has started this process (processes/launchers.py), it takes its place there, on `device`.

    Rank 0 shows its output, the others write `output/rank<N>.out`. Raises the error of the process that failed
    first, as `advice` says, after ending the others; an interrupted run ends with exit code 130. `show_line` shows a
    line to the user.
    """
    if this_process.is_child():
        this_process.exit_with_parent()
        return False
    nnodes = 1 if meeting is None else meeting.nnodes
    if take_placement(device, devices, nnodes) is not None:
        return False
    if devices is None:
        if nnodes > 1:
            raise UsageError(
                "--nnodes needs --devices: the devices of this machine to train on, such as 0,1,2,3 or cpu:2"
            )
        return False
    names = parse_devices(devices)
    if meeting is not None and meeting.node_rank >= nnodes:
        raise UsageError(f"--node-rank {meeting.node_rank}: machines are numbered 0 to {nnodes - 1}")
    if len(names) * nnodes == 1:
        os.environ.setdefault(DEVICE, names[0])
        return False
    if meeting is None or nnodes == 1:
        _run(names, alone(len(names)), output, advice, show_line)
        return True
    machines, node_rank = meeting.join(len(names), show_line), meeting.node_rank
    try:
        _run(names, machines, output, advice, show_line)
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
    environment = {
        **{name: value for name, value in os.environ.items() if name != VARIABLE},  # only the launcher needs the secret
        **this_process.place_variables(rank, machines.world, machines.address, device),
        PARENT: str(os.getpid()),
    }
    threads = str(max(1, available_cores() // local_world))
    environment |= {THREADS: threads, "OPENBLAS_NUM_THREADS": threads}  # the latter is for numpy's products
    if device == "cpu" and (interface := interface_of(machines.own_host)):
        # Otherwise gloo resolves the host name, often to the loopback.
        environment.setdefault("GLOO_SOCKET_IFNAME", interface)
    return environment


def _run(
    devices: Sequence[str], machines: Machines, output: Path, advice: Advice, show_line: Callable[[str], None]
) -> None:
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
                sink = files.enter_context(open_own(log_file(output, rank), "wb")) if rank else None
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
        raise EnvironmentProblem(
            f"cannot start the processes: {error}", hint="close other programs, or start fewer processes"
        ) from error
    finally:
        _end(running)
        for number, handler in former.items():
            signal.signal(number, handler)
    if failure is not None:
        raise_elsewhere(*failure)
    if stop:
        _leave_stopped(codes[0], show_line)
    raise_failure(codes, machines.first, output, advice)


def _wait(
    running: Sequence[subprocess.Popen[bytes]], machines: Machines, stop: list[int]
) -> tuple[int, str, int] | None:
    """Wait until all have ended or one has failed; return the failure of another machine if that is the cause."""
    is_forwarded = False
    while True:
        # All are polled: one that still runs must not hide that another has died.
        codes = [process.poll() for process in running]
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
    """Wait a little after a failure for its cause: from other processes here, or reported by another machine.

    The first process above all: where all stop at the same error, it is the one that has shown it.
    """
    time.sleep(0.5)
    with contextlib.suppress(subprocess.TimeoutExpired):
        running[0].wait(GRACE_SECONDS)
    codes = [process.poll() for process in running]
    if not machines.links or any(code not in (None, 0, ProcessGone.exit_code, INTERRUPT_CODE) for code in codes):
        return None  # the cause is here
    deadline = time.monotonic() + GRACE_SECONDS
    failure = machines.failure()
    while failure is None and time.monotonic() < deadline:
        time.sleep(0.1)
        failure = machines.failure()
    return failure


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
