"""`prepare --pack`: shards with the same bytes each time, whole or not, and lists that name their members."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from shitu_cli.data.lists import class_names, read_list
from shitu_cli.errors import DataError
from shitu_cli.preparation import packing
from shitu_cli.stores import read_image
from tests.command import shitu
from tests.stores.samples import images, write_folder

CONTENT = images(6)


def listed(workspace: Path, root: Path, name: str = "train") -> list[tuple[bytes, str]]:
    path = workspace / f"lists/{name}_list.txt"
    part, names = read_list(path), class_names(path)
    return [(read_image(part.location(n, root)), names[int(part.labels[n])]) for n in range(len(part))]


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}


def test_packed_lists_hold_the_same_images_and_labels(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {**CONTENT, "plum/a.b.c.JPG": CONTENT["plum/0.jpg"] + b"\n", "plum/a.b.jpg": b"?"})
    shitu("-w", "plain", "prepare", "data", "--fix", cwd=tmp_path)
    shitu("-w", "packed", "prepare", "data", "--fix", "--pack", "shards", "--pack-size", "1", cwd=tmp_path)
    for name in ("train", "query", "gallery"):
        assert listed(tmp_path / "packed", tmp_path / "shards", name) == listed(
            tmp_path / "plain", tmp_path / "data", name
        )
    assert (tmp_path / "packed/lists/label_map.txt").read_bytes() == (tmp_path / "shards/label_map.txt").read_bytes()
    assert "image_root: ../shards" in (tmp_path / "packed/shitu.yaml").read_text().replace(str(tmp_path), "..")
    assert list(shards(tmp_path / "shards")) == ["eval-000000.tar", "train-000000.tar"]
    with tarfile.open(tmp_path / "shards/train-000000.tar") as archive:
        members = archive.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.mode) for m in members} == {(0, 0, 0, 0o644)}
    assert any(m.name == "plum/a_b_c.jpg" for m in members), "the key ends at the first dot"


def test_packed_shards_are_read_again_with_their_split_and_names(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", CONTENT)
    shitu("-w", "packed", "prepare", "data", "--pack", "shards", cwd=tmp_path)
    shitu("-w", "again", "prepare", "shards", cwd=tmp_path)
    for name in ("train", "query"):
        first = listed(tmp_path / "packed", tmp_path / "shards", name)
        assert sorted(listed(tmp_path / "again", tmp_path / "shards", name)) == sorted(first)


def test_the_same_bytes_each_time_and_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu_cli.steps.prepare.MIB", 4000)
    write_folder(tmp_path / "data", CONTENT)
    words = ("prepare", "data", "--pack-size", "3")
    shitu("-w", "a", *words, "--pack", "one", cwd=tmp_path)
    before = shards(tmp_path / "one")
    assert len(before) > 3
    shitu("-w", "b", *words, "--pack", "two", cwd=tmp_path)
    assert shards(tmp_path / "two") == before
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "one").glob("*.tar")}
    (tmp_path / "one/train-000001.tar").unlink()
    (tmp_path / "one/train-000002.tar").write_bytes(b"cut off")
    shown = shitu("-w", "a", *words, "--pack", "one", cwd=tmp_path).stdout
    assert f"{len(before) - 2} shards already exist in one" in shown and shards(tmp_path / "one") == before
    kept = {path.name for path in (tmp_path / "one").glob("*.tar") if path.stat().st_mtime_ns == times[path.name]}
    assert kept == before.keys() - {"train-000001.tar", "train-000002.tar"}
    shitu("-w", "a", "prepare", "data", "--pack", "one", cwd=tmp_path)
    assert list(shards(tmp_path / "one")) == ["eval-000000.tar", "train-000000.tar"], "what is no part of it goes"


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shitu_cli.steps.prepare.MIB", 4000)
    write_folder(tmp_path / "data", CONTENT)
    write, count = packing._write, 0

    def interrupted(path: Path, some: list[packing._Image]) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        write(path, some)

    monkeypatch.setattr(packing, "_write", interrupted)
    words = ("-w", "ws", "prepare", "data", "--pack", "out", "--pack-size", "3")
    assert shitu(*words, cwd=tmp_path, check=False).returncode != 0
    assert not (tmp_path / "ws/lists/train_list.txt").exists() and len(shards(tmp_path / "out")) == 2
    assert "2 shards already exist in out" in shitu(*words, cwd=tmp_path).stdout
    record = json.loads((tmp_path / "out/pack.json").read_text())["shards"]
    assert record.keys() == shards(tmp_path / "out").keys()


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", CONTENT)
    write_folder(tmp_path / "mine", {"notes.txt": b"mine"})
    for folder, word in (
        ("mine", "holds something else"),
        ("data/shards", "is among the images"),
        ("data", "is among"),
    ):
        done = shitu("-w", "ws", "prepare", "data", "--pack", folder, cwd=tmp_path, check=False)
        assert done.returncode == 2 and word in done.stderr, done.stderr
    assert (tmp_path / "mine/notes.txt").read_bytes() == b"mine"


def test_a_full_disk_and_a_changed_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "data", CONTENT)
    usage = type("Usage", (), {"free": 100})
    with monkeypatch.context() as patch:
        patch.setattr(packing.shutil, "disk_usage", lambda path: usage)
        done = shitu("-w", "ws", "prepare", "data", "--pack", "out", cwd=tmp_path, check=False)
    assert done.returncode == 5 and "packing needs about" in done.stderr and not (tmp_path / "out").exists()
    image = packing._Image("a", str(tmp_path / "data/kiwi/0.jpg"), "a.jpg", b"another", 1, 0)
    with pytest.raises(DataError, match="has changed since it was checked"):
        packing._write(tmp_path / "a.tar", [image])
    assert not (tmp_path / "a.tar").exists()


def test_images_are_not_packed_over_themselves(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", CONTENT)
    shitu("-w", "packed", "prepare", "data", "--pack", "data/shards/packed", cwd=tmp_path, check=False)
    shitu("-w", "packed", "prepare", "data", "--pack", "shards", cwd=tmp_path)
    before = shards(tmp_path / "shards")
    lines = (tmp_path / "packed/lists/train_list.txt").read_text().splitlines()[:6]
    (tmp_path / "some.txt").write_text("".join(f"shards/{line}\n" for line in lines))
    done = shitu("-w", "again", "prepare", "some.txt", "--pack", "shards", cwd=tmp_path, check=False)
    assert done.returncode != 0 and "name a folder elsewhere" in done.stderr
    assert shards(tmp_path / "shards") == before
