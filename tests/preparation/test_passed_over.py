"""Files, columns and names that `prepare` once passed over without a word: said, asked about, or used."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from shitu_cli.errors import ShituError, plain
from shitu_cli.preparation.sources import find_images
from tests.command import shitu
from tests.preparation.annotation_trees import write_json
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, labels, many, read, table, write_image


@pytest.mark.parametrize("kind", ["folders", "table", "annotations"])
def test_archives_beside_images_are_told(kind: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    right = many(data, "{name}/{i}.jpg")
    many(tmp_path / "more", "{name}/{i}.jpg", names=("fig", "kiwi"))
    shutil.make_archive(str(data / "more"), "zip", tmp_path / "more")
    if kind == "table":
        table(data / "t.csv", ("image", "label"), *right.items())
    elif kind == "annotations":
        for path, name in right.items():
            shapes = [{"label": name, "points": [[2, 2], [30, 30]], "shape_type": "rectangle"}]
            write_json((data / path).with_suffix(".json"), {"shapes": shapes, "imagePath": path[-5:], "version": "5"})
    said = " ".join(shitu("prepare", "data", cwd=tmp_path).stdout.split())
    assert "not used: more.zip (an archive beside images: unpack it if it holds others)" in said


def test_archives_whose_images_are_listed_are_used(tmp_path: Path) -> None:
    right = many(tmp_path / "src", "{name}/{i}.jpg")
    many(tmp_path / "data", "examples/{i}.jpg", 1, ("x",))
    shutil.make_archive(str(tmp_path / "data/photos"), "zip", tmp_path / "src")
    write(tmp_path / "data/list.txt", "".join(f"photos.zip::{path}\t{name}\n" for path, name in right.items()))
    assert "photos.zip" not in read(tmp_path / "data", "list.txt").rows.unused


@pytest.mark.parametrize("name", ["label_fixed", "Corrected Label", "class", "label2"])
def test_a_second_column_of_labels_is_asked_about(name: str, tmp_path: Path) -> None:
    rows = (
        (path, NAMES[1] if n == 0 else label, label)
        for n, (path, label) in enumerate(many(tmp_path, "{k}{i}.jpg").items())
    )
    table(tmp_path / "t.csv", ("image", "category", name), *rows)
    with pytest.raises(ShituError, match=f"which column is the class\\? .*{name}"):
        read(tmp_path)
    assert labels(read(tmp_path, columns={"image": "image", "label": name}), tmp_path)["00.jpg"] == "apple"


@pytest.mark.parametrize(
    "name", ["predicted_label", "label_old", "label_source", "superclass", "label_name", "labels_count"]
)
def test_other_columns_beside_the_label_are_no_second_one(name: str, tmp_path: Path) -> None:
    """Predictions and earlier labels are not those that count; a coarser class, a name and a number are none."""
    right = many(tmp_path, "{k}{i}.jpg")
    values = {"superclass": lambda n: n // 8, "label_name": lambda n: NAMES[n // 4], "labels_count": lambda n: n % 3}
    value = values.get(name, lambda n: (n + 1) // 4 % 4)
    rows = ((path, NAMES.index(label), value(n)) for n, (path, label) in enumerate(right.items()))
    table(tmp_path / "t.csv", ("image", "label", name), *rows)
    named = NAMES if name == "label_name" else "0123"
    assert labels(read(tmp_path), tmp_path) == {path: named[NAMES.index(label)] for path, label in right.items()}


def test_numbered_folders_are_called_by_the_file_of_names_beside_them(tmp_path: Path) -> None:
    data = tmp_path / "data"
    right = many(data, "{k}/{i}.jpg")
    write(data / "classes.txt", "".join(f"{name}\n" for name in NAMES))
    assert "classes.txt: names of 4 classes" in shitu("prepare", "data", cwd=tmp_path).stdout
    assert labels(read(data), data) == right
    write(data / "classes.txt", "apple\npear\n")
    made = read(data)
    assert set(made.names) == set("0123") and "do not fit" in made.rows.unused["classes.txt"]


@pytest.mark.parametrize("name", ["unknown", "Unlabeled", "not_labeled", "未知"])
def test_folders_of_what_nobody_sorted_are_told(name: str, tmp_path: Path) -> None:
    many(tmp_path, "{name}/{i}.jpg", names=(*NAMES, name))
    assert read(tmp_path).problems.cases["empty-word"].examples == [(name, "4 images")]


@pytest.mark.parametrize("ending", ["_mask", "_mask_1", "-seg"])
def test_masks_beside_their_images_are_no_images_of_the_class(ending: str, tmp_path: Path) -> None:
    right = many(tmp_path, "{name}/{i}.png")
    for path in right:
        mask = np.zeros((36, 40, 3), np.uint8)
        mask[8:30, 8:30] = 255
        write_image(tmp_path / path.replace(".png", f"{ending}.png"), mask)
    found = find_images([str(tmp_path)])
    assert dict(zip(found.files, found.labels, strict=True)) == {str(tmp_path / path): right[path] for path in right}
    made = read(tmp_path)
    assert labels(made, tmp_path) == right
    assert made.rows.unused == {f"apple/0{ending}.png": "one of 16 masks of images beside them"}


def test_folders_of_masks_are_not_indexed(tmp_path: Path) -> None:
    right = many(tmp_path, "images/{name}/{k}{i}.png")
    for path in right:
        (tmp_path / "masks").mkdir(exist_ok=True)
        write_image(tmp_path / "masks" / Path(path).name, np.zeros((36, 40, 3), np.uint8))
    assert set(find_images([str(tmp_path)]).labels) == set(NAMES) == set(read(tmp_path).names)


def test_photos_that_are_called_like_masks_are_read(tmp_path: Path) -> None:
    right = many(tmp_path, "{name}/{i}.jpg", 2) | many(tmp_path, "{name}/{i}_label.jpg", 2)
    assert labels(read(tmp_path), tmp_path) == right


def test_folders_beside_the_names_of_boxes_are_told(tmp_path: Path) -> None:
    for n, path in enumerate(many(tmp_path, "{name}/{i}.jpg")):
        shapes = [{"label": ("bottle", "logo")[n % 2], "points": [[2, 2], [30, 30]], "shape_type": "rectangle"}]
        write_json((tmp_path / path).with_suffix(".json"), {"shapes": shapes, "imagePath": path[-5:], "version": "5"})
    said = "\n".join(read(tmp_path).rows.readings)
    assert "folders such as apple, lemon, pear, ... are not the classes of the boxes (--depth 1 makes them so)" in said
    assert set(read(tmp_path, depth=1).names) == set(NAMES)


def test_the_command_for_names_of_identities_and_cameras_keeps_them_apart(tmp_path: Path) -> None:
    for camera in (1, 2):
        many(tmp_path, f"000{{k}}_c{camera}s1_00{{i}}.jpg", 2)
    with pytest.raises(ShituError) as caught:
        read(tmp_path)
    command = re.search(r"make a list of them: (\(.*\)); then shitu prepare (\S+)", plain(caught.value.hint or ""))
    assert command is not None, caught.value.hint
    subprocess.run(command[1], shell=True, check=True)
    made = read(Path(command[2]))
    assert set(made.names) == {"0000", "0001", "0002", "0003"} and set(made.rows.ids.values()) == {"1", "2"}
