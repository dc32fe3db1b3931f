from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import DataError, UsageError
from tests.preparation.annotation_trees import boxes, draw_all, kinds, read, splits, write

LINE = "0 0.5 0.5 0.5 0.25\n"
BOX = (16, 18, 48, 30)


def tree(root: Path, pattern: str, *parts: str) -> None:
    for part in parts:
        draw_all(root, pattern.format(part=part, kind="images") + f"/{part}.jpg")
        write(root / pattern.format(part=part, kind="labels") / f"{part}.txt", LINE)


def test_images_first_with_names_in_a_list(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}/{part}", "train", "val")
    write(tmp_path / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n")
    rows, problems = read(tmp_path, "yolo")
    assert boxes(rows) == {"images/train/train.jpg": [("cat", *BOX)], "images/val/val.jpg": [("cat", *BOX)]}
    assert splits(rows) == {"images/train/train.jpg": "train", "images/val/val.jpg": "val"}
    assert not kinds(problems)


def test_roboflow_with_paths_that_lead_elsewhere(tmp_path: Path) -> None:
    tree(tmp_path, "{part}/{kind}", "train", "valid", "test")
    write(
        tmp_path / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 1\nnames: ['cat']\n",
    )
    rows, _ = read(tmp_path, "yolo")
    assert sorted(rows.splits) == ["test", "train", "val"]


def test_folders_whose_names_say_nothing_have_the_splits_of_the_config(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}/{part}", "a", "b")
    config = write(
        tmp_path / "my.yaml", "path: /kaggle/input/pets\ntrain: [images/a]\nval: images/b\nnames: {0: cat, 1: dog}\n"
    )
    expected = {"images/a/a.jpg": "train", "images/b/b.jpg": "val"}
    assert splits(read(tmp_path, "yolo")[0]) == expected
    assert splits(read(config, "yolo")[0]) == expected


def test_lists_of_images(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a", "b")
    write(tmp_path / "train.txt", "./images/a.jpg\n")
    write(tmp_path / "val.txt", "/home/me/data/images/b.jpg\n")
    write(tmp_path / "data.yaml", "train: train.txt\nval: val.txt\nnames: [cat]\n")
    assert splits(read(tmp_path, "yolo")[0]) == {"images/a.jpg": "train", "images/b.jpg": "val"}


def test_cvat_and_darknet(tmp_path: Path) -> None:
    draw_all(tmp_path / "obj_train_data", "a.jpg", "b.jpg")
    for stem in "ab":
        write(tmp_path / f"obj_train_data/{stem}.txt", LINE)
    write(tmp_path / "obj.names", "cat\ndog\n")
    write(tmp_path / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    assert boxes(read(tmp_path, "yolo")[0])["obj_train_data/a.jpg"] == [("cat", *BOX)]


def test_labelimg_beside_the_images(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "b.txt", "")
    write(tmp_path / "classes.txt", "cat\n")
    rows, problems = read(tmp_path, "yolo")
    assert boxes(rows) == {"a.jpg": [("cat", *BOX)]}
    assert problems.cases["no-objects"].count == 1


def test_without_names_the_numbers_are_the_classes_and_it_says_so(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    rows, _ = read(tmp_path, "yolo")
    assert rows.labels == ["0"]
    assert any("called by their numbers" in line for line in rows.readings)


def test_polygons_and_key_points(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a", "b")
    write(tmp_path / "labels/a.txt", "0 0.25 0.375 0.75 0.375 0.75 0.625 0.25 0.625\n")
    write(tmp_path / "labels/b.txt", "0 0.5 0.5 0.5 0.25 0.3 0.4 2\n")
    write(tmp_path / "data.yaml", "names: [cat]\ntrain: images\nval: images\nkpt_shape: [1, 3]\n")
    rows, problems = read(tmp_path, "yolo")
    assert boxes(rows) == {"images/a.jpg": [("cat", *BOX)], "images/b.jpg": [("cat", *BOX)]}
    # Training and evaluation in one folder, as in coco128, are no split.
    assert set(rows.splits) == {""} and kinds(problems) == {"no-split": 1}


def test_pixels_are_refused_with_both_readings(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    write(tmp_path / "labels/a.txt", "0 16 18 48 30\n")
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(DataError, match=r"shares of the image.*in pixels"):
        read(tmp_path, "yolo")


def test_bad_lines_are_named(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    write(tmp_path / "classes.txt", "cat\n")
    write(
        tmp_path / "labels/a.txt",
        LINE + "5 0.5 0.5 0.5 0.25\n0 0.5 0.5 0.5 0.25 0.93\n0 nan 0.5 0.5 0.5\ncat 0 0 1 1\n",
    )
    rows, problems = read(tmp_path, "yolo")
    assert len(rows) == 1
    assert [where.rpartition(":")[2] for where, _ in problems.cases["bad-annotation"].examples] == ["2", "3", "4", "5"]


def test_names_that_contradict_are_refused_with_both(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    write(tmp_path / "labels/classes.txt", "dog\ncat\n")
    with pytest.raises(UsageError, match=r"classes\.txt and labels/classes\.txt"):
        read(tmp_path, "yolo")


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    write(tmp_path / "classes.txt", "cat\ncat\n")
    with pytest.raises(DataError, match="classes 0 and 1 are both called 'cat'"):
        read(tmp_path, "yolo")


def test_a_bomb_of_aliases_is_refused(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    write(tmp_path / "data.yaml", "\n".join([*lines, "names: *a9", "train: x"]))
    with pytest.raises(DataError, match=r"data\.yaml"):
        read(tmp_path, "yolo")


def test_class_folders_with_a_text_beside_an_image_are_no_yolo(tmp_path: Path) -> None:
    draw_all(tmp_path, "cat/1.jpg", "dog/1.jpg")
    write(tmp_path / "cat/1.txt", "a photo of a cat\n")
    read(tmp_path, "class-tree")


@pytest.mark.parametrize("line", [f"\ufeff{LINE}", f"0.0 {LINE[2:]}"])
def test_lines_of_other_programs(line: str, tmp_path: Path) -> None:
    """A byte order mark, and numbers of classes as decimals."""
    tree(tmp_path, "{kind}", "a", "b")
    for stem in "ab":
        write(tmp_path / f"labels/{stem}.txt", line)
    write(tmp_path / "classes.txt", "cat\n")
    assert boxes(read(tmp_path, "yolo")[0])["images/a.jpg"] == [("cat", *BOX)]


def test_other_names_beside_the_config_are_told(tmp_path: Path) -> None:
    tree(tmp_path, "{kind}", "a")
    write(tmp_path / "data.yaml", "names: [cat, dog]\n")
    write(tmp_path / "classes.txt", "dog\ncat\n")
    readings = read(tmp_path, "yolo")[0].readings
    assert "data.yaml: names of 2 classes; those of classes.txt, which differ, are not used" in readings
