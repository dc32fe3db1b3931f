"""Checkpoints alone: their files are independent of each other, and a save that fails anywhere costs nothing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import EnvironmentProblem, ShituError
from shitu_cli.training import checkpoint as checkpoints
from shitu_cli.training import save_files
from shitu_cli.training.checkpoint import BEST, LATEST, Checkpoint, load_checkpoint, save_checkpoint, saves_in
from shitu_cli.training.earlier import drop_copies, drop_models, set_aside, settle
from shitu_cli.training.history import read_histories
from shitu_cli.training.loop_state import LoopState
from shitu_cli.workspace import earlier_models
from tests.kills import Killed

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
    real = save_files._copy
    for failing in range(8):
        done: list[Path] = []

        def copy(source: Path, destination: Path, failing: int = failing, done: list[Path] = done) -> None:
            real(source, destination)
            done.append(destination)
            if len(done) > failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(destination))

        monkeypatch.setattr(save_files, "_copy", copy)
        with pytest.raises(EnvironmentProblem, match=r"cannot write .*No space left") as caught:
            save_checkpoint(tmp_path, [LATEST, BEST], made(2))
        assert caught.value.hint is not None and "shitu train --resume" in caught.value.hint
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.setattr(save_files, "_copy", real)
    save_checkpoint(tmp_path, [LATEST], made(2))
    assert epoch_of(tmp_path / LATEST) == 2 and epoch_of(tmp_path / BEST) == 1


def test_a_kill_between_any_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is then one whole save, the one before or the new one, and the best one is not behind the latest."""
    real = os.replace

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


def test_a_kill_while_an_earlier_run_makes_room_loses_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before every single rename of a new run's first save, then started again."""

    real, outcomes = os.replace, set()
    for moment in range(1, 100):
        output, left = tmp_path / str(moment), moment
        save_checkpoint(output, [LATEST, BEST], made(1), keep=2)
        save_checkpoint(output, [LATEST], made(2), keep=2)
        (output / "config.yaml").write_text("the old run's")

        def counted(source: object, target: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed
            real(source, target)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "replace", counted)
        try:
            save_checkpoint(output, [LATEST], made(9), before_switch=lambda new, output=output: set_aside(output, new))
            ended = True
        except Killed:
            ended = False
        monkeypatch.setattr(os, "replace", real)
        settle(output)
        newest = epoch_of(output / LATEST)
        old = output if newest == 2 else output / "earlier/001"
        assert (epoch_of(old / LATEST), epoch_of(old / BEST)) == (2, 1)
        assert (old / "config.yaml").read_text() == "the old run's"
        assert newest == 2 or not (output / "best_model.pdparams").exists()
        assert not list(output.glob("earlier/*.moving"))
        outcomes.add(newest)
        if ended:
            break
    assert outcomes == {2, 9} and moment > 15


def test_an_earlier_run_that_cannot_be_moved_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path, [LATEST, BEST], made(1))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    real = os.replace

    def refuse(source: Path, target: Path) -> None:
        if "best_model.pdopt" in str(source) and ".moving" in str(target):
            raise OSError(errno.EACCES, "Permission denied")
        real(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(EnvironmentProblem, match="cannot move the earlier run"):
        save_checkpoint(tmp_path, [LATEST], made(9), before_switch=lambda new: set_aside(tmp_path, new))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


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


def values_in(header: object, path: tuple = ()) -> list[tuple]:
    """The places of all values of nested JSON."""
    inner = header.items() if isinstance(header, dict) else enumerate(header) if isinstance(header, list) else ()
    return [place for key, value in inner for place in ((*path, key), *values_in(value, (*path, key)))]


def test_a_header_that_somebody_has_forged_is_an_error_of_data(tmp_path: Path) -> None:
    """Every value of it replaced by values of other types, with the checksum put right."""
    save_checkpoint(tmp_path, [LATEST], made(1))
    shutil.rmtree(tmp_path / "checkpoints")
    file = tmp_path / "latest.pdstates"
    whole = json.loads(file.read_text())
    for place in [place for place in values_in(whole) if place != ("sha256",)]:
        for value in (None, "text", -3, [], {}, {"../../x": {"sha256": "", "bytes": 1}}, 1e400):
            header = json.loads(json.dumps(whole))
            inner = header
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            header["sha256"] = checkpoints._header_hash(header)
            file.write_text(json.dumps(header))
            with contextlib.suppress(ShituError):  # any other exception fails the test
                load_checkpoint(tmp_path / LATEST)
            read_histories(tmp_path)
