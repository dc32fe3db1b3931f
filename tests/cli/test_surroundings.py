"""Where the program runs: a removed directory, a user without a home, libraries that report to their makers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shitu_cli.errors import ShituError
from shitu_cli.features.backends import create_session
from tests.command import shitu


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a directory that a process is in")
def test_a_directory_that_was_removed(tmp_path: Path) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m shitu_cli"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 5 and done.stderr.startswith("error: the current directory no longer exists")


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    for name in ("XDG_CACHE_HOME", "SHITU_WEIGHTS", "SHITU_CACHE"):
        monkeypatch.delenv(name, raising=False)
    done = shitu("weights", "list", cwd=tmp_path, check=False)
    assert done.returncode == 5 and "set HOME or XDG_CACHE_HOME" in done.stderr


def test_no_library_reports_to_its_maker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "")  # noted, so that what the program sets is undone
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    (tmp_path / "x.onnx").write_bytes(b"no model")
    with pytest.raises(ShituError):
        create_session(tmp_path / "x.onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")  # whoever wants it decides so
    with pytest.raises(ShituError):
        create_session(tmp_path / "x.onnx")
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
