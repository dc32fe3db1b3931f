"""Available memory, and limits on it: libraries that cannot get enough to start end the process silently."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.inputs import MIB, StrPath
from shitu_cli.runtime.control_groups import free_memory

_COMMANDS = {"RLIMIT_AS": "ulimit -v", "RLIMIT_DATA": "ulimit -d"}
# Loading Paddle, numba and faiss, measured with PaddlePaddle 3.3.1: with ulimit -v it fails at 1.95 GB and works at
# 2.0 GB, with ulimit -d it fails at 1.0 GB.
PADDLE_MEMORY = {"RLIMIT_AS": 2 << 30, "RLIMIT_DATA": 5 << 28}
# Loading OpenCV and numpy on two cores: fails at 0.4 GB, works at 0.5 GB.
IMAGE_MEMORY = {"RLIMIT_AS": 1 << 29, "RLIMIT_DATA": 1 << 28}


def require_memory(least: Mapping[str, int]) -> None:
    """Raise EnvironmentProblem if a limit (name → bytes) of this process is lower than in `least`."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    for name, need in least.items():
        limit = resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY
        if limit != resource.RLIM_INFINITY and limit < need:
            command = _COMMANDS[name]
            raise EnvironmentProblem(
                f"this shell limits programs to {limit / 1e9:.1f} GB of memory ({command}), but the libraries "
                f"alone need {need / 1e9:.1f} GB",
                hint=f"{command} unlimited   (or ask the administrator for a higher limit)",
            )


def require_room(need: int, path: StrPath) -> None:
    """Raise EnvironmentProblem if reading a file takes `need` bytes, and so many are not free.

    Where the system does not say, or for less than 64 MiB, nobody is asked.
    """
    free = available_memory() if need >= 64 * MIB else None
    if free is not None and need > free:
        raise EnvironmentProblem(
            f"not enough memory to read {os.fspath(path)}: it takes {need / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB are free",
            hint="close other programs, or use a machine with more memory",
        )


def available_memory() -> int | None:
    """Return how many bytes this process may still take: what the system has, within control groups.

    None if the system does not say.
    """
    amounts = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        amounts += [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
    within = free_memory()
    amounts += [] if within is None else [within]
    return min(amounts, default=None)


def peak_memory_bytes() -> int | None:
    """Return the most bytes of memory that this process has held so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
