"""This process as one of several of a run: its rank, its device and what it prints."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

from shitu_cli.reporting import Reporter, SilentReporter

RANK, WORLD = "PADDLE_TRAINER_ID", "PADDLE_TRAINERS_NUM"
DEVICE, PARENT = "SHITU_RANK_DEVICE", "SHITU_RANK_PARENT"


def is_child() -> bool:
    """Return whether this process is one of several of a run."""
    return DEVICE in os.environ


def has_parent() -> bool:
    """Return whether a process of this program started this one, and continues when all have ended."""
    return PARENT in os.environ


def is_main() -> bool:
    """Return whether this process is the one that prints: the only one, or rank 0."""
    return not is_child() or os.environ.get(RANK, "0") == "0"


def reporter_of(reporter: Reporter | None) -> Reporter:
    """Return `reporter` in the process that prints, a silent one in the others and for None."""
    return reporter if reporter is not None and is_main() else SilentReporter()


def rank() -> int:
    """Return the number of this process among those of the run, from 0."""
    return int(os.environ.get(RANK, "0")) if is_child() else 0


def world() -> int:
    """Return the number of processes of the run."""
    return int(os.environ.get(WORLD, "1")) if is_child() else 1


def own_device(default: str) -> str:
    """Return the device assigned to this process, or `default` if it is the only one."""
    return os.environ.get(DEVICE, default)


def place_variables(rank: int, world: int, address: str, device: str) -> dict[str, str]:
    """Return the variables by which a process knows its place; the first one listens at `address` (host:port)."""
    host, _, port = address.rpartition(":")
    endpoints = [f"{host}:{int(port) + n}" for n in range(world)]  # only the first one is ever used
    variables = {
        RANK: str(rank),
        WORLD: str(world),
        DEVICE: device,
        "PADDLE_MASTER": address,
        "PADDLE_TRAINER_ENDPOINTS": ",".join(endpoints),
        "PADDLE_CURRENT_ENDPOINT": endpoints[rank],
    }
    if device == "cpu":
        return {**variables, "PADDLE_DISTRI_BACKEND": "gloo"}
    return {**variables, "FLAGS_selected_gpus": device.partition(":")[2] or "0"}


def exit_with_parent() -> None:
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
