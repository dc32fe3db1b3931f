"""Which pictures a command line means, and under which labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.sources import ImageFiles, find_images
from shitu_cli.steps.prepare import prepare
from tests.preparation.test_layouts import many, table


def test_the_label_is_the_folder_that_a_picture_lies_in(
    tmp_path: Path, make_images: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "data/sub", classes=2, per_class=1)
    folder = tmp_path / "data/sub/class_000"
    assert find_images([str(tmp_path / "data")]).labels == ["class_000", "class_001"]
    assert find_images([str(tmp_path / "data/sub"), f"{folder}/"]).labels == ["class_000", "class_001", "class_000"]
    monkeypatch.chdir(folder)
    assert find_images(["."]).labels == ["class_000"]
    monkeypatch.chdir(tmp_path)
    assert find_images(["data"]).labels == ["class_000", "class_001"]


def test_the_label_is_the_same_however_the_path_is_spelled(
    tmp_path: Path, make_images: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "data", classes=2, per_class=2)
    folder = tmp_path / "data/class_000"
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    spellings = ["data/class_000", "data/class_000/", "./data//class_000", "data/class_001/../class_000", str(folder)]
    spellings += [
        "data/class_000/*.jpg",
        f"{folder}/*.jpg",
        f"{folder}/000.jpg",
        "data/class_000/001.jpg",
        "data/*_000",
    ]
    for spelling in spellings:
        assert set(find_images([spelling]).labels) == {"class_000"}, spelling
    assert sorted(set(find_images(["data/*"]).labels)) == ["class_000", "class_001"]
    assert sorted(set(find_images(["data/**/*.jpg"]).labels)) == ["class_000", "class_001"]
    assert set(find_images(["link", "link/000.jpg"]).labels) == {"link"}
    monkeypatch.chdir(folder)
    for spelling in (".", "./", "*.jpg", "000.jpg", "./001.jpg", "../class_000"):
        assert set(find_images([spelling]).labels) == {"class_000"}, spelling
    assert set(find_images([".", "*.jpg", str(folder)], folder_labels=False).labels) == {""}


def test_a_workspace_and_a_home_directory_are_no_class(
    tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_images(tmp_path, classes=1, per_class=1)["class_000"][0]
    monkeypatch.chdir(image.parent)
    (image.parent / "shitu.yaml").write_text("")
    assert find_images([".", "000.jpg"]).labels == ["", ""]
    (image.parent / "shitu.yaml").unlink()
    monkeypatch.setenv("HOME", str(image.parent))
    assert find_images([str(image.parent), "*.jpg"]).labels == ["", ""]


def test_own_lists_are_cut_at_their_tabs(tmp_path: Path) -> None:
    (tmp_path / "train_list.txt").write_text("a/3.jpg 640w.jpg\t0\na/b.jpg, c.png\t1\t-\t1,2,30,40\n")
    (tmp_path / "label_map.txt").write_text("0\tred\n1\tblue, dark\n")
    found = find_images([str(tmp_path / "train_list.txt")], lambda path: tmp_path)
    assert found.files == [str(tmp_path / "a/3.jpg 640w.jpg"), str(tmp_path / "a/b.jpg, c.png")]
    assert found.labels == ["red", "blue, dark"] and found.boxes == [None, (1, 2, 30, 40)]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
@pytest.mark.parametrize("own", [True, False])
def test_a_source_without_images_is_named(content: str, own: bool, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text(content)
    with pytest.raises(UsageError, match=r"no images in .*empty\.txt"):
        find_images([str(tmp_path / "empty.txt")], lambda path: tmp_path if own else None)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=r"no images in .*folder"):
        find_images([str(tmp_path / "folder")])


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a\0b.jpg", "loop/a.jpg", "nothing*.jpg", "none.jpg"])
def test_paths_that_lead_nowhere_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UsageError):
        find_images([str(tmp_path / name)])


def test_lists_of_the_workspace_give_names(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "data", classes=2, per_class=1)
    (tmp_path / "train_list.txt").write_text("class_000/000.jpg\t0\nclass_001/000.jpg\t1\n")
    (tmp_path / "label_map.txt").write_text("0\tred\n1\tblue\n")
    assert find_images([str(tmp_path / "train_list.txt")], lambda path: tmp_path / "data").labels == ["red", "blue"]
    assert find_images([str(tmp_path / "train_list.txt")]).labels == ["red", "blue"]


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ([""], "1 image without label"),
        (["", ""], "2 images without label"),
        (["a"], "1 image of label a"),
        (["a", "a"], "2 images of label a"),
        (["a", "b", "b"], "3 images of 2 labels"),
        (["a", "", ""], "3 images of 1 label (2 without)"),
    ],
)
def test_pictures_described(labels: list[str], told: str) -> None:
    assert ImageFiles([str(n) for n in range(len(labels))], labels, [None] * len(labels)).described() == told


def test_a_folder_has_the_labels_that_prepare_reads(tmp_path: Path, make_images: Callable[..., object]) -> None:
    make_images(tmp_path / "a/train", classes=2, per_class=1)
    make_images(tmp_path / "a/test", classes=2, per_class=1, seed=1)
    assert find_images([str(tmp_path / "a")]).labels == ["class_000", "class_001"] * 2
    make_images(tmp_path / "b/batch1", classes=2, per_class=2)
    rows = "".join(f"batch1/class_00{k}/00{n}.jpg,{'red' if n else 'blue'}\n" for k in (0, 1) for n in (0, 1))
    (tmp_path / "b/labels.csv").write_text(f"image,label\n{rows}")
    make_images(tmp_path / "b/more", classes=1, per_class=1, seed=2)
    assert find_images([str(tmp_path / "b")]).labels == ["blue", "red", "blue", "red", ""]
    for part in ("x", "y"):
        make_images(tmp_path / "c" / part, classes=2, per_class=1, seed=ord(part))
    with pytest.raises(UsageError, match="which level of folders is the class"):
        find_images([str(tmp_path / "c")])
    assert find_images([str(tmp_path / "c")], folder_labels=False).labels == [""] * 4


def test_options_that_prepare_remembers_hold_for_its_sources(tmp_path: Path) -> None:
    right = many(tmp_path / "data", "{k}_{i}.jpg")
    rows = ((path, "ab"[number % 2], name) for number, (path, name) in enumerate(right.items()))
    table(tmp_path / "data/t.csv", ("file", "brand", "model"), *rows)
    with pytest.raises(UsageError, match="which column is the class"):
        find_images([str(tmp_path / "data")])
    space = prepare(tmp_path / "data", tmp_path / "work", columns="image=file,label=model", quick=True).workspace
    assert sorted(find_images([str(tmp_path / "data")], workspace=space).labels) == sorted(right.values())


def test_a_distractor_has_no_label(tmp_path: Path, make_images: Callable[..., object]) -> None:
    """A search would answer "this is -1" with it."""
    make_images(tmp_path / "data", classes=2, per_class=2)
    for name in ("gallery_list.txt", "theirs.txt"):
        (tmp_path / name).write_text("data/class_000/000.jpg\t0\ndata/class_001/000.jpg\t-1\n")
    (tmp_path / "label_map.txt").write_text("0\tred\n")
    assert find_images([str(tmp_path / "gallery_list.txt")], lambda path: tmp_path).labels == ["red", ""]
    assert find_images([str(tmp_path / "theirs.txt")]).labels[1] == ""


def test_lines_of_a_list_that_cannot_be_used_say_why(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("path,label\nnowhere.jpg,a\nhere.jpg,\nhere.jpg,b\n")
    (tmp_path / "here.jpg").write_bytes(b"not opened")
    with pytest.raises(DataError, match=r"list.csv: 2 lines cannot be used$") as error:
        find_images([str(tmp_path / "list.csv")])
    assert sorted(line.partition(": ")[2] for line in error.value.details) == [
        "image or label is empty",
        "the file is not there",
    ]
    assert error.value.hint == "correct the path or the image root; complete it"
