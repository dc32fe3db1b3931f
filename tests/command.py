"""The real command, run as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

# A small network without online evaluation: for tests of what happens around training.
SMALL = ["-o", "Arch.Backbone.name=PPLCNet_x0_25", "-o", "Global.eval_during_train=False"]


def shitu(*args: str, cwd: Path, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run the real entry point; one compute thread, so that tests do not disturb each other."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1", **(env or {})}
    done = subprocess.run(
        [sys.executable, "-m", "shitu_cli", *args], cwd=cwd, env=environment, capture_output=True, text=True
    )
    if check and done.returncode:
        raise AssertionError(f"shitu {' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def children_of(pid: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def all_end(pids: list[int], seconds: float = 10) -> bool:
    """Whether all these processes end within so many seconds; what only waits to be reaped has ended."""
    deadline = time.monotonic() + seconds
    while any(_runs(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
