"""Layouts that have two readings, or none: what is asked, with the way out."""

from __future__ import annotations

import pickle
import re
import shutil
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from shitu_cli.errors import ShituError, plain
from tests.command import shitu
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_asked, builders
from tests.preparation.test_doubtful_layouts import list_of
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, many, read, table


def lists_of_several_splits(root: Path) -> tuple[str, ...]:
    right = many(root, "images/{name}/{name}{i}.jpg")
    for fold in range(2):
        write(root / f"train{fold}.txt", list_of(path for path in right if f"{fold}." not in path))
        write(root / f"test{fold}.txt", list_of(path for path in right if f"{fold}." in path))
    return ("is in two splits", "test1.txt: test", "train0.txt: train", "leave the lists of one here")


def tables_of_several_splits(root: Path) -> tuple[str, ...]:
    right = many(root, "images/{name}{i}.jpg")
    for fold in range(4):
        for part in ("train", "val"):
            rows = ((p, n) for p, n in right.items() if (f"{fold}." in p) == (part == "val"))
            table(root / f"{part}_fold{fold}.csv", ("image", "label"), *rows)
    return ("16 of 16 images to evaluate are also trained", "train_fold", "val_fold", "leave the lists of one here")


def folders_of_several_splits(root: Path) -> tuple[str, ...]:
    for fold in range(2):
        many(root, f"fold_{fold}/train/{{name}}/{fold}{{i}}.jpg")
        many(root, f"fold_{fold}/val/{{name}}/v{fold}{{i}}.jpg", 2)
    return (
        "are fold_0, fold_1 several splits of the same images?",
        "fold_0/plum is a class",
        "data/fold_0",
        "--depth 2",
    )


def folders_that_name_a_split_and_a_class(root: Path) -> tuple[str, ...]:
    many(root, "train{name}/{i}.jpg", names="AB")
    many(root, "test{name}/{i}.jpg", names="AB")
    return ("a split and a class at once", "trainA", "make a folder for each split")


def an_archive_unpacked_into_itself(root: Path) -> tuple[str, ...]:
    many(root, "cells/{name}/{i}.jpg")
    many(root, "cells/cells/{name}/c{i}.jpg")
    return ("cells/cells: 4 folders in it have the names of folders beside it", "two classes", "data/cells/cells")


def folders_of_cameras_above_those_of_classes(root: Path) -> tuple[str, ...]:
    for camera in ("amazon", "webcam"):
        many(root, camera + "/images/{name}/" + camera + "{i}.jpg", 2)
    return ("which level of folders", "if apple is one class", "--merge", "amazon/images", "webcam/images")


def a_table_of_photographers_beside_products(root: Path) -> tuple[str, ...]:
    rows = ((path, ("Ann", "Bob")[n % 2]) for n, path in enumerate(many(root, "{name}/{name}{i}.jpg")))
    table(root / "photos.csv", ("image", "photographer"), *rows)
    return ("photographer, or the folder", "label=photographer", "--format class-tree")


def a_table_of_different_numbers_beside_products(root: Path) -> tuple[str, ...]:
    paths = many(root, "{name}/{name}{i}.jpg")
    table(root / "files.csv", ("image", "code"), *((path, 1000 + number) for number, path in enumerate(paths)))
    return ("code, or the folder of each image",)


def a_table_of_few_labels_of_numbers(root: Path) -> tuple[str, ...]:
    many(root, "{name}/{k}{i}.jpg", names="0123")
    table(root / "corrected.csv", ("image", "label"), ("00.jpg", "1"), ("11.jpg", "0"))
    return ("corrected.csv labels 2 of 16 images",)


def a_table_of_val_in_numbers_beside_folders_of_names(root: Path) -> tuple[str, ...]:
    many(root, "train/{name}/{i}.jpg")
    held = many(root, "val/v{k}{i}.jpg", 2)
    write(root / "val.txt", "".join(f"{Path(path).name} {NAMES.index(name)}\n" for path, name in held.items()))
    return ("val.txt", "its classes, such as 0, 1", "apple, lemon", "write the names of the folders")


def a_column_that_is_y_of_two(root: Path) -> tuple[str, ...]:
    """A comma in a heading makes `y]` of a column: no class, though y is."""
    right = many(root, "{k}{i}.jpg")
    rows = ((path, name, n // 2, 0.1, (0.1, 0.2)[n % 2]) for n, (path, name) in enumerate(right.items()))
    table(root / "t.csv", ("Image", "Finding", "Patient", "Spacing[x", "y]"), *rows)
    return ("which column is the class? Finding or Patient",)


def pairs_of_images(root: Path) -> tuple[str, ...]:
    paths = list(many(root, "img/{k}{i}.jpg"))
    write(root / "pairs.txt", "".join(f"{a} {b} 1\n" for a, b in pairwise(paths)))
    return ("only one class", "pairs.txt (names images, but no labels)")


def pairs_of_images_with_their_item(root: Path) -> tuple[str, ...]:
    """As In-shop's consumer2shop has them: the second image and the item became the class."""
    right = many(root, "img/{k}{i}.jpg")
    write(root / "pairs.txt", "".join(f"{a} {b} id_{right[a]} train\n" for a, b in pairwise(right)))
    return ("only one class", "pairs.txt (names images, but no labels)")


def several_images_in_a_cell(root: Path) -> tuple[str, ...]:
    many(root, "img/{k}{i}.jpg", 2)
    write_json(root / "p.json", [{"sku": name, "images": [f"{k}0.jpg", f"{k}1.jpg"]} for k, name in enumerate(NAMES)])
    return ("only one class", "p.json (names images, but no column holds one in each row)")


def several_columns_of_images(root: Path) -> tuple[str, ...]:
    many(root, "img/{k}{i}.jpg", 2)
    table(root / "p.csv", ("sku", "front", "back"), *((name, f"{k}0.jpg", f"{k}1.jpg") for k, name in enumerate(NAMES)))
    return ("which column is the image? front and back", "to use all of them, a row for each image")


def three_labels_for_each_image(root: Path) -> tuple[str, ...]:
    rows = [(path, label) for path, name in many(root, "{k}{i}.jpg").items() for label in (name, "plum")]
    table(root / "votes.csv", ("image", "label"), *rows)
    return ("only one class to train on: 'plum'", "12 x one image with two labels", "votes.csv:3")


def lists_of_matlab(root: Path) -> tuple[str, ...]:
    many(root, "jpg/image_{k}{i}.jpg", names=("x",))
    write(root / "imagelabels.mat", "MATLAB 5.0")
    return ("only one class", "imagelabels.mat (not read: save the labels or splits in it as CSV)")


def arrays_of_numpy(root: Path) -> tuple[str, ...]:
    root.mkdir(parents=True)
    (root / "mnist.npz").write_bytes(b"PK\3\4" + bytes(60))
    return ("mnist.npz, which is a file of arrays or Python objects", "write the images in it to files")


def packed(root: Path) -> None:
    """Pack a folder into a zip in it, and leave nothing else there."""
    archive = shutil.make_archive(str(root.parent / "packed"), "zip", root)
    shutil.rmtree(root)
    root.mkdir()
    shutil.move(archive, root / "photos.zip")


def an_archive_with_a_table_in_it(root: Path) -> tuple[str, ...]:
    right = many(root, "img/{k}{i}.jpg")
    table(root / "labels.csv", ("image", "label"), *right.items())
    packed(root)
    return ("labels may be in photos.zip::labels.csv", "unzip", "data/photos && shitu prepare")


def an_archive_with_folders_of_cameras(root: Path) -> tuple[str, ...]:
    many(root, "a/{name}/{i}.jpg", 2)
    many(root, "b/{name}/b{i}.jpg", 2)
    packed(root)
    return ("which level of folders", "--depth 1 or --depth 2")


class _Program:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return pytest.fail, ("it was run",)


def a_pickle(root: Path) -> tuple[str, ...]:
    """Files of CIFAR may run programs when they are opened: they never are."""
    root.mkdir(parents=True)
    (root / "data_batch_1").write_bytes(pickle.dumps(_Program()))
    return ("data_batch_1, which is a file of arrays or Python objects",)


def nothing_to_train_on(root: Path) -> tuple[str, ...]:
    many(root, "query/{name}/{i}.jpg", 1)
    many(root, "gallery/{name}/{i}.jpg", 2)
    return ("no images to train on: all are queries or gallery", "put such images into train/")


def a_table_of_few_corrections_beside_folders(root: Path) -> tuple[str, ...]:
    many(root, "{name}/{name}{i}.jpg")
    table(root / "relabelled.csv", ("image", "label"), ("apple0.jpg", "pear"), ("pear1.jpg", "apple"))
    return ("relabelled.csv labels 2 of 16 images", "--format class-tree", "--format table")


def labels_in_formats_that_are_not_read(root: Path) -> tuple[str, ...]:
    paths = many(root, "img/{k}{i}.jpg")
    write(root / "labels.yaml", "".join(f"{Path(path).name}: {name}\n" for path, name in paths.items()))
    write_json(root / "data.json", {"data": {Path(path).name: {"tags": [name]} for path, name in paths.items()}})
    write(root / "train.parquet", "PAR1")
    return (
        "only one class",
        "data.json (names images, in a layout",
        "labels.yaml (not read",
        "train.parquet (not read",
    )


ASKED = builders(globals(), "tuple[str, ...]")


@pytest.mark.parametrize("build", ASKED, ids=lambda build: build.__name__)
def test_it_is_asked_about(build: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    assert_asked(build, tmp_path / "data")


@pytest.mark.parametrize("pattern", ["{name}.{i}.jpg", "train/{name}.{i}.jpg", "shop/{name} ({i}).jpg"])
def test_the_command_for_classes_in_names_works_in_a_folder_and_with_dots(pattern: str, tmp_path: Path) -> None:
    many(tmp_path, pattern)
    with pytest.raises(ShituError) as caught:
        read(tmp_path)
    command = re.search(r"make a list of them: (\(.*\)); then shitu prepare (\S+)", plain(caught.value.hint or ""))
    assert command is not None, caught.value.hint
    subprocess.run(command[1], shell=True, check=True)
    assert set(read(Path(command[2])).names) == set(NAMES)


def test_a_list_of_pairs_that_is_named_is_told_to_name_one_image_a_line(tmp_path: Path) -> None:
    pairs_of_images_with_their_item(tmp_path)
    done = shitu("prepare", "pairs.txt", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "no line in it is `path label`" in done.stderr
    assert "also for each of several images that a line names" in done.stderr


def test_a_colon_is_no_blank_between_path_and_label(tmp_path: Path) -> None:
    write(tmp_path / "l.txt", list_of(f"{path}: {name}" for path, name in many(tmp_path, "{k}{i}.jpg").items()))
    done = shitu("prepare", "l.txt", cwd=tmp_path, check=False)
    assert done.returncode == 3 and "no blank, tab or comma between path and label: '00.jpg: apple'" in done.stderr


def test_folders_in_an_archive_are_no_sources_to_merge(tmp_path: Path) -> None:
    an_archive_with_folders_of_cameras(tmp_path / "data")
    with pytest.raises(ShituError) as caught:
        read(tmp_path / "data")
    assert "--merge" not in plain(caught.value.hint or "")


@pytest.mark.parametrize(
    ("build", "depth", "classes"),
    [
        (folders_that_name_a_split_and_a_class, 1, {"testA", "testB", "trainA", "trainB"}),
        (an_archive_unpacked_into_itself, 2, {*NAMES, *(f"cells/{name}" for name in NAMES)}),
        (folders_of_several_splits, 2, {f"fold_{fold}/{name}" for fold in range(2) for name in NAMES}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_with_a_depth_each_folder_is_a_class(
    build: Callable[[Path], object], depth: int, classes: set[str], tmp_path: Path
) -> None:
    build(tmp_path)
    assert set(read(tmp_path, depth=depth).names) == classes
