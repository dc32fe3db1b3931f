"""Run a Python module in its own process that ends with this one, however this one ends."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys

from shitu_cli.processes.this_process import PARENT, exit_with_parent


def run_module(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m module arguments` to its end; return its exit code and what it printed."""
    command = [sys.executable, "-m", __name__, module, *arguments]
    environment = {**os.environ, PARENT: str(os.getpid())}
    return subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment)


def _main() -> None:
    exit_with_parent()
    del os.environ[PARENT]  # for this process alone
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
