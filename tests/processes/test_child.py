"""Processes that this program starts for a part of its work end with it, also when it is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from shitu_cli.processes.child import run_module
from tests.command import all_end, children_of

ROOT = Path(__file__).parents[2]


def test_what_a_module_prints_and_how_it_ends() -> None:
    done = run_module("json.tool", "--no-such-option")
    assert done.returncode == 2 and "no-such-option" in done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_no_child_outlives_a_kill() -> None:
    code = "from shitu_cli.processes.child import run_module; run_module('http.server', '0', '--bind', '127.0.0.1')"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (children := children_of(parent.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert children
    finally:
        parent.kill()
        parent.wait()
    assert all_end(children, 30)
