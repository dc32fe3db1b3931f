"""Where the machines of a run find their secret, and which ones are refused."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from shitu_cli.errors import EnvironmentProblem, UsageError
from shitu_cli.processes.launch import rank_environments
from shitu_cli.processes.machines import alone
from shitu_cli.processes.secret import VARIABLE, find_secret


@pytest.fixture(autouse=True)
def _no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def find(shared: Path, *, named: Path | None = None, creates: bool = False, seconds: float = 5) -> bytes:
    return find_secret(named, shared, creates=creates, deadline=time.monotonic() + seconds)


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_machine_writes_one_that_only_its_user_can_read(tmp_path: Path) -> None:
    shared = tmp_path / ".shitu/machines.secret"
    umask = os.umask(0)
    try:
        secret = find(shared, creates=True)
    finally:
        os.umask(umask)
    assert len(secret) >= 32 and stat.S_IMODE(shared.stat().st_mode) == 0o600
    assert find(shared) == secret and find(shared, creates=True) == secret
    assert find(tmp_path / "elsewhere", creates=True) != secret


def test_the_others_wait_for_it(tmp_path: Path) -> None:
    shared = tmp_path / "machines.secret"
    lines: list[str] = []
    late = threading.Timer(0.3, lambda: find(shared, creates=True))
    late.start()
    secret = find_secret(None, shared, creates=False, deadline=time.monotonic() + 10, show_line=lines.append)
    late.join()
    assert secret == find(shared) and lines == [
        f"waiting for {shared}, which machine 0 writes; without a shared disk, copy it from there"
    ]


def test_one_that_does_not_come_is_explained(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="share a secret, and there is none") as caught:
        find(tmp_path / "machines.secret", seconds=0)
    assert "copy that file from machine 0, with mode 600" in str(caught.value.hint) and VARIABLE in str(
        caught.value.hint
    )


def test_a_file_comes_before_the_variable_and_that_before_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = written(tmp_path / "shared", "of the workspace itself\n")
    named = written(tmp_path / "named", "of the file that is named\n")
    assert find(shared) == b"of the workspace itself"
    monkeypatch.setenv(VARIABLE, "of the environment here")
    assert find(shared) == b"of the environment here"
    assert find(shared, named=named) == b"of the file that is named"


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_one_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = written(tmp_path / "secret", "long enough, but open to others", mode)
    for arguments in ({"named": path}, {}):
        with pytest.raises(UsageError, match="other users can read this secret") as caught:
            find(path, **arguments)  # type: ignore[arg-type]
        assert caught.value.hint == f"chmod 600 {path}"


def test_a_short_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="a secret of 5 characters, expected at least 16"):
        find(tmp_path / "x", named=written(tmp_path / "secret", "short\n"))
    monkeypatch.setenv(VARIABLE, "short")
    with pytest.raises(UsageError, match=f"{VARIABLE}: a secret of 5 characters"):
        find(tmp_path / "x")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=str(path)):
            find(tmp_path / "x", named=path)


def test_the_processes_of_the_run_do_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "of the environment here")
    (environment,) = rank_environments(["cpu"], alone(1))
    assert "of the environment here" not in environment.values()
