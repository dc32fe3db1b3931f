"""A limit on memory below what the libraries need is said; without the check they end the process."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.runtime.memory import IMAGE_MEMORY, PADDLE_MEMORY, require_memory


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_limit_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**9, 10**9) if kind == resource.RLIMIT_AS else (-1, -1))
    require_memory(IMAGE_MEMORY)
    with pytest.raises(
        EnvironmentProblem, match=r"1\.0 GB of memory \(ulimit -v\), but the libraries alone need 2\.1 GB"
    ):
        require_memory(PADDLE_MEMORY)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_command_that_cannot_load_its_libraries_says_so(tmp_path: Path) -> None:
    command = f"ulimit -v 400000; exec {shlex.quote(sys.executable)} -m shitu_cli prepare data"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 5 and "ulimit -v" in done.stderr
