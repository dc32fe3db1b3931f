"""The runner of the other tests: a command run inside this process shows what a process of its own would show."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.command import shitu, shitu_process


@pytest.mark.parametrize("words", [["--version"], ["models", "ResNeXt"], ["train"], ["train", "--no-such-option"]])
def test_both_runners_give_the_same_result(tmp_path: Path, words: list[str]) -> None:
    inside, outside = (run(*words, cwd=tmp_path, check=False) for run in (shitu, shitu_process))
    assert (inside.returncode, inside.stdout, inside.stderr) == (outside.returncode, outside.stdout, outside.stderr)


def test_a_command_leaves_its_process_as_it_was(tmp_path: Path) -> None:
    def state() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        return (
            os.getcwd(),
            dict(os.environ),
            list(sys.argv),
            sys.stdout,
            sys.stderr,
            os.listdir("/proc/self/fd"),
            handlers,
        )

    before = state()
    shitu("-w", "elsewhere", "train", cwd=tmp_path, check=False, env={"SHITU_EXAMPLE": "1"})
    shitu("templates", cwd=tmp_path)
    assert state() == before
