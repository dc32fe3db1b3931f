"""What shops, competitions, archives and other programs give out: splits kept, and labels read rightly."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from shitu_cli.preparation.formats import read_source
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_read, builders
from tests.preparation.test_doubtful_layouts import last, list_of
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, Labels, labels, many, queries, read, table
from tests.stores.samples import tar_bytes


def shard(path: Path, images: Labels, root: Path) -> Labels:
    """Pack images with their classes beside them into a tar; location → class name."""
    members = {Path(image).name: (root / image).read_bytes() for image in images}
    members |= {f"{Path(image).stem}.cls": name.encode() for image, name in images.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tar_bytes(members))
    return {f"{path.relative_to(root / 'data')}::{Path(image).name}": name for image, name in images.items()}


def objects_in_lines(root: Path, name: str) -> Labels:
    """Write an object of JSON for each image into the lines of a file."""
    right = many(root, "img/{k}{i}.jpg")
    write(root / name, list_of(json.dumps({"image": path, "label": label}) for path, label in right.items()))
    return right


def unstated(path: Path, names: Iterable[str], encoding: str) -> None:
    """Write a zip of folders whose names are in an encoding that it does not state, as Windows and macOS do."""
    written = {
        letter * len(name.encode(encoding)): name.encode(encoding) for letter, name in zip("QZ", names, strict=True)
    }
    images = path.parent.parent / "images"
    with zipfile.ZipFile(path, "w") as file:
        for image, folder in many(images, "{k}{i}.jpg", names=written).items():
            file.write(images / image, f"{folder}/{image}")
    data = path.read_bytes()
    for letters, name in written.items():
        data = data.replace(letters.encode() + b"/", name + b"/")
    path.write_bytes(data)


# --- Splits ---


def shards_in_folders_of_splits(root: Path) -> tuple[Labels, Labels]:
    images = many(root, "images/{k}{i}.jpg")
    right = shard(root / "data/train/0.tar", {p: n for p, n in images.items() if p not in last(images)}, root)
    held = shard(root / "data/val/0.tar", last(images), root)
    return right | held, held


def folders_called_trainset_and_testset(root: Path) -> tuple[Labels, Labels]:
    right, held = many(root / "data", "trainset/{name}/{i}.jpg"), many(root / "data", "testset/{name}/t{i}.jpg", 2)
    return right | held, held


def names_that_two_splits_have_in_one_table(root: Path) -> tuple[Labels, Labels]:
    """Its column says the split: images to train on were evaluated in the place of the others."""
    right, held = many(root / "data", "train/{k}{i}.jpg"), many(root / "data", "val/{k}{i}.jpg", 2)
    rows = ((path.partition("/")[0], Path(path).name, name) for path, name in (right | held).items())
    table(root / "data/l.csv", ("split", "image", "label"), *rows)
    return right | held, held


def lists_called_trainset_and_valset(root: Path) -> tuple[Labels, Labels]:
    right = many(root / "data", "jpg/{name}/{name}{i}.jpg")
    write(root / "data/trainset.relpaths.txt", list_of(path for path in right if path not in last(right)))
    write(root / "data/valset.relpaths.txt", list_of(last(right)))
    return right, last(right)


def numbers_that_two_splits_have(root: Path) -> tuple[Labels, Labels]:
    """As for CIFAR-10 on Kaggle: the table was not found, as each number is the name of two images."""
    right, held = many(root / "data", "train/{k}{i}.png"), many(root / "data", "test/{k}{i}.png", 2)
    for name, part in (("trainLabels", right), ("testLabels", held)):
        table(root / f"data/{name}.csv", ("id", "label"), *((Path(path).stem, n) for path, n in part.items()))
    return right | held, held


def a_table_of_the_tests_answers(root: Path) -> tuple[Labels, Labels]:
    """Its name says no split, but the folder of its images does: they were trained on."""
    right, held = many(root / "data", "train/{k}{i}.jpg"), many(root / "data", "test/t{k}{i}.jpg", 2)
    for name, part in (("train", right), ("answers", held)):
        table(root / f"data/{name}.csv", ("id", "label"), *((Path(p).stem, n) for p, n in part.items()))
    return right | held, held


SPLIT = builders(globals(), "tuple[Labels, Labels]")


@pytest.mark.parametrize("build", SPLIT, ids=lambda build: build.__name__)
def test_splits_are_kept(build: Callable[[Path], tuple[Labels, Labels]], tmp_path: Path) -> None:
    right, held = build(tmp_path)
    made = read(tmp_path / "data")
    assert labels(made, tmp_path / "data") == right and queries(made, tmp_path / "data") == held.keys()


@pytest.mark.parametrize(
    ("column", "train", "test"),
    [
        ("train", 1, 0), ("test", 0, 1), ("in_train", "True", "False"), ("is_training_image", 1, 0),
        ("validation", "no", "yes"), ("testset", 0, 1), ("split", "train_set", "test_set"),
        ("part", "1-train", "2-val"), ("Usage", "Training", "PrivateTest"), ("split", "trainset", "testset"),
    ],
)  # fmt: skip
def test_a_column_says_the_split(column: str, train: object, test: object, tmp_path: Path) -> None:
    """Images to evaluate were trained on without a word."""
    right = many(tmp_path, "img/{k}{i}.jpg")
    rows = ((path, name, test if path in last(right) else train) for path, name in right.items())
    table(tmp_path / "l.csv", ("image", "label", column), *rows)
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and queries(made, tmp_path) == last(right).keys()


# --- Read rightly ---


@pytest.mark.parametrize("column", ["test", "valid"])
def test_a_column_alone_is_the_class_though_it_is_called_test(column: str, tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}{i}.jpg", names="01")
    table(tmp_path / "l.csv", ("image", column), *right.items())
    assert labels(read(tmp_path), tmp_path) == right


@pytest.mark.parametrize("column", ["invalid", "is_invalid"])
def test_a_mark_of_images_that_are_no_good_is_no_split(column: str, tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}{i}.jpg")
    table(tmp_path / "l.csv", ("image", "label", column), *((p, n, int(p in last(right))) for p, n in right.items()))
    assert set(read(tmp_path).rows.splits) == {""}


def test_a_column_says_the_split_where_the_user_names_the_class(tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}{i}.jpg")
    table(
        tmp_path / "l.csv", ("image", "plant", "train"), *((p, n, int(p not in last(right))) for p, n in right.items())
    )
    made = read(tmp_path, columns={"image": "image", "label": "plant"})
    assert labels(made, tmp_path) == right and queries(made, tmp_path) == last(right).keys()


def test_addresses_stay_whole_where_two_splits_have_the_same(tmp_path: Path) -> None:
    right = {f"https://shop.example/{name}{i}.jpg": name for name in NAMES for i in range(2)}
    table(
        tmp_path / "l.csv", ("image", "label", "split"),
        *((path, name, split) for split in ("query", "gallery") for path, name in right.items()),
    )  # fmt: skip
    _, rows = read_source(Source(tmp_path), Problems())
    assert sorted(rows.paths) == sorted([*right, *right])


def paths_written_as_in_addresses(root: Path) -> Labels:
    right = many(root, "my img/{k} {i}.jpg")
    table(root / "l.csv", ("image", "label"), *((path.replace(" ", "%20"), name) for path, name in right.items()))
    return right


def lists_of_imagenet_that_number_their_lines(root: Path) -> Labels:
    """The number behind a path in train_cls.txt is that of the line: it made a class of each image."""
    right = many(root, "Data/train/{name}/{name}_{i}.jpg")
    val = many(root, "Data/val/v{k}{i}.jpg", 1)
    numbered = (f"{path[11:-4]} {number}" for number, path in enumerate(right, 1))
    write(root / "ImageSets/train_cls.txt", list_of(numbered))
    write(root / "ImageSets/val.txt", list_of(f"{Path(path).stem} {number}" for number, path in enumerate(val, 1)))
    return right


def tables_that_were_joined(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg")
    lines = [f"{path},{name}" for path, name in right.items()]
    write(root / "l.csv", "\ufefffile,label\n" + list_of(lines[:8]) + "\ufefffile,label\n" + list_of(lines[8:]))
    return right


def numbers_kept_from_a_spreadsheet(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg", names=("0012", "0034"))
    write(root / "l.csv", "file,ean\n" + list_of(f'{path},"=""{name}"""' for path, name in right.items()))
    return right


def recycle_bins_of_servers(root: Path) -> Labels:
    right = many(root, "{name}/{i}.jpg")
    for folder in ("#recycle", "@Recycle", "$RECYCLE.BIN"):
        many(root, folder + "/{name}{i}.jpg")
    return right


def one_image_of_each_class_to_evaluate(root: Path) -> Labels:
    """Their numbers count the lines, but they are classes."""
    right = many(root, "img/{k}{i}.jpg", names="0123")
    write(root / "train.txt", list_of(f"{path} {name}" for path, name in right.items() if path not in last(right)))
    write(root / "val.txt", list_of(f"{path} {name}" for path, name in last(right).items()))
    return right


def blanks_and_suffixes_in_cells_of_images(root: Path) -> Labels:
    right = many(root, "img/{k}.jpg, {i}.jpg")
    table(root / "l.csv", ("image", "label"), *((f'"{Path(path).name}"', name) for path, name in right.items()))
    return right


def pairs_in_json(root: Path) -> Labels:
    """As StyleGAN has them."""
    right = many(root, "0/img{k}{i}.png", names="012")
    write_json(root / "dataset.json", {"labels": [[path, int(name)] for path, name in right.items()]})
    return right


def columns_in_json(root: Path) -> Labels:
    """As pandas writes a table, if nothing else is said."""
    right = many(root, "img/{k}{i}.jpg")
    columns = {"image": right.keys(), "label": right.values()}
    write_json(
        root / "d.json", {key: dict(zip(map(str, range(16)), column, strict=True)) for key, column in columns.items()}
    )
    return right


def objects_in_lines_of_a_json_file(root: Path) -> Labels:
    return objects_in_lines(root, "export.json")


def objects_in_lines_of_a_text(root: Path) -> Labels:
    """The end of each line became the name of a class."""
    return objects_in_lines(root, "export.txt")


def numbers_of_classes_that_images_have_too(root: Path) -> Labels:
    right = many(root, "{k}/{i}.jpg", names="012")
    table(root / "things.csv", ("id", "thing"), *enumerate(("cat", "dog", "cat")))
    return right


def a_column_of_truth_values_for_each_class(root: Path) -> Labels:
    """As get_dummies of pandas writes them."""
    right = many(root, "img/{k}{i}.jpg")
    table(
        root / "l.csv",
        ("image", *NAMES),
        *((path, *(name == other for other in NAMES)) for path, name in right.items()),
    )
    return right


def a_column_of_zeros_and_ones_for_each_vehicle(root: Path) -> Labels:
    """`train` is one of them: the images of trains were left out."""
    vehicles = ("car", "bus", "train", "bicycle")
    right = many(root, "img/{k}{i}.jpg", names=vehicles)
    rows = ((path, *(int(name == other) for other in vehicles)) for path, name in right.items())
    table(root / "l.csv", ("image", *vehicles), *rows)
    return right


def separators_at_the_end_of_some_lines(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg")
    write(root / "l.txt", list_of(f"{path},{name}{',' * ('0.jpg' in path)}" for path, name in right.items()))
    return right


def records_beside_other_lists_in_json(root: Path) -> Labels:
    right = many(root, "img/{k}{i}.jpg")
    records = [{"image": path, "label": name} for path, name in right.items()]
    write_json(root / "d.json", {"data": records, "shape": [[64, 64]]})
    return right


READ = builders(globals(), "Labels")


@pytest.mark.parametrize("build", READ, ids=lambda build: build.__name__)
def test_it_is_read(build: Callable[[Path], Labels], tmp_path: Path) -> None:
    assert_read(build, tmp_path)


def test_names_in_a_zip_may_be_utf_8_without_saying_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    unstated(tmp_path / "data/a.zip", ("苹果", "café"), "utf-8")
    assert read(tmp_path / "data").names.keys() == {"苹果", "café"}
