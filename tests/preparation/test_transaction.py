"""What `prepare` writes changes together or not at all, whenever it is killed, and readers never see a mix."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli import journal
from shitu_cli.errors import DataError, EnvironmentProblem, plain
from shitu_cli.journal import apply_committed, recover, transaction
from shitu_cli.preparation.last_options import PrepareOptions, complete_options
from shitu_cli.preparation.list_digests import LISTS, check_lists
from shitu_cli.workspace import Workspace
from tests.command import shitu
from tests.conftest import MakeImages
from tests.kills import Killed
from tests.mutations import at_least

FILES = (*(f"lists/{name}" for name in LISTS), "lists/prepared_with.json", "shitu.yaml", "reports/prepare.html")


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Kill at the `step`-th change of the file system from now on; the list counts the changes made."""
    count = [0]

    def watched(change: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if count[0] >= step:
                raise Killed
            count[0] += 1
            return change(*args, **options)

        return call

    for module, name in (
        (os, "replace"),
        (os, "rename"),
        (os, "unlink"),
        (os, "rmdir"),
        (os, "fsync"),
        (shutil, "rmtree"),
    ):
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return count


def content(root: Path) -> dict[str, bytes | None]:
    """What stands in the workspace, without what differs between two equal runs."""
    whole = {name: (root / name).read_bytes() if (root / name).exists() else None for name in FILES}
    return {
        name: data and re.sub(rb'<p class="note" id="about-page">.*?</p>', b"", data) for name, data in whole.items()
    }


@pytest.mark.fuzz
def test_a_kill_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, make_images: MakeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "data", classes=3)
    assert shitu("prepare", "data", "-w", "ws", cwd=tmp_path).returncode == 0
    shutil.copytree(tmp_path / "ws", tmp_path / "before")
    make_images(tmp_path / "data", classes=5, seed=1)
    again = ("prepare", "data", "-w", "ws", "--split", "none")
    assert shitu(*again, cwd=tmp_path).returncode == 0
    new = content(tmp_path / "ws")
    old = content(tmp_path / "before")
    assert old["lists/query_list.txt"] is not None and new["lists/query_list.txt"] is None
    outcomes = []
    for step in range(0, 200, 1 if at_least(0) else 3):
        shutil.rmtree(tmp_path / "ws")
        shutil.copytree(tmp_path / "before", tmp_path / "ws")
        with monkeypatch.context() as patch:
            kill_at(step, patch)
            try:
                ended = shitu(*again, cwd=tmp_path, check=False).returncode == 0
            except Killed:
                ended = False
        recover(Workspace(tmp_path / "ws"))
        left = content(tmp_path / "ws")
        assert left in (old, new), step
        outcomes.append(left == new)
        if ended:
            break
    assert ended and outcomes == sorted(outcomes) and outcomes.count(False) > 0 and outcomes.count(True) > 1
    assert shitu(*again, cwd=tmp_path).returncode == 0
    assert [path.name for path in (tmp_path / "ws/.shitu").glob("*staged*")] == []


def test_a_reader_finishes_what_a_dead_prepare_has_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = Workspace(tmp_path)
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(journal, "apply_committed", lambda space: None)
    with transaction(space) as change:
        change.path(tmp_path / "a").write_text("new")
        change.path(tmp_path / "sub/b").write_text("new")
    assert (tmp_path / "a").read_text() == "old"
    monkeypatch.undo()
    recover(space)
    assert (tmp_path / "a").read_text() == (tmp_path / "sub/b").read_text() == "new"
    assert not (tmp_path / ".shitu/pending").exists()


@pytest.mark.parametrize("in_the_way", ["a file instead of the folder", "a folder instead of the file"])
def test_what_has_no_place_is_not_committed(tmp_path: Path, in_the_way: str) -> None:
    space, target = Workspace(tmp_path), tmp_path / "reports/a.json"
    if in_the_way == "a file instead of the folder":
        target.parent.write_text("mine")
    else:
        target.mkdir(parents=True)
    with (
        pytest.raises(EnvironmentProblem, match=r"cannot write .*a\.json"),
        space.lock("prepare"),
        transaction(space) as change,
    ):
        change.path(tmp_path / "b").write_text("new")
        change.path(target).write_text("new")
    recover(space)
    assert not (tmp_path / "b").exists()


@pytest.mark.timeout(30)
def test_a_kill_while_the_journal_is_removed_stops_nobody(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    (tmp_path / ".shitu/pending").mkdir(parents=True)  # what `rmtree` leaves that has removed the plan
    recover(space)
    with space.lock("prepare"), transaction(space) as change:
        change.path(tmp_path / "a").write_text("new")
    assert (tmp_path / "a").read_text() == "new" and not (tmp_path / ".shitu/pending").exists()


def test_an_error_meanwhile_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), transaction(Workspace(tmp_path)) as change:
        change.path(tmp_path / "a").write_text("new")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old" and list((tmp_path / ".shitu").iterdir()) == []


def test_lists_of_two_runs_are_refused_with_the_command_that_repairs_them(
    tmp_path: Path, make_images: MakeImages
) -> None:
    make_images(tmp_path / "data", classes=3)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    gallery = (tmp_path / "ws/lists/gallery_list.txt").read_bytes()
    make_images(tmp_path / "data", classes=4, seed=1)
    shitu("prepare", "data", "-w", "ws", cwd=tmp_path)
    check_lists(Workspace(tmp_path / "ws"))
    (tmp_path / "ws/lists/gallery_list.txt").write_bytes(gallery)
    with pytest.raises(DataError, match=r"gallery_list.txt in .*lists is from an earlier run of prepare"):
        check_lists(Workspace(tmp_path / "ws"))
    for command in ([], ["evaluate"], ["train"], ["export"]):
        ran = shitu("-w", "ws", *command, cwd=tmp_path, check=False)
        assert ran.returncode == 3 and "earlier run of prepare" in ran.stderr and "shitu prepare" in ran.stderr, ran
    assert shitu("prepare", "data", "-w", "ws", cwd=tmp_path).returncode == 0
    # What the user changes by hand is the user's.
    (tmp_path / "ws/lists/gallery_list.txt").write_bytes(gallery + b"mine.jpg\t0\n")
    assert shitu("-w", "ws", cwd=tmp_path).returncode == 0


def test_the_record_of_a_prepare_still_gives_its_options(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    shitu("prepare", "data", "-w", "ws", "--split", "none", cwd=tmp_path)
    values = json.loads((tmp_path / "ws/lists/prepared_with.json").read_text())
    assert set(values["digests"]) == {"train_list.txt", "label_map.txt"} and values["before"] == {}
    assert "--split none" in shitu("prepare", "data", "-w", "ws", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    "plan",
    [
        *('{"../victim": null}', '{"lists/../../victim": "0"}', '{"lists/x": "../../../victim"}', '{"lists/x": 0}'),
        *('["lists/x"]', "5", "", "{", '{"lists/x\\u0000": null}', '{"lists/\\ud800": null}', "[" * 100_000),
    ],
)
def test_the_journal_of_a_stranger_changes_nothing_outside(tmp_path: Path, plan: str) -> None:
    (tmp_path / "victim").write_text("mine")
    pending = tmp_path / "ws/.shitu/pending"
    pending.mkdir(parents=True)
    (pending / "0").write_text("theirs")
    (pending / "plan.json").write_text(plan)
    with pytest.raises(EnvironmentProblem, match=r"plan\.json") as error:
        apply_committed(Workspace(tmp_path / "ws"))
    assert "prepare" in plain(error.value.hint or "") and (tmp_path / "victim").read_text() == "mine"
    (pending / "plan.json").write_text(json.dumps({str(tmp_path / "victim"): None}))
    with pytest.raises(EnvironmentProblem, match="not from this program"):
        apply_committed(Workspace(tmp_path / "ws"))
    assert (tmp_path / "victim").exists()


def test_a_damaged_record_of_a_prepare_is_named(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    for text in ("{", "5", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", '{"other": 1}', '{"seed": "1"}'):
        (tmp_path / "lists/prepared_with.json").write_text(text)
        with pytest.raises(DataError, match=r"prepared_with\.json"):
            complete_options(Workspace(tmp_path), [], PrepareOptions())


@pytest.mark.skipif(os.name == "nt", reason="permissions are POSIX's")
def test_files_that_change_together_keep_their_permissions(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    (tmp_path / "own").write_text("a")
    (tmp_path / "own").chmod(0o600)
    former = os.umask(0o022)
    try:
        with transaction(space) as change:
            for name in ("own", "new"):
                change.path(tmp_path / name).write_text("b")
    finally:
        os.umask(former)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("own", "new")}
    assert modes == {"own": 0o600, "new": 0o644} and (tmp_path / "own").read_text() == "b"


@pytest.mark.skipif(os.name == "nt", reason="no pipes by name")
def test_what_is_neither_folder_nor_file_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source, kind in (("pipe", "a pipe"), ("/dev/zero", "a device")):
        done = shitu("prepare", source, "-w", "ws", cwd=tmp_path, check=False)
        assert done.returncode == 2 and kind in done.stderr
