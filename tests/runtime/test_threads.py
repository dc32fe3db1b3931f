"""The count of threads: affinity, control groups of both versions, and the share of a process among several."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.processes.launch import rank_environments
from shitu_cli.processes.machines import alone
from shitu_cli.runtime import threads

PACKAGE = Path(threads.__file__).parents[1]


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def _membership(folder: Path, text: str) -> Path:
    file = folder / "membership"
    file.write_text(text)
    return file


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", None)]
)
def test_version_2_limits_in_its_own_group(tmp_path, quota, cores):
    _write(tmp_path / "system" / "job", cpu__max=f"{quota}\n")
    assert threads.cgroup_cores(tmp_path, _membership(tmp_path, "0::/system/job\n")) == cores


def test_version_2_takes_the_smallest_limit_on_the_way_up(tmp_path):
    _write(tmp_path / "slice" / "job", cpu__max="800000 100000\n")
    _write(tmp_path / "slice", cpu__max="300000 100000\n")
    assert threads.cgroup_cores(tmp_path, _membership(tmp_path, "0::/slice/job\n")) == 3


def test_version_2_inside_a_container_sees_only_the_mount(tmp_path):
    _write(tmp_path, cpu__max="100000 100000\n")
    assert threads.cgroup_cores(tmp_path, _membership(tmp_path, "0::/../../docker/abc\n")) == 1


@pytest.mark.parametrize(("quota", "cores"), [("250000", 3), ("-1", None), ("", None), ("many", None)])
def test_version_1_limits_by_quota_and_period(tmp_path, quota, cores):
    _write(tmp_path / "cpu,cpuacct" / "docker" / "abc", cpu__cfs_quota_us=quota, cpu__cfs_period_us="100000")
    lines = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"
    assert threads.cgroup_cores(tmp_path, _membership(tmp_path, lines)) == cores


def test_a_machine_without_control_groups_has_no_limit(tmp_path):
    assert threads.cgroup_cores(tmp_path, tmp_path / "absent") is None


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_cores_are_the_smaller_of_affinity_and_quota(monkeypatch):
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.setattr(threads, "cgroup_cores", lambda: 3)
    assert threads.compute_threads() == 3
    monkeypatch.setattr(threads, "cgroup_cores", lambda: 64)
    assert threads.compute_threads() == 12


@pytest.mark.parametrize("devices", [["cpu"] * 3, ["gpu:0", "gpu:1", "gpu:2"]])
def test_processes_of_a_run_share_the_cores(monkeypatch, devices):
    monkeypatch.setattr("shitu_cli.processes.launch.available_cores", lambda: 7)
    for environment in rank_environments(devices, alone(3)):
        monkeypatch.setenv(threads.THREADS, environment[threads.THREADS])
        assert threads.compute_threads() == 2


def test_nobody_else_counts_cores():
    """One owner: elsewhere the count would miss the quota, the affinity or the other processes."""
    counters = {"cpu_count", "sched_getaffinity", "process_cpu_count"}
    elsewhere = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        if file.name != "threads.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in counters
    ]
    assert elsewhere == []


def test_products_stay_on_the_thread_that_asks():
    import threadpoolctl

    def counts() -> set[int]:
        return {pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"}

    before = counts()
    with threads.single_threaded_blas():
        inside = counts()
        np.ones((64, 64), np.float32) @ np.ones((64, 64), np.float32)
    assert inside == {1}
    assert counts() == before
