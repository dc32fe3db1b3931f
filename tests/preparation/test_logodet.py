from __future__ import annotations

from pathlib import Path

from tests.preparation.annotation_trees import boxes, draw_all, kinds, read, voc, write


def test_one_kind_alone_has_the_same_classes(tmp_path: Path) -> None:
    draw_all(tmp_path / "Food", "Acme-1/1.jpg", "Cream of Wheat/1.jpg", "Cream of Wheat/2.jpg")
    write(tmp_path / "Food/Acme-1/1.xml", voc("1.jpg", ("acme", 4, 6, 34, 26)))
    write(tmp_path / "Food/Cream of Wheat/1.xml", voc("1.jpg", ("CreamOfWheat", 4, 6, 34, 26)))
    rows, problems = read(tmp_path / "Food", "logodet3k")
    assert boxes(rows) == {
        "Food/Acme-1/1.jpg": [("Food/Acme-1", 4, 6, 34, 26)],
        "Food/Cream of Wheat/1.jpg": [("Food/Cream of Wheat", 4, 6, 34, 26)],
    }
    assert kinds(problems) == {"no-annotation": 1}


def test_other_boxes_in_a_folder_called_food_are_read_by_their_names(tmp_path: Path) -> None:
    draw_all(tmp_path / "Food", "batch1/1.jpg")
    write(tmp_path / "Food/batch1/1.xml", voc("1.jpg", ("apple", 4, 6, 34, 26)))
    assert boxes(read(tmp_path / "Food", "voc")[0]) == {"batch1/1.jpg": [("apple", 4, 6, 34, 26)]}


def test_broken_xml_is_named_and_the_rest_read(tmp_path: Path) -> None:
    draw_all(tmp_path / "Food", "Acme/1.jpg", "Acme/2.jpg")
    write(tmp_path / "Food/Acme/1.xml", voc("1.jpg", ("acme", 4, 6, 34, 26)))
    write(tmp_path / "Food/Acme/2.xml", '<!DOCTYPE x [<!ENTITY a "b">]><annotation/>')
    rows, problems = read(tmp_path, "logodet3k")
    assert len(rows) == 1 and kinds(problems) == {"bad-annotation": 1}
