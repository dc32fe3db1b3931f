"""What all readers of annotations have in common: two images, a cat and a dog, in the words of each tool."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.errors import ShituError
from shitu_cli.preparation.formats import FORMATS, find_format
from shitu_cli.preparation.formats.base import ANNOTATIONS
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems
from tests.mutations import cases
from tests.preparation.annotation_samples import PIXELS, SAMPLES
from tests.preparation.annotation_trees import draw, kinds, read


def test_every_format_of_annotations_has_a_sample() -> None:
    assert {f.name for f in FORMATS if f.rank == ANNOTATIONS} == SAMPLES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_cat_and_a_dog(name: str, tmp_path: Path) -> None:
    SAMPLES[name](tmp_path)
    rows, problems = read(tmp_path, name)
    assert sorted(zip(rows.labels, (path.rpartition("/")[2] for path in rows.paths), strict=True)) == [
        ("cat", "a.jpg"),
        ("dog", "b.jpg"),
    ]
    assert [rows.boxes[n] for n in (0, 1)] == [PIXELS, PIXELS]
    assert kinds(problems) in ({}, {"no-split": 1})
    assert rows.readings and rows.label_files
    assert all((tmp_path / file).is_file() for file in rows.label_files)


@pytest.mark.parametrize("name", SAMPLES)
def test_only_its_own_reader_recognises_a_tree(name: str, tmp_path: Path) -> None:
    SAMPLES[name](tmp_path)
    source = Source(tmp_path)
    assert [f.name for f in FORMATS if f.rank <= ANNOTATIONS and f.detect(source)] == [name]


@pytest.mark.parametrize("name", SAMPLES)
def test_an_image_that_is_gone_is_named(name: str, tmp_path: Path) -> None:
    SAMPLES[name](tmp_path)
    next(tmp_path.rglob("b.jpg")).unlink()
    source, problems = Source(tmp_path), Problems()
    chosen = next(f for f in FORMATS if f.name == name)
    rows = chosen.read(source, problems)
    assert rows.labels == ["cat"]
    if name != "yolo":  # its label files are found by the names of the images
        assert "b" in problems.cases["missing"].examples[0][1]


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - {"yolo", "plain-table"}))
def test_turned_or_resized_images_are_no_silent_error(name: str, tmp_path: Path) -> None:
    """A stated size that is not the image's is reported; where none is stated, `prepare` judges the boxes."""
    SAMPLES[name](tmp_path)
    for path in tmp_path.rglob("*.jpg"):
        draw(path, (24, 32))
    source, problems = Source(tmp_path), Problems()
    try:
        rows = next(f for f in FORMATS if f.name == name).read(source, problems)
    except ShituError:
        return
    stated = name in ("coco", "voc", "labelme", "cvat", "labelstudio", "groundtruth", "supervisely", "box-table")
    assert not stated or (len(rows) == 0 and kinds(problems) == {"other-size": 2})


TOKENS = st.sampled_from(
    [
        *(b"null", b"[]", b"{}", b'""', b"0", b"-1", b"1e400", b"NaN", b"true", b'"a.jpg"', b"9" * 50, b"0.5", b"3.0"),
        *(b"\0", b"\n", b",", b"\xff", b"<x>", b"&amp;", b"</annotation>", b"[" * 70, b"\xef\xbb\xbf", b"..", b"/etc/"),
        *(
            b"cat",
            "红".encode("gb18030"),
            b'{"x": [1, {"y": 2}]}',
            b"nan",
            b"inf",
            b"-0.5",
            b":",
            b"'",
            b'"',
            b"*a",
            b"!!int",
        ),
    ]
)
EDITS = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 40), st.one_of(TOKENS, st.binary(max_size=8))), max_size=6
)


def spoilt(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Data with stretches replaced: (place, length, by what)."""
    for place, length, by in edits:
        at = place % (len(data) + 1)
        data = data[:at] + by + data[at + length :]
    return data


@pytest.mark.parametrize("name", SAMPLES)
@cases(20)
@given(edits=EDITS, which=st.integers(0, 9))
def test_any_bytes_end_in_rows_or_in_an_error_of_ours(
    name: str, edits: list[tuple[int, int, bytes]], which: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / f"fuzz-{name}"
    files = SAMPLES[name](root)
    file = files[which % len(files)]
    file.write_bytes(spoilt(file.read_bytes(), edits))
    source = Source(root)
    try:
        find_format(source)
        rows = next(f for f in FORMATS if f.name == name).read(source, Problems())
    except ShituError:
        return
    for number, path in enumerate(rows.paths):
        assert (rows.root / path).resolve().is_relative_to(root.resolve())
        assert rows.labels[number].strip()
        box = rows.boxes.get(number)
        assert box is None or (box[0] <= box[2] and box[1] <= box[3] and all(abs(v) < 1e9 for v in box))


@pytest.mark.parametrize(
    ("suffix", "text"), [(".txt", "apple"), (".json", '{"label": "apple"}'), (".xml", "<x>apple</x>")]
)
def test_files_beside_every_image_that_nobody_reads_are_said(suffix: str, text: str, tmp_path: Path) -> None:
    for number, batch in enumerate(("b1", "b1", "b2", "b2")):
        draw(tmp_path / batch / f"{number}.jpg").with_suffix(suffix).write_text(text)
    rows, problems = read(tmp_path, "class-tree")
    first = f"b1/0{suffix}"
    assert "one of 4" in rows.unused[first] and "apple" in rows.unused[first]
    assert problems.cases["unread-list"].examples[0][0] == str(tmp_path / first)
