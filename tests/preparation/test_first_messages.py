"""Messy folders as people have them: the first message is enough to go on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.preparation.formats import FORMATS
from tests.command import shitu
from tests.preparation.annotation_trees import write_json
from tests.preparation.test_layouts import many, table


def classes_in_names(root: Path) -> None:
    many(root, "{name} {i:03d}.jpg")


def dates_for_folders(root: Path) -> None:
    many(root, "{name}/{i}.jpg", names=("2024-01-01", "2024-01-02"))


def images_in_arrow(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    (root / "data/train-00000-of-00001.arrow").write_bytes(b"ARROW1")


def a_film(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "shelf.mp4").write_bytes(b"\0\0\0\x18ftypmp42")


CASES: list[tuple[Callable[[Path], None], tuple[str, ...]]] = [
    (classes_in_names, ("names hold the classes, such as apple", "labels.txt")),
    (dates_for_folders, ("folders are dates", "2024-01-01", "--depth 1")),
    (images_in_arrow, ("train-00000-of-00001.arrow", "holds the images themselves", "load_dataset('arrow'")),
    (a_film, ("shelf.mp4", "a video", "ffmpeg -i data/shelf.mp4 -vf fps=2")),
]


@pytest.mark.parametrize(("build", "says"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_the_first_message_says_how_to_go_on(
    build: Callable[[Path], None], says: tuple[str, ...], tmp_path: Path
) -> None:
    build(tmp_path / "data")
    done = shitu("prepare", "data", cwd=tmp_path, check=False)
    assert done.returncode == 3 and [word for word in says if word not in done.stderr] == [], done.stderr


def test_the_command_for_classes_in_names_makes_a_list_that_is_read(tmp_path: Path) -> None:
    classes_in_names(tmp_path / "data")
    said = shitu("prepare", "data", cwd=tmp_path, check=False).stderr
    command = re.search(r"make a list of them: (\(.*\)); then", said)
    assert command is not None
    subprocess.run(command[1], shell=True, check=True, cwd=tmp_path)
    shitu("prepare", "data/labels.txt", cwd=tmp_path)
    names = (tmp_path / "lists/label_map.txt").read_text().split()[1::2]
    assert sorted(names) == ["apple", "lemon", "pear", "plum"]


def test_two_columns_of_one_image_are_no_question(tmp_path: Path) -> None:
    right = many(tmp_path / "data", "img/{k}_{i}.jpg")
    rows = ((f"https://x.example/{p[4:]}", p[4:], n) for p, n in right.items())
    table(tmp_path / "data/items.csv", ("url", "file", "label"), *rows)
    assert "image = file, class = label" in shitu("prepare", "data", cwd=tmp_path).stdout


def test_objects_in_records_are_columns_of_their_own(tmp_path: Path) -> None:
    right = many(tmp_path / "data", "img/{k}_{i}.jpg")
    write_json(tmp_path / "data/items.json", [{"file": p[4:], "meta": {"brand": n}} for p, n in right.items()])
    done = shitu("prepare", "data", cwd=tmp_path)
    assert "class = meta.brand" in done.stdout and "heading" not in done.stdout
    assert "\tapple\n" in (tmp_path / "lists/label_map.txt").read_text()


def test_the_help_lists_every_protocol() -> None:
    told = " ".join(shitu("prepare", "--help", cwd=Path.cwd()).stdout.split())
    protocols = {protocol for known in FORMATS for protocol in known.protocols}
    assert len(protocols) == 8 and [word for word in protocols if word not in told] == []
