"""Read the limits that control groups set to this process, as containers, Slurm, Kubernetes and systemd do.

A group's limit binds all groups below it, so every group from the process's own up to the root counts, and the
smallest limit rules. `/proc/self/cgroup` names the process's group in each hierarchy, `/proc/self/mountinfo` where
hierarchies are mounted and which of their groups is the top there: in a container, often the container's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

PROCESS = Path("/proc/self")
_KEPT = ("inactive_file", "active_file")  # of memory.stat: files kept in memory, given up when it is needed


@lru_cache(maxsize=8)
def allowed_cores(process: Path = PROCESS) -> float | None:
    """Return the cores that control groups allow this process, such as 1.5; None without a limit.

    Read once: every search asks, and reading these files would take longer than searching a small index.
    """
    limits = [_quota_v2(folder) for folder in _groups("", process)]
    limits += [_quota_v1(folder) for folder in _groups("cpu", process)]
    return min((limit for limit in limits if limit is not None), default=None)


def free_memory(process: Path = PROCESS) -> int | None:
    """Return the bytes that control groups let this process still take; None without a limit.

    What all processes of a group hold counts, apart from files that the system keeps in memory and can give up.
    """
    amounts = [_free(folder, ("memory.max", "memory.high"), "memory.current", "") for folder in _groups("", process)]
    amounts += [
        _free(folder, ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_")
        for folder in _groups("memory", process)
    ]
    return min((amount for amount in amounts if amount is not None), default=None)


def _groups(controller: str, process: Path) -> Iterator[Path]:
    """Yield the folder of the process's group and of each above it that can be seen here.

    `controller` is one of version 1, "" for version 2, which has one hierarchy for all of them.
    """
    for line in _text(process / "cgroup").splitlines():  # number:controllers:path; 0::path in version 2
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and (controller or number == "0"):
            for mount, top in _mounts(controller, process):
                below = _below(path, top)
                yield from (mount.joinpath(*below[:depth]) for depth in range(len(below), -1, -1))


def _mounts(controller: str, process: Path) -> Iterator[tuple[Path, str]]:
    """Yield where the hierarchy of a controller is mounted, and which of its groups is the top there."""
    for line in _text(process / "mountinfo").splitlines():
        words, kind = (half.split() for half in line.partition(" - ")[::2])
        if len(words) < 5 or len(kind) < 3:
            continue
        is_ours = kind[0] == "cgroup" and controller in kind[2].split(",") if controller else kind[0] == "cgroup2"
        if is_ours:
            yield Path(_unescaped(words[4])), _unescaped(words[3])


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, which writes blanks as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _below(path: str, top: str) -> tuple[str, ...]:
    """Return the names that lead from the group `top` down to `path`; none if only the top can be seen."""
    names, above = (tuple(name for name in text.split("/") if name) for text in (path, top))
    return names[len(above) :] if names[: len(above)] == above and ".." not in names else ()


def _quota_v2(folder: Path) -> float | None:
    """Return the cores of `cpu.max`, which holds `<microseconds or max> <period>`; None without a limit."""
    words = _text(folder / "cpu.max").split()
    return _ratio(words[0], words[1]) if len(words) == 2 else None


def _quota_v1(folder: Path) -> float | None:
    """Return the cores of `cpu.cfs_quota_us`, which is -1 without a limit; None then."""
    return _ratio(_text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    if not (quota.isdecimal() and period.isdecimal()) or not int(quota) or not int(period):
        return None
    return int(quota) / int(period)


def _free(folder: Path, limits: tuple[str, ...], usage: str, prefix: str) -> int | None:
    """Return the bytes between the use of a group and its smallest limit; None without a limit.

    `prefix` is that of the entries of memory.stat which count the groups below too: version 1 has both.
    """
    bounds = [int(text) for text in (_text(folder / name).strip() for name in limits) if text.isdecimal()]
    used = _text(folder / usage).strip()
    if not bounds or not used.isdecimal():
        return None
    entries = dict(line.partition(" ")[::2] for line in _text(folder / "memory.stat").splitlines())
    kept = sum(int(value) for value in (entries.get(f"{prefix}{name}", "") for name in _KEPT) if value.isdecimal())
    return max(0, min(bounds) - max(0, int(used) - kept))


def _text(file: Path) -> str:
    """Return a file of the system, "" if there is none: another version, or not Linux."""
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
