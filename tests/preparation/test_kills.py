"""Real kills of real processes at random moments of `prepare`."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu
from tests.preparation.test_together import content

KILLS = int(os.environ.get("SHITU_KILLS", "24"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_kills(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", classes=12, per_class=8)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    shutil.copytree(tmp_path / "ws", tmp_path / "before")
    old = content(tmp_path / "ws")
    make_images(tmp_path / "data", classes=24, per_class=8, seed=1)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    new = content(tmp_path / "ws")
    command = [sys.executable, "-m", "shitu_cli", "-w", "ws", "prepare", "data"]
    start = time.monotonic()
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    whole = time.monotonic() - start
    rng, outcomes = random.Random(0), Counter[str]()
    for number in range(KILLS):
        shutil.rmtree(tmp_path / "ws")
        shutil.copytree(tmp_path / "before", tmp_path / "ws")
        # Half of them in the last third, in which the files are written.
        wait = rng.uniform(0, whole) if number % 2 else rng.uniform(0.6, 1.05) * whole
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(wait)
            process.kill()
        assert shitu("-w", "ws", cwd=tmp_path).returncode == 0
        left = content(tmp_path / "ws")
        assert left in (old, new), f"kill {number} after {wait:.3f} s"
        outcomes["new" if left == new else "old"] += 1
    assert shitu("prepare", "data", "-w", "ws", cwd=tmp_path).returncode == 0
    left = content(tmp_path / "ws")
    record = "lists/prepared_with.json"  # names the lists that the run replaced, so it depends on the last kill
    assert {**left, record: None} == {**new, record: None}
    print(dict(outcomes))
