"""Folders and lists as people have them: what prepare makes of them, and what it says it leaves out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.test_mistakes import fails, snapshot
from tests.command import shitu
from tests.conftest import MakeImages


def listed(root: Path, name: str = "train") -> list[str]:
    return (root / f"lists/{name}_list.txt").read_text().splitlines()


def names(root: Path) -> list[str]:
    return [line.partition("\t")[2] for line in (root / "lists/label_map.txt").read_text().splitlines()]


def found(root: Path) -> dict[str, list[str]]:
    """Kind → places of what the last prepare has found."""
    problems = json.loads((root / "reports/prepare.json").read_text())["problems"]
    return {item["kind"]: [example["where"] for example in item["examples"]] for item in problems}


def test_folders_without_pictures_are_named(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    (tmp_path / "data/soon").mkdir()
    (tmp_path / "data/deep/er").mkdir(parents=True)
    (tmp_path / "data/notes").mkdir()
    (tmp_path / "data/notes/a.txt").write_text("x")
    done = shitu("prepare", "data", cwd=tmp_path)
    assert found(tmp_path) == {"no-images": ["data/deep", "data/notes", "data/soon"]}
    for text in ("warning: no-images", "data/notes  holds a.txt", "data/soon  empty", "a folder without any image"):
        assert text in done.stdout, done.stdout
    assert names(tmp_path) == ["class_000", "class_001", "class_002"]
    fails("prepare", "data", "--strict", cwd=tmp_path, code=3, says=("3 problems to fix first", "accept the warnings"))


def test_hidden_folders_and_dead_links_are_named(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=4)
    (tmp_path / "data/class_000").rename(tmp_path / "data/.class_000")
    (tmp_path / "data/class_001/._000.jpg").write_bytes(b"what macOS leaves")
    os.symlink("../nowhere", tmp_path / "data/again")
    os.symlink("..", tmp_path / "data/class_002/loop")
    os.symlink(made["class_003"][0].parent, tmp_path / "data/class_004")
    shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    told = found(tmp_path)
    assert told["hidden"] == ["data/.class_000"] and told["dead-link"] == ["data/again"]
    assert told["link-loop"] == ["data/class_002/loop"] and len(told["label-noise"]) == 4
    assert names(tmp_path) == ["class_001", "class_002", "class_003", "class_004"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.timeout(60)
def test_a_pipe_is_no_picture(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    os.mkfifo(tmp_path / "data/class_000/pipe.jpg")
    fails("prepare", "data", cwd=tmp_path, code=3, says=("unreadable", "it is a pipe, not a regular file"))


def test_nested_and_mixed_classes(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data/audi", classes=2)
    make_images(tmp_path / "data/bmw", classes=2, seed=1)
    (tmp_path / "data/bmw/class_000/000.jpg").rename(tmp_path / "data/bmw/000.JPG")
    (tmp_path / "data/bmw/class_000/001.jpg").rename(tmp_path / "data/stray.jpg")
    says = ("which level of folders is the class", "--depth 1", "--depth 2", "bmw/class_000")
    fails("prepare", "data", "--split", "none", cwd=tmp_path, code=2, says=says)
    shitu("prepare", "data", "--split", "none", "--depth", "2", cwd=tmp_path)
    whole = ["audi/class_000", "audi/class_001", "bmw", "bmw/class_000", "bmw/class_001"]
    assert names(tmp_path) == whole and "bmw/000.JPG\t2" in listed(tmp_path)
    assert found(tmp_path) == {"unlabelled": ["data/stray.jpg"], "singleton": ["bmw"]}


def test_a_class_called_train(tmp_path: Path, make_images: MakeImages) -> None:
    made = make_images(tmp_path / "data", classes=3)
    made["class_000"][0].parent.rename(tmp_path / "data/train")
    assert "read as class-tree" in shitu("prepare", "data", cwd=tmp_path).stdout
    assert names(tmp_path) == ["class_001", "class_002", "train"]


def test_what_lies_beside_the_splits_is_named(tmp_path: Path, make_images: MakeImages) -> None:
    for seed, split in enumerate(("Train", "Val")):
        make_images(tmp_path / "data" / split, classes=3, seed=seed)
    make_images(tmp_path / "data/extra", classes=2, seed=7)
    (tmp_path / "data/Val/class_000/000.jpg").rename(tmp_path / "data/alone.jpg")
    done = shitu("prepare", "data", cwd=tmp_path)
    assert found(tmp_path)["beside-splits"] == ["data/extra", "data/alone.jpg"]
    assert "data/extra  8 images" in done.stdout
    assert (len(listed(tmp_path)), len(listed(tmp_path, "query"))) == (12, 11)


def test_letters_encoded_in_two_ways_look_the_same(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=3)
    (tmp_path / "data/class_000").rename(tmp_path / "data/\u00e9mile")
    (tmp_path / "data/class_001").rename(tmp_path / "data/e\u0301mile")
    shitu("prepare", "data", cwd=tmp_path)
    assert "similar-labels" in found(tmp_path)


@pytest.fixture
def pictures(tmp_path: Path, make_images: MakeImages) -> list[tuple[str, int]]:
    """(path below data/, class) of three classes below data/img."""
    made = make_images(tmp_path / "data/img", classes=3)
    return [(f"img/{f.parent.name}/{f.name}", n) for n, files in enumerate(made.values()) for f in files]


@pytest.mark.parametrize(
    ("line", "first", "labels"),
    [
        ("{path}\t{n}\r\n", "", "012"),
        ("{path},{n}\n", "", "012"),
        ("{path} {n}.0\n", "", "012"),
        ("{windows}\t{n}\n", "\ufeff", "012"),
        ("{path} {n}\n", "path label\n", "012"),
        ("{path}\t{n}\n", "# mine\n\nimage\tlabel\n", "012"),
        ('"{path}";{n}\n', "", "012"),
        ("  {path}   {seven}  \n", "", ["0", "7", "14"]),
        ("{path}\tred wine {n}\n", "", ["red wine 0", "red wine 1", "red wine 2"]),
    ],
)
def test_ways_to_write_a_list(
    tmp_path: Path, pictures: list[tuple[str, int]], line: str, first: str, labels: list[str]
) -> None:
    rows = [line.format(path=p, windows=p.replace("/", "\\"), n=n, seven=7 * n) for p, n in pictures]
    (tmp_path / "data/train.txt").write_bytes((first + "".join(rows)).encode())
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert listed(tmp_path) == [f"{path}\t{n}" for path, n in pictures]
    assert names(tmp_path) == list(labels)
    assert ("labels are numbered from 0 without gaps: 7 → 1, 14 → 2" in done.stdout) == ("{seven}" in line)
    assert ("heading" in found(tmp_path)) == first.rstrip().endswith("label")


@pytest.mark.parametrize("before", ["{data}/", "../", "./", ""])
@pytest.mark.parametrize("source", ["data", "data/lists/train.txt", "elsewhere/mine.txt"])
def test_where_the_paths_of_a_list_count_from(
    tmp_path: Path, pictures: list[tuple[str, int]], before: str, source: str
) -> None:
    if source.startswith("elsewhere") and before != "{data}/":
        pytest.skip("nothing says where such pictures are")
    path = tmp_path / ("data/lists/train.txt" if source == "data" else source)
    path.parent.mkdir()
    start = before.format(data=tmp_path / "data")
    path.write_text("".join(f"{start}{p} {n}\n" for p, n in pictures))
    shitu("prepare", source, "--split", "none", "-w", "work", cwd=tmp_path)
    config = (tmp_path / "work/shitu.yaml").read_text()
    root = config.partition("image_root: ")[2].partition("\n")[0]
    assert [Path(root, line.partition("\t")[0]) for line in listed(tmp_path / "work")] == [
        tmp_path / "data" / p for p, _ in pictures
    ]


def test_lists_come_before_folders(tmp_path: Path, pictures: list[tuple[str, int]]) -> None:
    (tmp_path / "data/train.txt").write_text("".join(f"{n} {p}\n" for p, n in pictures))
    (tmp_path / "data/mine.txt").write_text("".join(f"{p} {n}\n" for p, n in pictures))
    (tmp_path / "data/readme.txt").write_text("see img/class_000/000.jpg 1\n")
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert names(tmp_path) == ["0", "1", "2"] and "train.txt (train): image = 1, class = 2" in done.stdout
    (tmp_path / "data/mine.txt").write_text("".join(f"{p} {n + 7}\n" for p, n in pictures))
    says = ("has two labels: which file counts?", "mine.txt:1: 7", "train.txt:1: 0", "shitu prepare data/mine.txt")
    fails("prepare", "data", "--split", "none", cwd=tmp_path, code=2, says=says)


def test_a_list_of_few_images_is_named_and_not_read(tmp_path: Path, pictures: list[tuple[str, int]]) -> None:
    (tmp_path / "data/blurry.txt").write_text("".join(f"{p} bad\n" for p, n in pictures[:3]))
    done = shitu("prepare", "data", cwd=tmp_path)
    assert found(tmp_path)["unread-list"] == ["data/blurry.txt"] and names(tmp_path)[0] == "class_000"
    assert "not used: blurry.txt (labels 3 of 12 images; name it to read it)" in done.stdout


def test_options_of_the_last_time_hold(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=4, per_class=6)
    shitu("prepare", "./data", "--split", "closed", "--seed", "3", "--share", "0.4", cwd=tmp_path)
    before = snapshot(tmp_path / "lists")
    done = shitu("prepare", "data/", cwd=tmp_path)
    assert (
        "as in the last run: --split closed --share 0.4 --seed 3" in done.stdout and "prepared_with.json" in done.stdout
    )
    assert snapshot(tmp_path / "lists") == before
    done = shitu("prepare", "data", "--split", "none", cwd=tmp_path)
    assert (
        "as in the last run: --share 0.4 --seed 3" in done.stdout and not (tmp_path / "lists/query_list.txt").exists()
    )
    assert "as in the last run: --split none" in shitu("prepare", "data", cwd=tmp_path).stdout
    assert not (tmp_path / "lists/query_list.txt").exists()
    shitu("prepare", "data", "--split", "auto", "--seed", "0", "--share", "0.2", cwd=tmp_path)
    assert len(listed(tmp_path, "query")) == 4
    make_images(tmp_path / "other", classes=4, seed=5)
    assert "as in the last run" not in shitu("prepare", "other", cwd=tmp_path).stdout


def test_how_a_table_is_read_holds_too(tmp_path: Path, pictures: list[tuple[str, int]]) -> None:
    (tmp_path / "data/t.csv").write_text("a,b\n" + "".join(f"{p},{n}\n" for p, n in pictures))
    columns = ("--columns", "image=a,label=b", "--image-root", "data")
    shitu("prepare", "data/t.csv", *columns, cwd=tmp_path)
    done = shitu("prepare", "data/t.csv", cwd=tmp_path)
    assert "as in the last run: --columns image=a,label=b --image-root" in done.stdout
    values = json.loads((tmp_path / "lists/prepared_with.json").read_text())
    assert {key: value for key, value in values.items() if key not in ("digests", "before")} == {
        "sources": ["./data/t.csv"],
        "columns": "image=a,label=b",
        "image_root": "./data",
    }
    (tmp_path / "lists/prepared_with.json").write_text('{"sources": 1, "splt": "none"}')
    fails("prepare", "data", cwd=tmp_path, code=3, says=("cannot read", "prepared_with.json", "remove it"))


def test_a_wrong_option_is_not_kept(tmp_path: Path, make_images: MakeImages) -> None:
    make_images(tmp_path / "data", classes=4)
    says = ("--split half: expected auto, open, closed or none",)
    fails("prepare", "data", "--split", "half", cwd=tmp_path, code=2, says=says)
    (tmp_path / "data/class_000/000.jpg").write_bytes(b"")
    says = ("shitu prepare data --fix", "--split none")
    fails("prepare", "data", "--split", "none", cwd=tmp_path, code=3, says=says)
    assert not (tmp_path / "lists").exists()
