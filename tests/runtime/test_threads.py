"""The count of threads: affinity, control groups, and the share of a process among several."""

from __future__ import annotations

import ast
import os

import cv2
import numpy as np
import pytest

from shitu_cli.processes.launch import rank_environments
from shitu_cli.processes.machines import alone
from shitu_cli.runtime import threads
from tests.sources import sources


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_cores_are_the_smaller_of_affinity_and_quota(monkeypatch):
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    monkeypatch.setattr(threads, "allowed_cores", lambda: 2.5)
    assert threads.compute_threads() == 3
    monkeypatch.setattr(threads, "allowed_cores", lambda: 64.0)
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
        f"{name}:{node.lineno}"
        for name, source in sources().items()
        if name != "runtime/threads.py"
        for node in source.nodes
        if isinstance(node, ast.Attribute) and node.attr in counters
    ]
    assert elsewhere == []


def test_images_stay_on_the_thread_that_decodes_them():
    """OpenCV's own threads would spin beside ours, and a busy machine lets us wait for them."""
    cv2.setNumThreads(2)
    with threads.image_threads(2, "test") as pool:
        assert set(pool.map(lambda _: cv2.getNumThreads(), range(4))) == {1}


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
