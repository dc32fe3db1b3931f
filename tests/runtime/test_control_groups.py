"""Limits of control groups of both versions, wherever the process's group lies: cores and memory, on trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.runtime import memory, threads
from shitu_cli.runtime.control_groups import allowed_cores, free_memory

GB = 1 << 30
V1_UNLIMITED = str((1 << 63) - 4096)


class Machine:
    """A folder that holds `/proc/self` of a process and the hierarchies that are mounted."""

    def __init__(self, folder: Path) -> None:
        self.root, self.process = folder, folder / "proc"
        self.process.mkdir()
        self._lines = ["22 1 0:21 / / rw - ext4 /dev/root rw"]

    def mount(self, kind: str, place: str, top: str = "/") -> Path:
        """Mount a hierarchy; `kind` is "" for version 2, or controllers of version 1."""
        folder = self.root / place
        folder.mkdir(parents=True, exist_ok=True)
        end = f"cgroup cgroup rw,{kind}" if kind else "cgroup2 cgroup2 rw,nsdelegate"
        name = str(folder).replace(" ", "\\040")
        self._lines.append(f"31 22 0:28 {top} {name} rw,nosuid shared:9 - {end}")
        (self.process / "mountinfo").write_text("\n".join(self._lines))
        return folder

    def member(self, *lines: str) -> None:
        (self.process / "cgroup").write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    allowed_cores.cache_clear()  # a folder of an earlier test may have had the same name
    return Machine(tmp_path)


def write(folder: Path, **files: str | int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 1.5), ("max 100000", None), ("", None), ("a b", None)]
)
def test_cores_of_version_2_in_the_own_group(machine: Machine, quota: str, cores: float | None) -> None:
    write(machine.mount("", "sys") / "system/job", cpu__max=quota)
    machine.member("0::/system/job")
    assert allowed_cores(machine.process) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2.5), ("-1", None), ("", None), ("many", None)])
def test_cores_of_version_1(machine: Machine, quota: str, cores: float | None) -> None:
    group = machine.mount("cpu,cpuacct", "sys/cpu,cpuacct") / "docker/abc"
    write(group, cpu__cfs_quota_us=quota, cpu__cfs_period_us=100_000)
    machine.member("12:memory:/docker/abc", "4:cpu,cpuacct:/docker/abc", "1:name=systemd:/")
    assert allowed_cores(machine.process) == cores


def test_the_smallest_limit_on_the_way_up_rules(machine: Machine) -> None:
    """Slurm, version 2: the step is free to use what the job may; the job is bound."""
    job = machine.mount("", "sys") / "system.slice/slurmstepd.scope/job_7"
    write(job / "step_0/user/task_0", cpu__max="max 100000", memory__max="max", memory__current=GB)
    write(job / "step_0", cpu__max="800000 100000", memory__max=6 * GB, memory__current=GB)
    write(job, cpu__max="300000 100000", memory__max=4 * GB, memory__high="max", memory__current=3 * GB)
    machine.member("0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0")
    assert allowed_cores(machine.process) == 3 and free_memory(machine.process) == GB


def test_memory_of_slurm_in_version_1(machine: Machine) -> None:
    top = machine.mount("memory", "sys/memory")
    write(top, memory__limit_in_bytes=V1_UNLIMITED, memory__usage_in_bytes=50 * GB, memory__stat="")
    job = top / "slurm/uid_1000/job_7"
    write(job / "step_0", memory__limit_in_bytes=V1_UNLIMITED, memory__usage_in_bytes=2 * GB)
    stat = f"inactive_file 0\nactive_file 0\ntotal_inactive_file {GB}\ntotal_active_file {GB // 2}"
    write(job, memory__limit_in_bytes=8 * GB, memory__usage_in_bytes=3 * GB, memory__stat=stat)
    machine.member("9:memory:/slurm/uid_1000/job_7/step_0", "0::/")
    assert free_memory(machine.process) == 8 * GB - 3 * GB + GB + GB // 2


def test_a_container_that_sees_its_own_group_at_the_top(machine: Machine) -> None:
    """Docker, version 2 with a namespace: the limit lies at the mount itself."""
    top = machine.mount("", "sys/fs/cgroup")
    write(top, cpu__max="100000 100000", memory__max=2 * GB, memory__current=GB, memory__stat=f"inactive_file {GB}")
    machine.member("0::/")
    assert allowed_cores(machine.process) == 1 and free_memory(machine.process) == 2 * GB


@pytest.mark.parametrize("path", ["/docker/abc/inner", "/docker/abc", "/docker/other", "/../../docker/other"])
def test_a_container_whose_mount_is_a_group_below_the_root(machine: Machine, path: str) -> None:
    """Docker, version 1: the process names its group as the host does, and the mount's top is the container's group."""
    top = machine.mount("memory", "sys/memory", top="/docker/abc")
    write(top, memory__limit_in_bytes=3 * GB, memory__usage_in_bytes=GB)
    write(top / "inner", memory__limit_in_bytes=2 * GB, memory__usage_in_bytes=GB)
    machine.member(f"9:memory:{path}")
    assert free_memory(machine.process) == (GB if path.endswith("inner") else 2 * GB)


def test_both_versions_and_odd_mount_points(machine: Machine) -> None:
    write(machine.mount("memory", "old groups/memory") / "job", memory__limit_in_bytes=GB, memory__usage_in_bytes=0)
    write(machine.mount("", "sys/unified") / "job", memory__max=GB // 2, memory__current=0, cpu__max="50000 100000")
    machine.member("3:memory:/job", "0::/job")
    assert free_memory(machine.process) == GB // 2 and allowed_cores(machine.process) == 0.5
    machine.member("3:memory:/job")
    allowed_cores.cache_clear()  # read once a process
    assert free_memory(machine.process) == GB and allowed_cores(machine.process) is None


def test_cores_are_read_once_as_every_search_asks_for_them(machine: Machine) -> None:
    group = machine.mount("", "sys") / "job"
    write(group, cpu__max="200000 100000")
    machine.member("0::/job")
    assert allowed_cores(machine.process) == 2
    (group / "cpu.max").unlink()
    assert allowed_cores(machine.process) == 2


def test_more_in_use_than_allowed_leaves_nothing(machine: Machine) -> None:
    write(machine.mount("", "sys") / "job", memory__high=GB, memory__max=3 * GB, memory__current=2 * GB)
    machine.member("0::/job")
    assert free_memory(machine.process) == 0


def test_a_machine_without_control_groups_has_no_limit(machine: Machine, tmp_path: Path) -> None:
    assert allowed_cores(tmp_path / "absent") is None and free_memory(tmp_path / "absent") is None
    machine.member("0::/", "garbage", ":::", "1:memory")
    (machine.process / "mountinfo").write_text("garbage\n - \n1 2 3 4 5 - cgroup2\n")
    assert allowed_cores(machine.process) is None and free_memory(machine.process) is None


def test_who_asks_for_memory_and_cores_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    group = machine.mount("", "sys") / "slice/job"
    write(group, cpu__max="120000 100000", memory__max=5 << 20, memory__current=1 << 20)
    machine.member("0::/slice/job")
    monkeypatch.setattr(memory, "free_memory", lambda: free_memory(machine.process))
    monkeypatch.setattr(threads, "allowed_cores", lambda: allowed_cores(machine.process))
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert memory.available_memory() == 4 << 20
    assert threads.compute_threads() == 2, "1.2 cores"
