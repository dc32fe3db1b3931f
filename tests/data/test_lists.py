from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.data.lists import ImageList, read_label_map, read_list, write_label_map, write_list
from shitu_cli.errors import DataError, UsageError
from shitu_cli.preparation.sources import find_images, images_of_list

NAMES = st.text(st.characters(exclude_characters="\t\n\r\x00", exclude_categories=("Cs",)), min_size=1, max_size=20)


@given(rows=st.lists(st.tuples(NAMES.filter(lambda s: s.strip() == s), st.integers(-1, 10**6)), max_size=20))
def test_what_is_written_is_read(rows: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("lists") / "a.txt"
    write_list(path, ImageList.of([name for name, _ in rows], [label for _, label in rows]))
    read = read_list(path)
    # A mark at the file's start is a byte-order mark, not part of the first name.
    assert [(p, int(v)) for p, v in zip(read.paths(), read.labels, strict=True)] == [
        (name.removeprefix("\ufeff") if n == 0 else name, label) for n, (name, label) in enumerate(rows)
    ]


def test_ids_and_boxes(tmp_path: Path) -> None:
    boxes = np.array([[1, 2, 3.5, 4], [np.nan] * 4], np.float32)
    write_list(tmp_path / "a.txt", ImageList.of(["a b.jpg", "图/二.jpg"], [0, 1], [7, 8], boxes))
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "a b.jpg\t0\t7\t1,2,3.5,4\n图/二.jpg\t1\t8\n"
    read = read_list(tmp_path / "a.txt")
    assert read.ids is not None and read.ids.tolist() == [7, 8]
    assert read.box(0) == (1, 2, 3.5, 4) and read.box(1) is None
    assert read.location(1, Path("/root")) == "/root/图/二.jpg"
    assert read.take([1]).path(0) == "图/二.jpg"


@pytest.mark.parametrize("text", ["a b.jpg 3\nc.jpg 4 9\n", "\ufeffa b.jpg\t3\r\nc.jpg\t4\t9\r\n\r\n"])
def test_other_spellings(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode())
    read = read_list(tmp_path / "a.txt")
    assert read.paths() == ["a b.jpg", "c.jpg"]
    assert read.labels.tolist() == [3, 4]
    assert read.ids is not None and read.ids[1] == 9


def test_all_bad_lines_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("ok.jpg\t1\nno_label\nx.jpg\tred\ny.jpg\t1\t2\t5,5,1,1\n\n")
    with pytest.raises(DataError) as caught:
        read_list(path)
    assert caught.value.message == f"{path}: 3 of 4 lines cannot be read"
    assert caught.value.details == [
        f"{path}:2: expected path and label, got 'no_label'",
        f"{path}:3: label 'red' is not a whole number",
        f"{path}:4: box '5,5,1,1' is not x1,y1,x2,y2 with x1 < x2 and y1 < y2",
    ]


def test_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*no\.txt: No such file"):
        read_list(tmp_path / "no.txt")


def test_label_map(tmp_path: Path) -> None:
    write_label_map(tmp_path / "m.txt", {"b c": 1, "a": 0})
    assert (tmp_path / "m.txt").read_text() == "0\ta\n1\tb c\n"
    assert read_label_map(tmp_path / "m.txt") == {"a": 0, "b c": 1}
    (tmp_path / "m.txt").write_text("0\ta\nx\tb\n1\ta\n")
    with pytest.raises(DataError) as caught:
        read_label_map(tmp_path / "m.txt")
    assert len(caught.value.details) == 2


def test_a_label_map_that_was_edited_names_every_class_once(tmp_path: Path) -> None:
    write_list(tmp_path / "a.txt", ImageList.of(["a.jpg", "b.jpg", "c.jpg"], [0, 1, -1]))
    (tmp_path / "label_map.txt").write_text("0\tapple\n")
    with pytest.raises(DataError, match="has no name for the labels 1 of"):
        images_of_list(tmp_path / "a.txt", ".")
    (tmp_path / "label_map.txt").write_text("0\tapple\n1\tpear\n")
    assert images_of_list(tmp_path / "a.txt", ".").labels == ["apple", "pear", ""]
    (tmp_path / "label_map.txt").write_text("0\tapple\n1\tpear\n1\tplum\n")
    with pytest.raises(DataError, match="the label 1 has two names, 'pear' and 'plum'"):
        images_of_list(tmp_path / "a.txt", ".")
    with pytest.raises(UsageError, match="is a list of classes, not of images"):
        find_images([str(tmp_path / "label_map.txt")])


def test_the_line_of_an_image_counts_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa.jpg\t0\n\n \r\nb.jpg\t-1\r\n")
    images = read_list(tmp_path / "a.txt")
    assert [images.place(index) for index in range(len(images))] == [f"{tmp_path / 'a.txt'}:{line}" for line in (1, 4)]
