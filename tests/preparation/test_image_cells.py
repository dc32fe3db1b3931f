"""Cells that name several images, matches instead of a class, and folders whose names end like those of images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import shitu
from tests.preparation.annotation_trees import write_json
from tests.preparation.builders import assert_asked, assert_read, builders
from tests.preparation.test_formats import write
from tests.preparation.test_layouts import Labels, many, table

FOLDER = "scans.png export"


def matches(root: Path) -> list[tuple[str, list[str]]]:
    """Draw images; return the first of each class with the names of the others, which match it."""
    names = [Path(path).name for path in many(root, "img/{name}_{i}.jpg")]
    return [(names[n], names[n + 1 : n + 4]) for n in range(0, len(names), 4)]


# --- Refused ---


def matches_as_a_list_of_python(root: Path) -> tuple[str, ...]:
    table(root / "pairs.csv", ("query", "matches"), *((query, f'"{others}"') for query, others in matches(root)))
    return (
        "pairs.csv: its column matches names images that belong together, where each image needs a class",
        "matches = \"['apple_1.jpg', 'apple_2.jpg', 'apple_3.jpg']\"",
        "a row for each image",
    )


def matches_without_suffix(root: Path) -> tuple[str, ...]:
    rows = ((query[:-4], " ".join(name[:-4] for name in others)) for query, others in matches(root))
    table(root / "pairs.csv", ("query", "relevant"), *rows)
    return ("its column relevant names images",)


def matches_of_all_images_with_themselves(root: Path) -> tuple[str, ...]:
    """As of Shopee: the cells of a class would be equal, if they had one order."""
    rows = ((name, " ".join([query, *others])) for query, others in matches(root) for name in [query, *others])
    table(
        root / "pairs.csv", ("posting_id", "matches"), *((name[:-4], cell.replace(".jpg", "")) for name, cell in rows)
    )
    return ("its column matches names images",)


def matches_of_numbers(root: Path) -> tuple[str, ...]:
    many(root, "img/{k}{i}.jpg")
    table(root / "t.csv", ("image", "positives"), *((f"{k}0", f"{k}1 {k}2") for k in range(4)))
    return ("its column positives names images",)


def matches_in_json(root: Path) -> tuple[str, ...]:
    write_json(root / "gt.json", dict(matches(root)))
    return ("gt.json: its column label names images",)


def matches_in_lines_of_json(root: Path) -> tuple[str, ...]:
    lines = (json.dumps({"query": query, "positives": others}) for query, others in matches(root))
    write(root / "gt.jsonl", "".join(f"{line}\n" for line in lines))
    return ("gt.jsonl: its column positives names images",)


def several_images_in_the_cells_of_a_product(root: Path) -> tuple[str, ...]:
    rows = ((f"img/{query} img/{others[0]}", query[:-6]) for query, others in matches(root))
    table(root / "t.csv", ("image", "label"), *rows)
    return ("its column image names several images in one cell", "img/apple_0.jpg img/apple_1.jpg")


# --- Read ---


def several_labels_that_are_numbers_as_the_images(root: Path) -> Labels:
    right = {path: f"{path[4]} {int(path[4]) + 4}" for path in many(root, "img/{k}{i}.jpg")}
    for n in range(10):
        right |= dict.fromkeys(many(root, f"img/{n}.jpg", 1, ("x",)), f"{n % 4} {n % 4 + 4}")
    table(root / "t.csv", ("image", "tags"), *right.items())
    return right


def a_class_named_after_an_image(root: Path) -> Labels:
    right = many(root, "{name}.jpg", 1) | many(root, "{name}_{i}.jpg", 3)
    table(root / "t.csv", ("image", "label"), *right.items())
    return right


def a_table_with_a_folder_that_ends_like_an_image(root: Path) -> Labels:
    right = many(root, FOLDER + "/{k}{i}.jpg")
    table(root / "t.csv", ("image", "label"), *right.items())
    return right


def a_list_with_such_a_folder_on_another_machine(root: Path) -> Labels:
    right = many(root, FOLDER + "/{k}{i}.jpg")
    write(root / "t.txt", "".join(f"/home/ann/{path} {name}\n" for path, name in right.items()))
    return right


def classes_that_end_like_images(root: Path) -> Labels:
    return {path: f"{name}.jpg" for path, name in many(root, "photos.jpg/{name}.jpg/{i}.jpg").items()}


@pytest.mark.parametrize("build", builders(globals(), "tuple[str, ...]"))
def test_it_is_refused(build: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    assert_asked(build, tmp_path)


@pytest.mark.parametrize("build", builders(globals(), "Labels"))
def test_it_is_read(build: Callable[[Path], Labels], tmp_path: Path) -> None:
    assert_read(build, tmp_path)


def test_an_image_that_is_missing_in_such_a_folder_is_called_missing(tmp_path: Path) -> None:
    right = many(tmp_path / "data", FOLDER + "/{k}{i}.jpg")
    table(tmp_path / "data/t.csv", ("image", "label"), *right.items(), (f"{FOLDER}/99.jpg", "apple"))
    done = shitu("prepare", "data", "--json", cwd=tmp_path, check=False)
    problems = {item["kind"]: item["examples"][0]["where"] for item in json.loads(done.stdout)["problems"]}
    assert done.returncode == 3 and problems == {"missing": f"data/t.csv:18 ({FOLDER}/99.jpg)"}


def test_a_folder_that_ends_like_an_image_is_no_image(tmp_path: Path) -> None:
    many(tmp_path / "photos.jpg", "{name}/{i}.jpg")
    assert "16 labelled images" in shitu("prepare", "photos.jpg/", cwd=tmp_path).stdout
    (tmp_path / "none.jpg/notes").mkdir(parents=True)
    (tmp_path / "none.jpg/notes/a.bin").write_bytes(b"a")
    assert "is an image" not in shitu("prepare", "none.jpg", "-w", "none", cwd=tmp_path, check=False).stderr
