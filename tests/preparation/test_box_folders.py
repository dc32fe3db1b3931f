"""Boxes called `product` or the like in folders of products: what is asked, and each of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_asked, builders
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import NAMES, labels, many, read

SIZE = (40, 36)  # of the images


def voc(root: Path, pattern: str, names: Callable[[str], tuple[str, ...]], aside: str = "") -> dict[str, str]:
    """Draw images with an .xml of a box of each name beside them, or in the folder `aside` instead of the first one."""
    right = many(root, pattern)
    for path in right:
        objects = "".join(
            f"<object><name>{name}</name><bndbox><xmin>{n}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
            "</object>"
            for n, name in enumerate(names(path))
        )
        place = f"{aside}/{path.partition('/')[2]}" if aside else path
        head = f"<filename>{path}</filename><size><width>{SIZE[0]}</width><height>{SIZE[1]}</height></size>"
        write((root / place).with_suffix(".xml"), f"<annotation>{head}{objects}</annotation>")
    return right


def product_and_price(path: str) -> tuple[str, ...]:
    return ("product", "price") if "1." in path else ("product",)


def voc_beside_the_images(root: Path) -> tuple[str, ...]:
    voc(root, "{name}/{i}.jpg", product_and_price)
    return (
        "its boxes are called 'product' (16), 'price' (4), its folders apple, lemon, pear, ...: which of the two",
        "apple/0.xml: object 1: a box in apple/0.jpg is 'product'",
        "--depth 1 if the folders are",
        "--format class-tree if whole images",
        "--format voc if the names of the boxes",
    )


def voc_in_a_folder_of_annotations(root: Path) -> tuple[str, ...]:
    voc(root, "JPEGImages/{name}/{name}{i}.jpg", lambda path: ("object", "Item"), "Annotations")
    return ("'object' (16), 'Item' (16)", "apple, lemon", "--depth 1")


def coco_of_splits(root: Path) -> tuple[str, ...]:
    right = many(root, "train/{name}/{name}{i}.jpg")
    images = [{"id": n, "file_name": path, "width": SIZE[0], "height": SIZE[1]} for n, path in enumerate(right)]
    boxes = [{"image_id": n, "category_id": 1 + n % 2, "bbox": [2, 2, 20, 20], "id": n} for n in range(len(right))]
    names = [{"id": 1, "name": "商品"}, {"id": 2, "name": "sku2"}]
    write_json(root / "all.json", {"images": images, "annotations": boxes, "categories": names})
    return ("which of the two are the classes", "--format coco")


@pytest.mark.parametrize("build", builders(globals(), "tuple[str, ...]"))
def test_boxes_that_are_only_products_are_asked_about(build: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    assert_asked(build, tmp_path)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [("shop{k}/{name}{i}.jpg", lambda path: NAMES[int(path[4])]), ("{name}/{i}.jpg", lambda path: f"{path[0]} box")],
    ids=["folders of shops", "boxes with names"],
)
def test_names_of_boxes_and_folders_that_leave_no_doubt(
    pattern: str, name: Callable[[str], str], tmp_path: Path
) -> None:
    voc(tmp_path, pattern, lambda path: (name(path),))
    assert set(read(tmp_path).names) == {name(path) for path in many(tmp_path, pattern)}


def test_general_names_in_folders_without_names_of_their_own(tmp_path: Path) -> None:
    voc(tmp_path, "batch_{k}/{name}{i}.jpg", lambda path: ("object", "item"))
    assert set(read(tmp_path).names) == {"object", "item"}


def test_each_answer_is_read_as_it_says(tmp_path: Path) -> None:
    data = tmp_path / "data"
    right = voc(data, "train/{name}/{i}.jpg", product_and_price)
    done = shitu("prepare", "data", "--depth", "1", cwd=tmp_path)
    said = " ".join(done.stdout.split())
    assert "classes: the folders (4 classes), as train/apple/0.jpg is apple; the names of the boxes" in said
    made = read(data, depth=1)
    assert labels(made, data) == right and len(made.rows.boxes) == 20
    assert Counter(made.rows.labels) == dict.fromkeys(NAMES, 5)
    shitu("prepare", "data", "--format", "voc", "-w", "boxes", cwd=tmp_path)
    assert (tmp_path / "boxes/lists/label_map.txt").read_text() == "0\tprice\n1\tproduct\n"
    shitu("prepare", "data", "--format", "class-tree", "-w", "whole", cwd=tmp_path)
    assert len((tmp_path / "whole/lists/label_map.txt").read_text().splitlines()) == 4


def test_images_outside_of_the_folders_are_told(tmp_path: Path) -> None:
    voc(tmp_path, "{name}/{i}.jpg", product_and_price)
    voc(tmp_path, "{name}.jpg", product_and_price)
    made = read(tmp_path, depth=1)
    assert set(made.names) == set(NAMES) and made.problems.cases["unlabelled"].count == 4
