"""Names of classes: one for each class, on one line, and the same class of the same name in several sources."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from shitu_cli.data.lists import parse_label_map
from shitu_cli.preparation.formats import read_source
from shitu_cli.preparation.formats.base import Rows
from shitu_cli.preparation.formats.labelnames import tidy_names
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.table_lines import class_name
from shitu_cli.preparation.prepare import Choices, read_and_split
from shitu_cli.preparation.problems import Problems
from shitu_cli.reporting import SilentReporter
from tests.command import shitu
from tests.preparation.test_formats import draw, write


def numbered(folder: Path, *classes: tuple[str, str], each: int = 2) -> Path:
    """A table of images with the number and the name of their class."""
    rows = ["file,category_id,category"]
    for number, name in classes:
        for n in range(each):
            draw(folder / f"{number}_{n}.jpg")
            rows.append(f"{number}_{n}.jpg,{number},{name}")
    write(folder / "items.csv", "\n".join(rows) + "\n")
    return folder


def test_numbers_of_two_tables_mean_what_each_calls_them(tmp_path: Path) -> None:
    sources = [
        numbered(tmp_path / "a", ("1", "Kiwi"), ("2", "Leek")),
        numbered(tmp_path / "b", ("1", "Leek"), ("2", "Plum")),
    ]
    made = read_and_split(sources, Choices(split="none", quick=True), SilentReporter())
    assert made.names == {"Kiwi": 0, "Leek": 1, "Plum": 2}
    label_of = dict(zip(made.train.paths(), made.train.labels.tolist(), strict=True))
    assert label_of["a/1_0.jpg"] == 0 and label_of["a/2_0.jpg"] == label_of["b/1_0.jpg"] == 1
    apart = read_and_split(sources, Choices(split="none", quick=True, keep_apart=True), SilentReporter())
    assert sorted(apart.names) == ["a/Kiwi", "a/Leek", "b/Leek", "b/Plum"]


def test_two_numbers_of_one_name_stay_two_classes() -> None:
    rows, problems = Rows(Path()), Problems()
    for label in ("1", "2", "3", "other"):
        rows.add(f"{label}.jpg", label)
    rows.display = {"1": "other", "2": "pear", "3": "other"}
    tidy_names(rows, problems)
    assert [rows.shown(label) for label in rows.labels] == ["other (1)", "pear", "other (3)", "other"]
    assert problems.cases["same-name"].examples == [("other", "1 and 3 and other")]


def test_line_breaks_in_cells_do_not_break_the_label_map(tmp_path: Path) -> None:
    rows = [f'{name}{n}.jpg,"{name}\nfruit"' for name in ("red", "green") for n in range(3)]
    for row in rows:
        draw(tmp_path / "data" / row.partition(",")[0])
    write(tmp_path / "data" / "items.csv", "image,label\n" + "\n".join(rows) + "\n")
    _, read = read_source(Source(tmp_path / "data"), problems := Problems())
    assert set(read.labels) == {"red fruit", "green fruit"} and problems.cases["broken-name"].count == 2
    done = shitu("prepare", "data", "-w", "work", cwd=tmp_path)
    assert "a line break in the name of a class" in " ".join(done.stdout.split())
    text = (tmp_path / "work/lists/label_map.txt").read_text()
    assert parse_label_map(text, "label_map.txt") == {"green fruit": 0, "red fruit": 1}


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_lines_that_end_as_other_systems_end_them(end: str, tmp_path: Path) -> None:
    names = [f"{kind}{n}.jpg" for kind in ("cat", "dog") for n in range(2)]
    for name in names:
        draw(tmp_path / name)
    write(tmp_path / "labels.csv", end.join(["image,label", *(f"{name},{name[:3]}" for name in names)]))
    _, rows = read_source(Source(tmp_path), Problems())
    assert rows.labels == ["cat", "cat", "dog", "dog"] and list(rows.lines) == [2, 3, 4, 5]


def test_images_that_a_table_does_not_name_are_counted(tmp_path: Path) -> None:
    numbered(tmp_path, ("1", "Kiwi"), ("2", "Leek"))
    draw(tmp_path / "new.jpg")
    _, rows = read_source(Source(tmp_path), Problems())
    assert rows.unused == {"new.jpg": "an image that no list names"}


def test_a_class_in_a_list_is_called_by_its_name(tmp_path: Path) -> None:
    """JSON has lists where images may have several labels, and so has what pandas writes of them."""
    labels = [["cat"], ["cat", "sleeping"], ["Moe's dog"], []]
    for n in range(4):
        draw(tmp_path / "json" / f"{n}.jpg")
        draw(tmp_path / "csv" / f"{n}.jpg")
    write(tmp_path / "json/a.json", json.dumps([{"image": f"{n}.jpg", "labels": labels[n]} for n in range(4)]))
    write(tmp_path / "csv/a.csv", "image,labels\n" + "".join(f'{n}.jpg,"{labels[n]}"\n' for n in (0, 1, 3)))
    for name, right in (("json", ["cat", "cat, sleeping", "Moe's dog"]), ("csv", ["cat", "cat, sleeping"])):
        _, rows = read_source(Source(tmp_path / name), problems := Problems())
        assert rows.labels == right and problems.cases["malformed"].count == 1, name


@pytest.mark.parametrize("cell", ["[{{}}]", "[{{name}}]", "['a", "[" + "-" * 1900 + "1]"])
def test_a_cell_that_only_looks_like_a_list_is_the_name_of_a_class(cell: str) -> None:
    assert class_name(cell) == cell


def test_a_backslash_in_a_list_of_names_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert class_name(r"['red\wine']") == r"red\wine"
