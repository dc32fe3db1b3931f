"""JSON without a format of its own: lists of records, maps of images, images by class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import DataError, ShituError, UsageError
from shitu_cli.preparation.formats import find_format
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from tests.mutations import cases
from tests.preparation.annotation_trees import boxes, draw_all, kinds, labels, read, splits, write, write_json

PAIRS = {f"{n}.jpg": ("cat", "dog")[n % 2] for n in range(6)}
EXPECTED = {f"images/{name}": label for name, label in PAIRS.items()}
RECORDS = [
    {"image": name, "label": label, "width": 64, "note": f"taken {n}"} for n, (name, label) in enumerate(PAIRS.items())
]
SHAPES = {
    "a list": RECORDS,
    "under a key": {"version": 1, "images": RECORDS},
    "a map": PAIRS,
    "a map of objects": {name: {"label": label, "width": 64} for name, label in PAIRS.items()},
    "by class": {label: [name for name in PAIRS if PAIRS[name] == label] for label in ("cat", "dog")},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_table(shape: str, tmp_path: Path) -> None:
    draw_all(tmp_path / "images", *PAIRS)
    write_json(tmp_path / "labels.json", SHAPES[shape])
    rows, problems = read(tmp_path, "table")
    assert labels(rows) == EXPECTED and not kinds(problems)
    assert rows.where(3) == f"{tmp_path}/labels.json: entry 4"
    assert rows.readings[0].startswith("labels.json: image = image, class = label")


def test_lines_keep_their_numbers(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", *PAIRS)
    lines = [json.dumps(record) for record in RECORDS]
    write(tmp_path / "train.jsonl", "\n".join([lines[0], "", "{broken", *lines[1:]]))
    rows, problems = read(tmp_path, "table")
    assert labels(rows) == EXPECTED
    assert rows.where(1) == f"{tmp_path}/train.jsonl:4"
    assert problems.cases["bad-annotation"].examples[0][0] == f"{tmp_path}/train.jsonl:3"


def test_files_of_splits(tmp_path: Path) -> None:
    for part, names in (("train", ("0.jpg", "1.jpg")), ("test", ("2.jpg", "3.jpg"))):
        draw_all(tmp_path / part, *names)
        write_json(tmp_path / f"{part}.json", {name: PAIRS[name] for name in names})
    assert splits(read(tmp_path, "table")[0]) == {
        "train/0.jpg": "train", "train/1.jpg": "train", "test/2.jpg": "test", "test/3.jpg": "test"
    }  # fmt: skip


def test_two_candidates_are_refused_and_the_one_named_is_read(tmp_path: Path) -> None:
    draw_all(tmp_path, *PAIRS)
    records = [{"image": name, "brand": label, "colour": "br"[n // 3]} for n, (name, label) in enumerate(PAIRS.items())]
    write_json(tmp_path / "x.json", records)
    with pytest.raises(UsageError, match=r"x\.json.*brand.*colour|brand.*colour") as error:
        read(tmp_path, "table")
    assert "--columns" in (error.value.hint or "") + " ".join(error.value.details)
    assert labels(read(tmp_path, "table", columns={"image": "image", "label": "brand"})[0]) == PAIRS


def test_boxes_in_a_list_of_four_that_fit_one_way_only(tmp_path: Path) -> None:
    draw_all(tmp_path, *PAIRS)
    write_json(tmp_path / "x.json", [{"image": n, "label": c, "bbox": [30, 20, 30, 25]} for n, c in PAIRS.items()])
    assert boxes(read(tmp_path, "table")[0])["0.jpg"] == [("cat", 30, 20, 60, 45)]


@pytest.mark.parametrize("value", [[1, 2], {"a": {"b": 1}}, [], {}, "x.jpg", [{"x": "a.jpg"}]])
def test_json_of_another_shape_named_alone_is_refused(value: Any, tmp_path: Path) -> None:
    draw_all(tmp_path, *PAIRS)
    with pytest.raises(ShituError):
        read(write_json(tmp_path / "x.json", value), "table")


def test_other_json_beside_class_folders_changes_nothing(tmp_path: Path) -> None:
    draw_all(tmp_path, "cat/1.jpg", "dog/2.jpg")
    write_json(tmp_path / "package.json", {"name": "pets", "icon": "icon.png", "files": [{"src": "cat/1.jpg"}]})
    write(tmp_path / "broken.json", "{")
    assert labels(read(tmp_path, "class-tree")[0]) == {"cat/1.jpg": "cat", "dog/2.jpg": "dog"}


def test_hostile_json_named_alone_ends_in_an_error_that_names_it(tmp_path: Path) -> None:
    draw_all(tmp_path, *PAIRS)
    for text in ("[" * 100_000, '[{"image": "0.jpg", "label": NaN}]', '{"0.jpg": ' + "9" * 5000 + "}"):
        with pytest.raises(DataError, match=r"x\.json"):
            read(write(tmp_path / "x.json", text), "table")


KEYS = st.sampled_from(["image", "label", "bbox", *PAIRS])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.sampled_from(list(PAIRS))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.one_of(st.sampled_from(["image", "label", "bbox", *PAIRS]), st.text(max_size=4)), inner, max_size=5
        ),
    ),
    max_leaves=20,
)


@cases(25)
@given(value=VALUES)
def test_any_json_ends_in_rows_or_in_an_error_of_ours(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "records"
    if not root.exists():
        draw_all(root, *PAIRS)
    write_json(root / "x.json", value)
    for path in (root, root / "x.json"):
        source = Source(path)
        try:
            rows = find_format(source).read(source, Problems())
        except ShituError:
            continue
        assert all(rows.labels)
