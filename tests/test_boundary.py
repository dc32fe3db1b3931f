"""A workspace that a stranger packed: its links, pipes and forged journals reach nothing outside of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Result, shitu, shitu_process
from tests.conftest import MakeImages

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="links and pipes are POSIX's"), pytest.mark.timeout(120)]
TRAIN = ("train", "-o", "Arch.Backbone.name=PPLCNet_x0_25", "--epochs", "1", "--batch-size", "8")


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the user, with what this program would overwrite, move or delete if it got there."""
    folder = tmp_path_factory.mktemp("outside")
    for name in ("thesis.tex", "train_list.txt", "evaluate.html", "latest.pdparams", "001/photo.jpg", "f/x.npy"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def content(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Mode, time and bytes of all that is in a folder, and the folder itself."""
    paths = sorted([folder, *folder.rglob("*")])
    states = {path: path.stat() for path in paths}
    return {
        str(path): (state.st_mode, state.st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path, state in states.items()
    }


def replace(path: Path, target: Path) -> None:
    """Put a link to `target` in the place of `path`, which is kept beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.rename(path.with_name(f"{path.name}.before"))
    path.symlink_to(target)


def put(path: Path, kind: str, target: Path) -> None:
    """Put a link to `target`, or a pipe, where a file is to be."""
    path.parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(target)


def journal(space: Path, plan: dict[str, str | None], staged: Callable[[Path], object]) -> None:
    pending = space / ".shitu/pending"
    pending.mkdir(parents=True)
    staged(pending / "0")
    (pending / "plan.json").write_text(json.dumps(plan))
    (space / "shitu.yaml").touch()


def write(path: Path) -> None:
    path.write_text("theirs")


def refused(*command: str, space: Path, says: str = "is a link out of the workspace") -> Result[str]:
    """Run a command that has to end with exit code 5 and this text, and return it."""
    done = shitu(*command, cwd=space, check=False)
    assert done.returncode == 5 and says in done.stderr, (command, done)
    return done


@pytest.mark.parametrize(("name", "staged"), [("thesis.tex", "0"), ("thesis.tex", None), ("new/key", "0")])
def test_a_forged_journal_follows_no_link(tmp_path: Path, outside: Path, name: str, staged: str | None) -> None:
    journal(tmp_path, {"own.txt": "0", f"lists/{name}": staged}, write)
    (tmp_path / "data").mkdir()
    (tmp_path / "lists").symlink_to(outside)
    before = content(outside)
    for command in ([], ["train"], ["prepare", "data"]):
        done = refused(*command, space=tmp_path)
        assert f"export SHITU_LINKS={outside}" in done.stderr
    assert content(outside) == before and not (tmp_path / "own.txt").exists()


@pytest.mark.parametrize("where", [".shitu", ".shitu/pending"])
def test_a_journal_elsewhere_is_none(tmp_path: Path, outside: Path, where: str) -> None:
    journal(outside, {"thesis.tex": "0"}, write)
    (tmp_path / "shitu.yaml").touch()
    (tmp_path / where).parent.mkdir(exist_ok=True)
    (tmp_path / where).symlink_to(outside / where)
    before = content(outside)
    refused(space=tmp_path, says="link out of" if where == ".shitu" else "is not from this program")
    assert content(outside) == before


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_staged_is_a_regular_file(tmp_path: Path, outside: Path, kind: str) -> None:
    kinds: dict[str, Callable[[Path], object]] = {"pipe": os.mkfifo, "folder": Path.mkdir}
    kinds["link"] = lambda path: path.symlink_to(outside / "thesis.tex")
    journal(tmp_path, {"wide.txt": "0"}, kinds[kind])
    (tmp_path / "wide.txt").touch()
    (tmp_path / "wide.txt").chmod(0o777)  # the permissions that the staged file would get
    before = content(outside)
    refused(space=tmp_path, says="is not from this program")
    assert content(outside) == before and (tmp_path / "wide.txt").read_bytes() == b""


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_a_journal_does_not_replace_the_workspace(tmp_path: Path, name: str) -> None:
    (tmp_path / "ws").mkdir()
    journal(tmp_path / "ws", {name: "0"}, write)
    before = tmp_path.stat().st_mtime_ns
    refused(space=tmp_path / "ws", says="is not from this program")
    assert tmp_path.stat().st_mtime_ns == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["link", "dead link", "pipe"])
def test_locks_are_regular_files(workspace: Path, outside: Path, kind: str) -> None:
    commands = {"train": TRAIN, "prepare": ("prepare", "data"), "index": ("index", "build")}
    before = content(outside)
    for name, command in commands.items():
        lock = workspace / f".shitu/{name}.lock"
        lock.unlink(missing_ok=True)
        put(lock, kind, outside / ("thesis.tex" if kind == "link" else "new"))
        refused(*command, space=workspace, says=f"{lock}: it is a {kind.split()[-1]}, not a regular file")
        lock.unlink()
    assert content(outside) == before


# What a link is put in the place of → where it leads, and the commands that would write there.
LINKS = {
    "lists": (".", [("prepare", "data")]),
    "lists/train_list.txt": ("thesis.tex", [("prepare", "data")]),
    "shitu.yaml": ("copy", [("prepare", "data", "--split", "none")]),
    "reports": (".", [("prepare", "data"), ("evaluate",)]),
    "reports/evaluate.html": ("thesis.tex", [("evaluate",)]),
    "output": (".", [TRAIN]),
    "output/checkpoints": (".", [TRAIN]),
    "output/earlier": (".", [TRAIN, (*TRAIN, "--keep-earlier", "0")]),
    "output/config.yaml": ("copy", [(*TRAIN, "--resume")]),
    "inference": ("empty", [("export", "--format", "pdmodel")]),
    "index": (".", [("index", "build")]),
    ".shitu": (".", [("prepare", "data"), TRAIN, ("evaluate",), ("index", "build")]),
    "features.npy": ("thesis.tex", [("extract", "data", "--out", "features.npy")]),
    ".features.npy.part": (".", [("extract", "data", "--out", "features.npy")]),
}


@pytest.mark.parametrize("name", LINKS)
def test_no_command_writes_through_a_link(trained_workspace: Path, outside: Path, name: str) -> None:
    target, commands = LINKS[name]
    (outside / "empty").mkdir()
    if target == "copy":
        (outside / target).write_bytes((trained_workspace / name).read_bytes())
    replace(trained_workspace / name, outside / target)
    before = content(outside)
    for command in commands:
        refused(*command, space=trained_workspace)
    assert content(outside) == before
    assert (trained_workspace / name).is_symlink()


def test_an_earlier_run_is_not_fetched_through_a_link(trained_workspace: Path, outside: Path) -> None:
    earlier = trained_workspace / "output/earlier"
    earlier.mkdir()
    (earlier / "001.moving").symlink_to(outside)
    for save in (trained_workspace / "output/checkpoints").iterdir():
        save.unlink()
    before = content(outside)
    shitu(*TRAIN, cwd=trained_workspace, check=False)
    assert content(outside) == before


@pytest.mark.parametrize("where", [".shitu/cache", ".shitu/cache/features"])
def test_nothing_is_kept_or_removed_in_a_cache_elsewhere(
    trained_workspace: Path, outside: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shitu_cli.features import cache

    monkeypatch.setattr(cache.FeatureCache.__init__, "__kwdefaults__", {"limit": 0})
    (outside / "features").symlink_to(outside / "f")
    replace(trained_workspace / where, outside if where.endswith("cache") else outside / "f")
    before = content(outside)
    shitu("evaluate", cwd=trained_workspace)  # it only computes the features again
    assert content(outside) == before


@pytest.mark.timeout(60)
def test_cached_features_are_regular_files(trained_workspace: Path, outside: Path) -> None:
    shitu("evaluate", cwd=trained_workspace)
    kept = list((trained_workspace / ".shitu/cache/features").glob("*.npy"))
    assert len(kept) > 1
    for number, path in enumerate(kept):
        path.rename(outside / path.name)
        if number:
            path.symlink_to(outside / path.name)
        else:
            os.mkfifo(path)
    before = content(outside)
    assert "from the cache" not in shitu("evaluate", cwd=trained_workspace, check=False).stdout
    assert content(outside) == before


@pytest.mark.timeout(60)
def test_what_prepare_remembers_of_images_is_no_link(workspace: Path, outside: Path, make_images: MakeImages) -> None:
    cache = workspace / ".shitu/cache/images.bin"
    (outside / "images.bin").write_bytes(cache.read_bytes())
    replace(cache, outside / "images.bin")
    make_images(workspace / "data", classes=7, per_class=8)
    before = content(outside)
    shitu("prepare", "data", cwd=workspace, check=False)
    assert content(outside) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["train.log", "metrics.jsonl"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_logs_are_regular_files(workspace: Path, outside: Path, name: str, kind: str) -> None:
    log = workspace / "output" / name
    put(log, kind, outside / "thesis.tex")
    before = content(outside)
    refused(*TRAIN, space=workspace, says=f"cannot write {log}: it is a {kind}, not a regular file")
    assert content(outside) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_the_output_of_other_processes_goes_to_a_regular_file(workspace: Path, outside: Path, kind: str) -> None:
    file = workspace / "output/rank1.out"
    put(file, kind, outside / "thesis.tex")
    before = content(outside)
    done = shitu_process(*TRAIN, "--devices", "cpu:2", cwd=workspace, check=False)
    assert done.returncode == 5 and f"{file}: it is a {kind}" in done.stderr
    assert content(outside) == before


def test_a_command_that_is_told_where_everything_is_stays_inside_too(trained_workspace: Path, outside: Path) -> None:
    shitu("index", "build", cwd=trained_workspace)
    (outside / "empty").mkdir()
    replace(trained_workspace / "exported", outside / "empty")
    refused("index", "export", "exported", "--index", "index", space=trained_workspace)
    assert not list((outside / "empty").iterdir())


@pytest.mark.parametrize("name", ["g.db", "g.db/LOCK", "g.db/f/0.parquet"])
def test_an_index_in_a_local_file_of_milvus_stays_inside(workspace: Path, outside: Path, name: str) -> None:
    """Even showing it would write there."""
    (workspace / "g.db").mkdir()
    (workspace / "g.db/LOCK").touch()
    (outside / "LOCK").touch()
    replace(workspace / name, outside if name == "g.db" else outside / "thesis.tex")
    before = content(outside)
    refused("index", "show", "--store", "milvus:g.db", space=workspace)
    assert content(outside) == before


def test_a_link_that_the_user_allows_is_followed_and_stays(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    for name in ("lists", "reports"):
        (tmp_path / f"disk/{name}").mkdir(parents=True)
        (tmp_path / "ws").mkdir(exist_ok=True)
        (tmp_path / "ws" / name).symlink_to(tmp_path / f"disk/{name}")
    command = ("prepare", "data", "-w", "ws")
    refused(*command, space=tmp_path)
    allowed = {"SHITU_LINKS": f"{tmp_path}/other:{tmp_path}/disk"}
    shitu(*command, cwd=tmp_path, env=allowed)
    assert (tmp_path / "ws/lists").is_symlink() and (tmp_path / "disk/lists/train_list.txt").is_file()
    # A prepare that was killed is completed there too.
    journal(tmp_path / "ws", {"lists/note.txt": "0"}, write)
    refused("-w", "ws", space=tmp_path)
    shitu("-w", "ws", cwd=tmp_path, env=allowed)
    assert (tmp_path / "disk/lists/note.txt").read_text() == "theirs"


def test_links_within_the_workspace_are_followed(workspace: Path) -> None:
    (workspace / "reports").rename(workspace / "pages")
    (workspace / "reports").symlink_to("pages")
    (workspace / "other").symlink_to(workspace.parent)  # leads out, and in again
    (workspace / "pages/prepare.html").unlink()
    shitu("prepare", "data", cwd=workspace)
    assert (workspace / "reports").is_symlink() and (workspace / "pages/prepare.html").is_file()


def test_links_that_form_a_loop_are_named(workspace: Path) -> None:
    replace(workspace / "reports", Path("reports"))
    refused("prepare", "data", space=workspace, says="its links form a loop")
