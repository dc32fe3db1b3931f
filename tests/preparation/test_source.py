"""What lies in a source, and which image a list means."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from shitu_cli.preparation.formats.source import Match, Source, Tree, plain_path
from tests.preparation.test_formats import draw


def tree_of(root: Path, *images: str) -> Tree:
    for name in images:
        draw(root / name.replace("|", ".jpg|"))
    return Source(root).tree


@pytest.mark.parametrize(
    ("spelt", "near", "path", "how"),
    [
        ("a/1.jpg", "", "a/1.jpg", ""),
        ("1.jpg", "a", "a/1.jpg", ""),
        ("../b/2.jpg", "a", "b/2.jpg", ""),
        ("2.jpg", "", "b/2.jpg", "another folder"),
        ("/srv/shop/a/1.jpg", "", "a/1.jpg", "another folder"),
        (r"D:\shop\b\1.jpg", "", "b/1.jpg", "another folder"),
        ("https://shop.example/p/2.jpg?v=2", "", "b/2.jpg", "another folder"),
        ("2", "", "b/2.jpg", "without its suffix"),
        ("B/2.JPG", "", "b/2.jpg", "other letters"),
        ("cafe\u0301.jpg", "", "b/café.jpg", "another folder"),
    ],
)
def test_an_image_by_other_spellings(tmp_path: Path, spelt: str, near: str, path: str, how: str) -> None:
    tree = tree_of(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg", "b/café.jpg")
    found = tree.find(spelt, near)
    assert (found.path, found.how) == (path, how)


def test_two_images_of_one_name_are_both_named(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, "a/1.jpg", "b/1.jpg")
    assert tree.find("1.jpg") == Match(None, "several", ("a/1.jpg", "b/1.jpg"))
    assert tree.find("1.png") == Match(None, "", ("a/1.jpg", "b/1.jpg"))
    assert tree.find("3.jpg") == Match(None)
    assert tree.find("c/b/1.jpg").path == "b/1.jpg"


def test_the_folder_that_a_list_counts_from(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, *(f"train_images/{n}.jpg" for n in range(5)), "test_images/0.jpg")
    assert tree.home([f"{n}.jpg" for n in range(5)]) == ["train_images"]
    assert tree.home(["0"]) == ["test_images", "train_images"]
    assert tree.home(["7.jpg"]) == []
    assert tree.home([f"train_images/{n}.jpg" for n in range(5)]) == [""]
    assert tree.home([f"/srv/train_images/{n}.jpg" for n in range(5)]) == []


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    for name in ("b.jpg_large", "c.jpg?width=3", "9f86d081", "d.jpe"):
        (tmp_path / name).write_bytes(content)
    for name in ("LICENSE", "Makefile", "BMW notes", "e.txt"):
        (tmp_path / name).write_text("BM P6 text")
    (tmp_path / "film").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 20)
    (tmp_path / "phone").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 20)
    tree = Source(tmp_path).tree
    assert tree.images == ["9f86d081", "a.jpg", "b.jpg_large", "c.jpg?width=3", "d.jpe"]
    assert tree.files == ["BMW notes", "LICENSE", "Makefile", "e.txt", "film", "phone"]
    assert tree.problems.cases["other-format"].examples == [(str(tmp_path / "phone"), "")]


@pytest.mark.skipif(os.name == "nt", reason="needs links")
def test_links_and_depth_end(tmp_path: Path) -> None:
    draw(tmp_path / "a/1.jpg")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "a/up").symlink_to("..")
    deep = tmp_path / "/".join(["d"] * 130)
    deep.mkdir(parents=True)
    tree = Source(tmp_path).tree
    assert tree.images == ["a/1.jpg"]
    assert {kind: found.count for kind, found in tree.problems.cases.items()} == {
        "dead-link": 1,
        "link-loop": 1,
        "no-access": 1,
    }


def test_plain_paths() -> None:
    assert plain_path(' "a b.jpg" ') == "a b.jpg"
    assert plain_path("./a.jpg") == plain_path("/a.jpg") == plain_path("file:///a.jpg") == "a.jpg"
    assert unicodedata.is_normalized("NFC", plain_path("é"))
