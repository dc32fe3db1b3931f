"""What shops, competitions, archives and other programs give out: asked about, or told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shitu_cli.errors import DataError, ShituError, plain
from shitu_cli.preparation.formats.columns import Decision
from shitu_cli.preparation.formats.delimited import open_sheet
from shitu_cli.preparation.problems import Problems
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_asked, builders
from tests.preparation.test_doubtful_layouts import list_of
from tests.preparation.test_exports import unstated
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, labels, many, read, table

# --- Asked ---


def a_product_for_each_row_with_all_its_images(root: Path) -> tuple[str, ...]:
    """As WooCommerce exports: only the last image of each row was read."""
    many(root, "uploads/{k}{i}.jpg", 6)
    address = "https://shop.example/uploads/"
    rows = ((name, ", ".join(f"{address}{k}{i}.jpg" for i in part)) for k, name in enumerate(NAMES) for part in PARTS)
    table(root / "e.csv", ("Categories", "Images"), *((name, f'"{cell}"') for name, cell in rows))
    return (
        "e.csv: its column Images names several images in one cell",
        "uploads/00.jpg, https",
        "a row for each image",
    )


PARTS = ((0, 1, 2), (3, 4, 5))


def boxes_behind_the_paths_of_a_list(root: Path) -> tuple[str, ...]:
    """As keras-yolo3 has them, x1,y1,x2,y2,class: they became the names of classes."""
    lines = (f"{path} 2,3,30,30,{NAMES.index(name)}" for path, name in many(root, "{k}{i}.jpg").items())
    write(root / "2007_train.txt", list_of(lines))
    return ("2007_train.txt", "boxes or JSON", "00.jpg 2,3,30,30,0", "x1,y1,x2,y2 for each box")


def json_behind_the_paths_of_a_list(root: Path) -> tuple[str, ...]:
    texts = {path: json.dumps([{"transcription": name}]) for path, name in many(root, "{k}{i}.jpg").items()}
    write(root / "Label.txt", list_of(f"{path}\t{text}" for path, text in texts.items()))
    return ("Label.txt", "boxes or JSON", "transcription")


def cells_that_were_merged(root: Path) -> tuple[str, ...]:
    """Only the first row of a merged cell holds the class."""
    rows = ((name if "0.jpg" in path else "", path) for path, name in many(root, "img/{k}{i}.jpg").items())
    table(root / "l.csv", ("label", "image"), *rows)
    return (
        "a single image",
        "12 x a line without image or label",
        "l.csv:3",
        "correct what is named here; or add images",
    )


def one_class_and_its_opposite(root: Path) -> tuple[str, ...]:
    table(root / "l.csv", ("image", "label"), *many(root, "img/{k}{i}.jpg", names=("-1", "1")).items())
    return ("only one class to train on: '1'", "4 images labelled -1, which means no class here")


def json_of_an_unknown_tool(root: Path) -> tuple[str, ...]:
    write_json(root / "e.json", [{"uri": p, "tags": [{"tagName": n}]} for p, n in many(root, "i/{k}{i}.jpg").items()])
    return ("only one class", "e.json (names images, but no label beside them that is known here")


def colons_behind_paths(root: Path) -> tuple[str, ...]:
    write(root / "l.txt", list_of(f"{path}: {name}" for path, name in many(root, "img/{k}{i}.jpg").items()))
    return ("only one class", "l.txt (names images, but its lines are not `path label`: write path<TAB>label)")


def a_zip_of_windows_in_china(root: Path) -> tuple[str, ...]:
    root.mkdir(parents=True)
    unstated(root / "a.zip", ("苹果", "梨"), "gbk")
    return ("encoding that", "a.zip does not state", "unzip -O gb18030", "shitu prepare")


def captions(root: Path) -> tuple[str, ...]:
    rows = ((path, f"photo {n} of {name}") for n, (path, name) in enumerate(many(root, "img/{k}{i}.jpg").items()))
    table(root / "captions.csv", ("image", "caption"), *rows)
    return ("each of the 16 classes has a single image", "img/00.jpg) is 'photo 0 of apple'", "--columns label=NAME")


def a_category_and_a_subcategory(root: Path) -> tuple[str, ...]:
    rows = ((path, "ab"[NAMES.index(name) // 2], name) for path, name in many(root, "{k}{i}.jpg").items())
    table(root / "l.csv", ("image", "category", "subcategory"), *rows)
    return ("which column is the class? category or subcategory",)


def a_subcategory_among_other_columns(root: Path) -> tuple[str, ...]:
    """Its name alone does not decide."""
    rows = ((path, "ab"[NAMES.index(name) // 2], name) for path, name in many(root, "{k}{i}.jpg").items())
    table(root / "l.csv", ("image", "subCategory", "articleType"), *rows)
    return ("which column is the class? subCategory or articleType",)


def a_table_of_measures(root: Path) -> tuple[str, ...]:
    table(root / "l.csv", ("image", "rating"), *((path, n % 5) for n, path in enumerate(many(root, "i/{k}{i}.jpg"))))
    return ("only one class", "none of its columns is a class by its name: --columns image=...,label=... takes one")


def tables_of_photographers_in_the_folders_of_products(root: Path) -> tuple[str, ...]:
    for name in set(many(root, "{name}/{i}.jpg").values()):
        table(root / name / "info.csv", ("file", "photographer"), *((f"{i}.jpg", "ab"[i % 2]) for i in range(4)))
    return ("info.csv: is the class its column photographer, or the folder of each image?", "--format class-tree")


def rows_of_pixels(root: Path) -> tuple[str, ...]:
    """As MNIST and its like are given out on Kaggle."""
    table(root / "train.csv", ("label", *(f"pixel{n}" for n in range(9))), *((k, *range(9)) for k in range(9)))
    return ("holds no images, but train.csv, which is a table of pixels", "write each row to an image")


def arrays_of_mnist(root: Path) -> tuple[str, ...]:
    root.mkdir(parents=True)
    (root / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + bytes(60))
    return ("train-images-idx3-ubyte, which is a file of arrays",)


def folders_of_a_camera(root: Path) -> tuple[str, ...]:
    many(root, "DCIM/10{k}CANON/IMG_{i}.JPG")
    return ("its folders are those of a camera or an album, such as DCIM/100CANON", "--depth 1")


def albums_of_years(root: Path) -> tuple[str, ...]:
    many(root, "Takeout/Google Photos/Photos from 202{k}/{i}.jpg")
    return ("Photos from 2020, which are not classes",)


def labels_in_a_format_that_is_not_read(root: Path) -> tuple[str, ...]:
    write(root / "labels.py", repr(many(root, "img/{k}{i}.jpg")))
    return ("only one class", "labels.py (not read in this format: save the labels in it as CSV)")


def bare_names_that_each_class_has(root: Path) -> tuple[str, ...]:
    right = many(root, "img/{name}/{i}.jpg")
    table(root / "l.csv", ("image", "label"), *((Path(path).name, name) for path, name in right.items()))
    return ("l.csv", "if the folders are the classes: --format class-tree")


ASKED = builders(globals(), "tuple[str, ...]")


@pytest.mark.parametrize("build", ASKED, ids=lambda build: build.__name__)
def test_it_is_asked_about(build: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    assert_asked(build, tmp_path / "data")


# --- Said ---


def test_a_folder_of_images_without_labels_is_said(tmp_path: Path) -> None:
    """As CVAT exports for ImageNet."""
    many(tmp_path, "{name}/{k}{i}.jpg", names=("apple", "pear", "no_label"))
    assert read(tmp_path).problems.cases["empty-word"].examples == [("no_label", "4 images")]


def test_lines_with_more_labels_than_others_are_said(tmp_path: Path) -> None:
    """Of `path 3 7 9` among lines of one label, the first was taken."""
    right = many(tmp_path, "{k}{i}.jpg", names="0123")
    write(tmp_path / "l.txt", list_of(f"{path} {name}{' 7 9' * ('3.' in path)}" for path, name in right.items()))
    examples = read(tmp_path).problems.cases["malformed"].examples
    assert len(examples) == 4 and examples[0][1] == "4 columns, where most lines have 2"


def test_names_whose_letters_are_wrong_are_said(tmp_path: Path) -> None:
    """As archives unpack in the encoding of another machine, and tables that were opened and saved in a wrong one."""
    many(tmp_path, "{name}/{i}.jpg", names=("K\u00c3\u00a4se", "\u255e\u2557\u2563\u221a", "Käse", "Ação"))
    (tmp_path / "Käse").rename(tmp_path / os.fsdecode("苹果".encode("gbk")))
    assert read(tmp_path).problems.cases["garbled-name"].count == 3


def test_names_that_differ_by_signs_between_words_are_said(tmp_path: Path) -> None:
    many(tmp_path, "train/{name}/{i}.jpg", names=("t-shirt", "polo shirt", "jeans"))
    many(tmp_path, "val/{name}/v{i}.jpg", 2, names=("t_shirt", "polo_shirt", "jeans"))
    assert read(tmp_path).problems.cases["similar-labels"].count == 2


def test_names_of_images_that_say_splits_are_said_to_say_none(tmp_path: Path) -> None:
    many(tmp_path, "{name}/train_{i}.jpg"), many(tmp_path, "{name}/test_{i}.jpg", 2)
    assert any("not names of images such as plum/train_3.jpg" in line for line in read(tmp_path).rows.readings)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("camera", lambda n: "Canon", "camera is the same for all images of a class: not used"),
        ("is_deleted", lambda n: n % 4 == 0, "is_deleted is not used: rows count whatever it says"),
        ("status", lambda n: ("approved", "rejected")[n % 2], "status is not used"),
    ],
)
def test_columns_that_would_leave_nothing_or_leave_rows_out_are_said(
    column: str, value: Callable[[int], object], says: str, tmp_path: Path
) -> None:
    """With one camera for all, no query had anything to find."""
    rows = ((path, name, value(n)) for n, (path, name) in enumerate(many(tmp_path, "{k}{i}.jpg").items()))
    table(tmp_path / "l.csv", ("image", "label", column), *rows)
    made = read(tmp_path)
    assert says in made.rows.readings[0] and not made.rows.ids


def test_a_camera_that_leaves_nothing_to_find_is_refused(tmp_path: Path) -> None:
    rows = ((path, name, "c1") for path, name in many(tmp_path, "{k}{i}.jpg").items())
    table(tmp_path / "l.csv", ("image", "label", "camera"), *rows)
    with pytest.raises(ShituError) as caught:
        read(tmp_path, columns={"camera": "camera"})
    assert "nothing can be evaluated" in caught.value.message
    assert "same class and camera (or sequence)" in (hint := plain(caught.value.hint or ""))
    assert "are the cameras right" in hint


def test_images_of_formats_that_are_not_read_are_said(tmp_path: Path) -> None:
    """They were passed over in silence."""
    many(tmp_path, "{name}/{i}.jpg")
    for suffix in ("tga", "CR3", "arw", "dcm", "eps"):
        write(tmp_path / f"apple/a.{suffix}", "x")
    assert read(tmp_path).problems.cases["other-format"].count == 5


def test_images_in_a_folder_that_repeats_its_split_have_no_class(tmp_path: Path) -> None:
    """All of test/test/ became one class, which every query found."""
    right = many(tmp_path, "train/{name}/{i}.jpg")
    many(tmp_path, "test/test/{i}.jpg", 6, names=("x",))
    made = read(tmp_path)
    assert labels(made, tmp_path) == right and made.problems.cases["unlabelled"].count == 6


def test_a_class_called_like_its_split_stays_one(tmp_path: Path) -> None:
    right = many(tmp_path, "train/{name}/{i}.jpg", names=("exam", "test")) | many(
        tmp_path, "test/{name}/{i}.jpg", (7, 8), names=("test",)
    )
    assert labels(read(tmp_path), tmp_path) == right


def test_categories_of_one_name_are_said(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": path} for n, path in enumerate(many(tmp_path, "{k}{i}.jpg"))]
    objects = [{"image_id": n, "category_id": n // 4} for n in range(len(images))]
    kinds = [{"id": n, "name": name} for n, name in enumerate(("apple", "apple", "lemon", "plum"))]
    write_json(tmp_path / "a.json", {"images": images, "annotations": objects, "categories": kinds})
    made = read(tmp_path)
    assert set(made.names) == {"apple (0)", "apple (1)", "lemon", "plum"}
    assert made.problems.cases["same-name"].examples == [("apple", "0 and 1")]


def test_placeholders_to_evaluate_are_said(tmp_path: Path) -> None:
    right, test = many(tmp_path, "train/{k}{i}.jpg"), many(tmp_path, "test/t{k}{i}.jpg", 2)
    for name, part in (("train", right), ("test", dict.fromkeys(test, "plum"))):
        table(tmp_path / f"{name}.csv", ("id", "label"), *((Path(path).name, label) for path, label in part.items()))
    assert read(tmp_path).problems.cases["one-query-class"].examples == [("plum", "8 queries")]


def test_labels_that_differ_by_characters_that_nobody_sees_are_said(tmp_path: Path) -> None:
    right = many(tmp_path, "img/{k}{i}.jpg")
    rows = ((path, f"\u200b{name}" if "0.jpg" in path else name) for path, name in right.items())
    table(tmp_path / "l.csv", ("image", "label"), *rows)
    assert read(tmp_path).problems.cases["similar-labels"].count == len(NAMES)


def test_numbers_that_may_be_the_names_of_the_other_part_are_said(tmp_path: Path) -> None:
    many(tmp_path, "train/{name}/{i}.jpg"), many(tmp_path, "val/{k}/v{i}.jpg", 2)
    examples = read(tmp_path).problems.cases["other-names"].examples
    assert examples == [("'apple' in training", "'0' in evaluation")]


def test_names_that_do_not_fit_the_numbers_are_said(tmp_path: Path) -> None:
    """Numbers 1, 2 and 4 of five names: do these count from 0 or from 1?"""
    write(tmp_path / "l.txt", list_of(f"{p} {n}" for p, n in many(tmp_path, "{k}{i}.jpg", names="124").items()))
    write(tmp_path / "classes.txt", list_of((*NAMES, "kiwi")))
    assert read(tmp_path).rows.unused["classes.txt"].startswith("the names in it do not fit the numbers")


def test_columns_of_a_list_are_counted_as_they_stand(tmp_path: Path) -> None:
    """Also where the label comes before the path."""
    right = many(tmp_path, "{k}{i}.jpg")
    write(tmp_path / "l.txt", list_of(f"{name},{path}" for path, name in right.items()))
    assert labels(read(tmp_path, columns={"image": "2", "label": "1"}), tmp_path) == right


def test_columns_that_no_table_has_are_named(tmp_path: Path) -> None:
    table(tmp_path / "l.csv", ("file", "breed"), *many(tmp_path, "{k}{i}.jpg").items())
    with pytest.raises(ShituError) as caught:
        read(tmp_path, columns={"label": "Breed"})
    assert caught.value.details == ["not used: l.csv (has no columns Breed, but file, breed)"]


def test_a_class_or_an_image_leads_to_the_folder_above(tmp_path: Path) -> None:
    """As the shell writes data/* and data/*.jpg."""
    many(tmp_path, "data/{name}/{i}.jpg")
    for name, says in (("apple", "if this folder is one class"), ("apple/0.jpg", "if the images of each class")):
        with pytest.raises(ShituError) as caught:
            read(tmp_path / "data", name)
        hint = plain(caught.value.hint or "")
        assert says in hint and str((tmp_path / "data" / name).parent) in hint


def test_a_folder_above_that_may_not_be_listed_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path, "home/mine/{i}.jpg", names=("apple",))
    listed = os.scandir

    def scandir(folder: str | Path) -> object:
        if str(folder).endswith("home"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match="no labelled images in"):
        read(tmp_path / "home", "mine")


@pytest.mark.parametrize("column", ["camera", "track"])
def test_cameras_of_a_long_table_that_is_sorted_by_class_count(column: str, tmp_path: Path) -> None:
    """Of rows far apart, no two are of one class: all of a class seemed to be of one camera."""
    rows = ((f"img/{n:06}.jpg", f"c{n // 3}", n % 3 + n // 3 % 40) for n in range(18_000))
    table(tmp_path / "l.csv", ("image", "label", column), *rows)
    sheet = open_sheet(tmp_path / "l.csv", "l.csv", Problems(), None, lambda path: False)
    assert sheet is not None and sheet.header is not None
    cells = [row for _, row in sheet.sample()]
    columns = Decision(sheet.header, cells, {}, "l.csv", 2).columns(lambda path: False)
    assert columns is not None and columns.id == 2 and not columns.remarks
