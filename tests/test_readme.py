"""Every `shitu` command that README.md shows, run in its order, in one directory, through the real entry point."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
# The first two blocks install into fresh environments: continuous integration runs them word for word.
INSTALLS = 2


def blocks() -> Iterator[str]:
    """The text of README's `console` blocks."""
    for match in re.finditer(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S):
        yield match.group(1)


def commands() -> list[str]:
    """The `shitu` lines of all blocks after the installing ones, comments dropped."""
    lines = [line.split("  #")[0].strip() for block in list(blocks())[INSTALLS:] for line in block.splitlines()]
    return [line for line in lines if line.startswith("shitu")]


def test_the_first_two_blocks_install_and_test() -> None:
    first, second = list(blocks())[:INSTALLS]
    assert first.count("\n") == second.count("\n") == 1
    assert first.rstrip().endswith("shitu demo")
    assert second.rstrip().endswith("-m pytest")


def test_the_four_steps_are_shown() -> None:
    shown = {command.split()[1] for command in commands() if " " in command}
    assert {"prepare", "train", "evaluate", "export", "extract", "index", "search"} <= shown


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_command_runs(tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]) -> None:
    made = make_images(tmp_path / "data", classes=8, per_class=8, size=(80, 64))
    shutil.copy(made["class_003"][0], tmp_path / "photo.jpg")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    failed = []
    for command in commands():
        argv = [sys.executable, "-m", "shitu_cli", *shlex.split(command)[1:]]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True)
        if done.returncode:
            failed.append(f"$ {command}\nexit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    assert not failed, "\n\n".join(failed)
