"""Checkpoints alone: their files are independent of each other, and a save that fails anywhere costs nothing."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem
from shitu_cli.training import checkpoint as checkpoints
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint, load_checkpoint, save_checkpoint, saves_in
from shitu_cli.training.earlier import bring_back, drop_copies, drop_models, set_aside
from shitu_cli.training.loop_state import LoopState
from shitu_cli.workspace import earlier_models

PARTS = ("pdparams", "pdopt", "pdtrain", "pdstates")


def made(epoch: int) -> Checkpoint:
    values = np.full((50, 40), epoch, np.float32)
    return Checkpoint(
        weights={"w": values},
        optimizer={"velocity": values + 0.5},
        training={"loss.centers": values + 0.25},
        state=LoopState(epoch=epoch, best_score=epoch / 10),
        run={"samples": 3},
    )


def epoch_of(prefix: Path) -> int:
    loaded = load_checkpoint(prefix)
    assert loaded.weights["w"][0, 0] == loaded.state.epoch
    return loaded.state.epoch


@pytest.mark.parametrize("part", PARTS)
def test_writing_over_a_visible_file_costs_no_generation(tmp_path: Path, part: str) -> None:
    save_checkpoint(tmp_path, [LATEST, BEST], made(1))
    with (tmp_path / f"{LATEST}.{part}").open("r+b") as file:
        file.write(b"something else")
    loaded = load_checkpoint(tmp_path / LATEST)
    assert loaded.state.epoch == 1 and loaded.weights["w"][0, 0] == 1
    assert len(loaded.notes) == 1 and f"latest.{part}" in loaded.notes[0] and "continuing from" in loaded.notes[0]
    assert load_checkpoint(tmp_path / BEST).notes == []


def test_a_damaged_generation_costs_no_visible_file(tmp_path: Path) -> None:
    generation = save_checkpoint(tmp_path, [LATEST, BEST], made(1))
    for part in PARTS:
        with generation.with_name(f"{generation.name}.{part}").open("r+b") as file:
            file.write(b"something else")
    for name in (LATEST, BEST):
        assert epoch_of(tmp_path / name) == 1 and load_checkpoint(tmp_path / name).notes == []


def test_a_disk_that_fills_up_while_copying_keeps_all_that_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each of the eight copies of a save: it fails, and both names and the directory stay as they were."""
    save_checkpoint(tmp_path, [LATEST, BEST], made(1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real = checkpoints._copy
    for failing in range(8):
        done: list[Path] = []

        def copy(source: Path, destination: Path, failing: int = failing, done: list[Path] = done) -> None:
            real(source, destination)
            done.append(destination)
            if len(done) > failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination))

        monkeypatch.setattr(checkpoints, "_copy", copy)
        with pytest.raises(EnvironmentProblem, match=r"cannot write .*No space left") as caught:
            save_checkpoint(tmp_path, [LATEST, BEST], made(2))
        assert caught.value.hint is not None and "shitu train --resume" in caught.value.hint
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(checkpoints, "_copy", real)
    save_checkpoint(tmp_path, [LATEST], made(2))
    assert epoch_of(tmp_path / LATEST) == 2 and epoch_of(tmp_path / BEST) == 1


def test_a_kill_between_any_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is then one whole save, the one before or the new one, and the best one is not behind the latest."""
    real = os.replace

    class Killed(BaseException):
        pass

    for last in range(12):  # the parts of the generation, and those behind two names
        output = tmp_path / str(last)
        save_checkpoint(output, [LATEST, BEST], made(1))
        renames = []

        def replace(
            source: str | Path, target: str | Path, renames: list[str | Path] = renames, last: int = last
        ) -> None:
            if len(renames) == last:
                raise Killed
            renames.append(target)
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(Killed):
            save_checkpoint(output, [LATEST, BEST], made(2))
        monkeypatch.setattr(os, "replace", real)
        latest, best = epoch_of(output / LATEST), epoch_of(output / BEST)
        assert (latest, best) in ([(1, 1)] if last < 4 else [(1, 1), (1, 2), (2, 2)])
        save_checkpoint(output, [LATEST, BEST], made(3))
        assert (epoch_of(output / LATEST), epoch_of(output / BEST)) == (3, 3)
        assert not list(output.glob(".*.switch"))


def test_the_directory_holds_the_copies_and_what_keep_says(tmp_path: Path) -> None:
    def saves() -> list[str]:
        return sorted(p.stem for p in (tmp_path / "checkpoints").glob("*.pdstates"))

    save_checkpoint(tmp_path, [LATEST, BEST], made(1))
    for epoch in (2, 3, 4):
        save_checkpoint(tmp_path, [LATEST], made(epoch))
    assert [name.partition("_epoch")[0] for name in saves()] == ["save_000001", "save_000004"]
    save_checkpoint(tmp_path, [LATEST], made(5), keep=3)
    assert len(saves()) == 3  # the newest two that are left, and the best one
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.stat().st_nlink == 1 for path in files)
    assert len(files) == 4 * (2 + 3)


def test_an_earlier_run_comes_back_whole(tmp_path: Path) -> None:
    for name in ("latest.pdparams", "best_model.pdparams", "checkpoints/save_000001_epoch_1_step_2.pdparams"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    before = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    folder = set_aside(tmp_path)
    assert folder is not None and not (tmp_path / "latest.pdparams").exists()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/save_000002_epoch_1_step_1.pdparams").write_text("half")
    bring_back(folder, tmp_path)
    assert {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_earlier_models_hold_every_save_once(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [LATEST, BEST], made(1), keep=3)
    save_checkpoint(tmp_path, [LATEST], made(2), keep=3)
    save_checkpoint(tmp_path, [LATEST], made(3), keep=3)
    folder = set_aside(tmp_path)
    assert folder is not None and len(saves_in(folder / "checkpoints")) == 3
    drop_copies(folder)
    assert [load_checkpoint(folder / name).state.epoch for name in (BEST, LATEST)] == [1, 3]
    assert [load_checkpoint(save).state.epoch for save in saves_in(folder / "checkpoints")] == [2]


def test_a_save_whose_visible_copy_is_damaged_stays(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, [LATEST], made(1))
    folder = set_aside(tmp_path)
    assert folder is not None
    (folder / "latest.pdparams").write_bytes(b"damaged")
    drop_copies(folder)
    assert load_checkpoint(folder / LATEST).state.epoch == 1


def test_only_so_many_earlier_models_are_kept(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        save_checkpoint(tmp_path, [LATEST], made(epoch))
        set_aside(tmp_path)
    assert [path.name for path in drop_models(tmp_path, 2)] == ["001", "002"]
    assert [load_checkpoint(path / LATEST).state.epoch for path in earlier_models(tmp_path)] == [3, 4]
    assert not drop_models(tmp_path, 2) and len(drop_models(tmp_path, 0)) == 2
