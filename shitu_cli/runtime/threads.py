"""Decide how many threads this process computes on, for everything that starts threads.

The smallest of three counts: the cores of the process's affinity, the CPU time that its control group allows (which
`docker run --cpus 2` sets), and this process's share if a run has several.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

THREADS = "SHITU_RANK_THREADS"  # the share of a process among several; processes/launch.py sets it


def compute_threads() -> int:
    """Return the number of threads that this process computes on, at least 1."""
    share = os.environ.get(THREADS, "")
    return max(1, int(share)) if share.isdecimal() else available_cores()


def available_cores() -> int:
    """Return the cores that this process and those that it starts may use together, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cores()
    return max(1, affinity if quota is None else min(affinity, quota))


def is_bound() -> bool:
    """Return whether this process may not use all cores of the machine, as a launcher or a container has decided."""
    return available_cores() < (os.cpu_count() or 1)


def cgroup_cores(mounts: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the cores that the control groups above this process allow, rounded up; None without a limit.

    A group's limit binds all groups below it, so the smallest on the way to the root counts. `membership` has lines
    `number:controllers:path`: version 2 leaves the first two `0:` and empty, version 1 names the controllers.
    """
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return None
    limits = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            limits += [_quota_v2(folder) for folder in _upwards(mounts, path)]
        elif "cpu" in controllers.split(","):
            for mount in (mounts / controllers, mounts / "cpu"):
                limits += [_quota_v1(folder) for folder in _upwards(mount, path)]
    cores = [limit for limit in limits if limit is not None]
    return max(1, -int(-min(cores) // 1)) if cores else None


def _upwards(mount: Path, path: str) -> list[Path]:
    """Return the folder of a control group and those above it; in a container only the mount may be visible."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    return [mount.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _quota_v2(folder: Path) -> float | None:
    """Return the cores of `cpu.max`, which holds `<microseconds or max> <period>`; None without a limit."""
    words = _words(folder / "cpu.max")
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    """Return the cores of `cpu.cfs_quota_us`, which is -1 without a limit; None then."""
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    return _ratio(quota[0], period[0]) if quota and period else None


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal()) or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep each of numpy's matrix products on the thread that calls it.

    A BLAS that divides a product among threads rounds differently for each number of them. To use several cores,
    compute whole tiles of one shape in several threads.
    """
    with _blas().limit(limits=1):
        yield


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    import numpy  # noqa: F401  (loads the library that is looked for)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
