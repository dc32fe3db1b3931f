"""Directories that take their place whole, and what the dead leave of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.files import atomic_dir, atomic_write, remove_leftovers
from shitu_cli.workspace import Workspace

HOLD = """
import sys
from pathlib import Path
from shitu_cli.files import atomic_dir
with atomic_dir(Path(sys.argv[1])) as made:
    (made / "file").write_text("x")
    print(made.name, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="directories cannot be locked there")
def test_what_the_dead_left_goes_and_what_the_living_hold_stays(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with (
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as living,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as dead,
    ):
        assert living.stdout and dead.stdout and living.stdin
        held, left = living.stdout.readline().strip(), dead.stdout.readline().strip()
        dead.kill()
        dead.wait()
        assert (tmp_path / left / "file").exists()
        (tmp_path / ".out.notes.tmp").mkdir()
        (tmp_path / ".out2.abcdefgh.tmp").mkdir()
        with atomic_dir(tmp_path / "out") as made:
            assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
                [held, made.name, ".out.notes.tmp", ".out2.abcdefgh.tmp"]
            )
            (made / "mine").write_text("y")
        assert (tmp_path / held / "file").read_text() == "x"
        living.stdin.close()
    assert living.returncode == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.notes.tmp", ".out2.abcdefgh.tmp", "out"]


def test_a_file_system_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import fcntl

    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(EnvironmentProblem, match="No locks available") as caught, Workspace(tmp_path).lock("train"):
        pass
    assert "another" not in caught.value.message and "no file locks" in str(caught.value.hint)


def test_what_killed_writers_left_is_removed_but_not_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = "import os, sys; from pathlib import Path; from shitu_cli.files import atomic_write\n"
    kill += "with atomic_write(Path(sys.argv[1])) as file: file.write(b'x'); file.flush(); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", kill, str(tmp_path / "f.npy")])
    (tmp_path / ".f.npy.mine.tmp").write_text("another name")
    assert len(list(tmp_path.iterdir())) == 2

    def replace_beside_another_writer(temporary: Path, target: Path) -> None:
        remove_leftovers(tmp_path / "f.npy")
        replace(temporary, target)

    replace = os.replace
    monkeypatch.setattr(os, "replace", replace_beside_another_writer)
    with atomic_write(tmp_path / "f.npy") as file:
        remove_leftovers(tmp_path / "f.npy")
        assert len(list(tmp_path.iterdir())) == 2
        file.write(b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".f.npy.mine.tmp", "f.npy"]
    assert (tmp_path / "f.npy").read_bytes() == b"new"
