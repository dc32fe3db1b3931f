"""Labels that are read as they are written, but may mean something else: it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.preparation.annotation_trees import write_json
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, labels, many, read, table


@pytest.mark.parametrize("names", [("scab", "scab rust", "rust", "healthy"), ("a|b", "a", "b"), ("0,1", "1,2", "0,2")])
def test_several_names_in_a_cell_are_said_to_be_one_class(names: tuple[str, ...], tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg", names=names)
    write(tmp_path / "t.tsv", "image\tlabels\n" + "".join(f"{path}\t{name}\n" for path, name in right.items()))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and "several-names" in made.problems.cases


def test_names_of_two_words_are_not_several_names(tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg", names=("red apple", "green apple", "red pear", "great white shark, shark"))
    write(tmp_path / "t.tsv", "image\tlabel\n" + "".join(f"{path}\t{name}\n" for path, name in right.items()))
    assert "several-names" not in read(tmp_path).problems.cases


def test_labels_that_stand_for_an_empty_cell_are_said(tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg", names=("apple", "pear", "nan"))
    table(tmp_path / "t.csv", ("image", "label"), *right.items())
    assert read(tmp_path).problems.cases["empty-word"].examples == [("nan", "4 images")]


def test_no_class_is_no_class_as_a_decimal_too(tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg", names=("0.0", "1.0", "-1.0"))
    table(tmp_path / "t.csv", ("image", "label"), *right.items())
    made = read(tmp_path)
    assert made.names == {"0": 0, "1": 1} and "untrained" in made.problems.cases


def test_folders_that_differ_by_leading_zeros_are_said(tmp_path: Path) -> None:
    many(tmp_path, "train/{name}/{i}.jpg", names=("007", "010"))
    many(tmp_path, "val/{name}/v{i}.jpg", 2, names=("7", "10"))
    assert read(tmp_path).problems.cases["similar-labels"].count == 2


def test_folders_that_differ_by_a_number_in_front_are_said(tmp_path: Path) -> None:
    many(tmp_path, "train/{name}/{i}.jpg", names=("01_cat", "2. dog", "3_series", "5_series"))
    many(tmp_path, "val/{name}/v{i}.jpg", 2, names=("cat", "Dog", "7_series"))
    assert read(tmp_path).problems.cases["similar-labels"].examples == [
        ("'cat' and '01_cat'", ""),
        ("'Dog' and '2. dog'", ""),
    ]


def test_folders_of_one_name_in_some_of_several_are_said(tmp_path: Path) -> None:
    many(tmp_path, "phone/{name}/{i}.jpg", names=("Ann", "Bob"))
    many(tmp_path, "camera/{name}/{i}.jpg", names=("Ann", "Cem"))
    assert read(tmp_path).problems.cases["same-folder-name"].examples == [("Ann", "camera/Ann, phone/Ann")]
    assert "same-folder-name" not in read(tmp_path, depth=2).problems.cases


def test_a_certainty_of_nothing_is_said_to_be_ignored(tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg")
    table(
        tmp_path / "t.csv",
        ("ImageID", "LabelName", "Confidence"),
        *((p, n, int("3." not in p)) for p, n in right.items()),
    )
    assert any("Confidence is not used: rows where it is 0 count too" in line for line in read(tmp_path).rows.readings)


def test_lists_of_matlab_beside_annotations_are_said(tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}{i}.jpg")
    images = [{"id": n, "file_name": path} for n, path in enumerate(right)]
    objects = [{"image_id": n, "category_id": NAMES.index(name)} for n, name in enumerate(right.values())]
    kinds = [{"id": n, "name": name} for n, name in enumerate(NAMES)]
    write_json(tmp_path / "a.json", {"images": images, "annotations": objects, "categories": kinds})
    write(tmp_path / "lists/train_list.mat", "MATLAB 5.0")
    assert "lists/train_list.mat" in read(tmp_path).rows.unused


@pytest.mark.parametrize(
    "names", [dict(enumerate(NAMES)), {name: n for n, name in enumerate(NAMES)}], ids=["by number", "by name"]
)
def test_numbers_are_named_by_a_json_file_that_holds_only_their_names(
    names: dict[object, object], tmp_path: Path
) -> None:
    """class_indices.json beside a list."""
    right = many(tmp_path, "{k}{i}.jpg", names="0123")
    write(tmp_path / "l.txt", "".join(f"{path} {name}\n" for path, name in right.items()))
    write_json(tmp_path / "a_sizes.json", {"0": 640, "1": 480, "2": 1, "3": 2})
    write_json(tmp_path / "names.json", names)
    made = read(tmp_path)
    assert set(made.names) == set(NAMES) and "names.json: names of 4 classes" in made.rows.readings


def test_a_table_of_names_may_begin_with_the_numbers(tmp_path: Path) -> None:
    right = many(tmp_path, "{k}{i}.jpg")
    table(tmp_path / "train.csv", ("image", "class_id"), *((path, NAMES.index(name)) for path, name in right.items()))
    table(tmp_path / "classes.csv", ("class_id", "class_name"), *enumerate(NAMES))
    assert labels(read(tmp_path), tmp_path) == right


def test_a_table_that_names_the_classes_is_not_called_unused(tmp_path: Path) -> None:
    """As GroceryStoreDataset has it: with an image of each class, so that it could be a list of images too."""
    right = many(tmp_path, "{k}{i}.jpg")
    write(tmp_path / "train.txt", "".join(f"{path}, {NAMES.index(name)}\n" for path, name in right.items()))
    rows = ((name, n, next(path for path in right if right[path] == name)) for n, name in enumerate(NAMES))
    table(tmp_path / "classes.csv", ("Class Name", "Class ID", "Image Path"), *rows)
    made = read(tmp_path)
    assert labels(made, tmp_path) == right
    assert "classes.csv: names of 4 classes" in made.rows.readings and "classes.csv" not in made.rows.unused


def test_decimals_of_hugging_face_are_numbers_of_its_names(tmp_path: Path) -> None:
    right = many(tmp_path, "data/{k}{i}.jpg")
    rows = ((Path(path).name, float(NAMES.index(name))) for path, name in right.items())
    table(tmp_path / "data/metadata.csv", ("file_name", "label"), *rows)
    names = "".join(f"          '{n}': {name}\n" for n, name in enumerate(NAMES))
    head = "dataset_info:\n  features:\n  - name: label\n    dtype:\n      class_label:\n        names:\n"
    write(tmp_path / "README.md", f"---\n{head}{names}---\n")
    assert labels(read(tmp_path), tmp_path) == right
