from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import DataError
from tests.preparation.annotation_trees import boxes, draw_all, kinds, read, splits, voc, write


def test_the_devkit_with_its_splits(tmp_path: Path) -> None:
    draw_all(tmp_path / "VOC2012/JPEGImages", "2007_1.jpg", "2007_2.jpg", "2007_3.jpg", "2007_4.jpg")
    for n in (1, 2, 3, 4):
        write(tmp_path / f"VOC2012/Annotations/2007_{n}.xml", voc(f"2007_{n}.jpg", ("cat", 4, 6, 34, 26)))
    sets = tmp_path / "VOC2012/ImageSets/Main"
    write(sets / "train.txt", "2007_1\n2007_2\n")
    write(sets / "val.txt", "2007_3\n")
    write(sets / "trainval.txt", "2007_1\n2007_2\n2007_3\n")
    write(sets / "cat_train.txt", "2007_1  1\n2007_2 -1\n")
    rows, problems = read(tmp_path, "voc")
    assert splits(rows) == {
        "VOC2012/JPEGImages/2007_1.jpg": "train",
        "VOC2012/JPEGImages/2007_2.jpg": "train",
        "VOC2012/JPEGImages/2007_3.jpg": "val",
    }
    assert boxes(rows)["VOC2012/JPEGImages/2007_1.jpg"] == [("cat", 4, 6, 34, 26)]
    assert kinds(problems) == {"unlisted": 1}


def test_trainval_alone_is_training(tmp_path: Path) -> None:
    draw_all(tmp_path / "JPEGImages", "a b.jpg", "c.jpg")
    for stem in ("a b", "c"):
        write(tmp_path / f"Annotations/{stem}.xml", voc(f"{stem}.jpg", ("cat", 4, 6, 34, 26)))
    write(tmp_path / "ImageSets/Main/trainval.txt", "a b\n")
    write(tmp_path / "ImageSets/Main/test.txt", "c\n")
    assert splits(read(tmp_path, "voc")[0]) == {"JPEGImages/a b.jpg": "train", "JPEGImages/c.jpg": "test"}


def test_lists_of_paddle_detection(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "road0.png", "road1.png")
    for n in (0, 1):
        write(tmp_path / f"annotations/road{n}.xml", voc(f"road{n}.png", ("stop", 4, 6, 34, 26)))
    write(tmp_path / "train.txt", "./images/road0.png ./annotations/road0.xml\n")
    write(tmp_path / "valid.txt", "./images/road1.png ./annotations/road1.xml\n")
    write(tmp_path / "label_list.txt", "stop\n")
    assert splits(read(tmp_path, "voc")[0]) == {"images/road0.png": "train", "images/road1.png": "val"}


def test_labelimg_beside_images_of_the_same_names_in_two_folders(tmp_path: Path) -> None:
    for batch, label in (("b1", "cat"), ("b2", "dog")):
        draw_all(tmp_path / batch, "0.jpg")
        write(tmp_path / batch / "0.xml", voc("0.jpg", (label, 4, 6, 34, 26)))
    assert boxes(read(tmp_path, "voc")[0]) == {
        "b1/0.jpg": [("cat", 4, 6, 34, 26)],
        "b2/0.jpg": [("dog", 4, 6, 34, 26)],
    }


def test_kaggle_with_a_filename_that_is_nowhere(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "apple_1.jpg")
    write(tmp_path / "annotations/apple_1.xml", voc("IMG_2871.jpg", ("apple", 4, 6, 34, 26)))
    assert list(boxes(read(tmp_path, "voc")[0])) == ["images/apple_1.jpg"]


def test_an_xml_of_its_own_name_names_its_image(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "apple_1.jpg")
    write(tmp_path / "annotations/0001.xml", voc("apple_1.jpg", ("apple", 4, 6, 34, 26)))
    assert list(boxes(read(tmp_path, "voc")[0])) == ["images/apple_1.jpg"]


def test_an_xml_that_lies_beside_one_image_and_names_another_is_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "a.xml", voc("b.jpg", ("cat", 4, 6, 34, 26)))
    rows, problems = read(tmp_path, "voc")
    assert not len(rows)
    where, detail = problems.cases["bad-annotation"].examples[0]
    assert where.endswith("a.xml") and "a.jpg" in detail and "b.jpg" in detail


def test_stanford_dogs_without_suffix(tmp_path: Path) -> None:
    draw_all(tmp_path / "Images/n02-Chihuahua", "n02_10074.jpg")
    write(tmp_path / "Annotation/n02-Chihuahua/n02_10074", voc("n02_10074", ("Chihuahua", 4, 6, 34, 26)))
    assert list(boxes(read(tmp_path, "voc")[0])) == ["Images/n02-Chihuahua/n02_10074.jpg"]


def test_polygons_and_turned_boxes(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    polygon = "<polygon><x1>4</x1><y1>6</y1><x2>34</x2><y2>6</y2><x3>34</x3><y3>26</y3></polygon>"
    turned = "<robndbox><cx>30</cx><cy>20</cy><w>20</w><h>10</h><angle>1.5707963</angle></robndbox>"
    objects = f"<object><name>p</name>{polygon}</object><object><name>t</name>{turned}</object>"
    write(tmp_path / "a.xml", f"<annotation><filename>a.jpg</filename>{objects}</annotation>")
    assert boxes(read(tmp_path, "voc")[0])["a.jpg"] == [("p", 4, 6, 34, 26), ("t", 25, 10, 35, 30)]


def test_upside_down_empty_and_missing_boxes_are_named(tmp_path: Path) -> None:
    draw_all(tmp_path, *(f"{n}.jpg" for n in "abcd"))
    write(tmp_path / "a.xml", voc("a.jpg", ("cat", 34, 6, 4, 26)))
    write(tmp_path / "b.xml", "<annotation><object><name>cat</name></object></annotation>")
    write(tmp_path / "c.xml", voc("c.jpg"))
    write(tmp_path / "d.xml", voc("d.jpg", ("", 4, 6, 34, 26)))
    write(tmp_path / "e.xml", voc("e.jpg", ("cat", 4, 6, 34, 26)))
    draw_all(tmp_path, "f.jpg")
    write(tmp_path / "f.xml", voc("f.jpg", *[("cat", 4, 6, 34 + n, 26) for n in range(9)]))
    rows, problems = read(tmp_path, "voc")
    assert set(rows.paths) == {"f.jpg"}
    assert {name: found.count for name, found in problems.cases.items()} == {
        "bad-box": 1, "bad-annotation": 2, "no-objects": 1, "missing": 1
    }  # fmt: skip
    assert "object 1" in problems.cases["bad-box"].examples[0][0]


def test_an_image_resized_since_is_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "a.xml", voc("a.jpg", ("cat", 4, 6, 34, 26), size=(128, 96)))
    assert kinds(read(tmp_path, "voc")[1]) == {"other-size": 1}


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize("text", [BOMB + "<annotation><filename>&b;</filename></annotation>", "<annotation><object>"])
def test_broken_and_hostile_xml_is_reported(tmp_path: Path, text: str) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path / "a.xml", voc("a.jpg", ("cat", 4, 6, 34, 26)))
    write(tmp_path / "b.xml", text)
    rows, problems = read(tmp_path, "voc")
    assert len(rows) == 1
    assert "b.xml" in problems.cases["bad-annotation"].examples[0][0]


def test_deep_xml_ends(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "a.xml", "<annotation>" + "<x>" * 200_000 + "</x>" * 200_000 + "</annotation>")
    assert kinds(read(tmp_path, "voc")[1]) in ({}, {"bad-annotation": 1})


def test_a_folder_without_xml_is_said(tmp_path: Path) -> None:
    from shitu_cli.preparation.formats.source import Source
    from shitu_cli.preparation.formats.voc import VOC
    from shitu_cli.preparation.problems import Problems

    with pytest.raises(DataError, match=r"no \.xml"):
        VOC.read(Source(tmp_path), Problems())


@pytest.mark.parametrize(("declared", "codec"), [("GB2312", "gbk"), ("gb18030", "gb18030"), ("Shift_JIS", "cp932")])
def test_encodings_of_several_bytes(declared: str, codec: str, tmp_path: Path) -> None:
    """As tools write on Windows in China and Japan; Python's parser knows none of them."""
    draw_all(tmp_path, "a.jpg")
    text = f'<?xml version="1.0" encoding="{declared}"?>' + voc("a.jpg", ("果", 4, 6, 34, 26))
    (tmp_path / "a.xml").write_bytes(text.encode(codec))
    assert boxes(read(tmp_path, "voc")[0]) == {"a.jpg": [("果", 4, 6, 34, 26)]}


def test_an_encoding_that_is_not_stated_is_to_be_said(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    (tmp_path / "a.xml").write_bytes(voc("a.jpg", ("果", 4, 6, 34, 26)).encode("gbk"))
    _, problems = read(tmp_path, "voc")
    assert "nor is it UTF-8: say its encoding" in problems.cases["bad-annotation"].examples[0][0]
