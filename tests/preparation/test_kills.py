"""Real kills at random moments of `prepare`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu
from tests.kills import Fork, Warm, kill_at_random, kills, warm  # noqa: F401
from tests.preparation.test_transaction import content

RECORD = "lists/prepared_with.json"  # names the lists that the run replaced, so it depends on the last kill


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_random_kills(tmp_path: Path, make_images: Callable[..., object], warm: Warm) -> None:  # noqa: F811
    make_images(tmp_path / "data", classes=4, per_class=4)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    shutil.copytree(tmp_path / "ws", tmp_path / "before")
    old = content(tmp_path / "ws")
    make_images(tmp_path / "data", classes=8, per_class=4, seed=1)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    new = content(tmp_path / "ws")

    def restore() -> None:
        shutil.rmtree(tmp_path / "ws")
        shutil.copytree(tmp_path / "before", tmp_path / "ws")

    def state() -> str:
        warm.shitu("-w", "ws", folder=tmp_path).succeeds()  # any command completes what a kill has interrupted
        left = content(tmp_path / "ws")
        if left == old:
            return "old"
        assert {**left, RECORD: None} == {**new, RECORD: None}
        return "new"

    def prepare(change: int | None) -> Fork:
        return warm.shitu("-w", "ws", "prepare", "data", folder=tmp_path, kill_before=change)

    kill_at_random("prepare", prepare, restore, state, trials=kills(24))
