from __future__ import annotations

from pathlib import Path

import pytest

from shitu_cli.errors import DataError, UsageError
from tests.preparation.annotation_trees import boxes, coco, draw_all, kinds, labels, read, splits, write, write_json

A, B = [4, 6, 30, 20], [30, 10, 20, 30]


def test_train_and_val_with_images_in_folders_of_their_own(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        draw_all(tmp_path / "images" / part, "1.jpg", "2.jpg")
        value = coco(["1.jpg", "2.jpg"], [(0, 1, A), (0, 2, B), (1, 2, A)])
        write_json(tmp_path / f"annotations/instances_{part}.json", value)
    # The same names in both folders: the split of the file decides.
    rows, problems = read(tmp_path, "coco")
    assert boxes(rows)["images/val2017/1.jpg"] == [("cat", 4, 6, 34, 26), ("dog", 30, 10, 50, 40)]
    assert splits(rows) == {f"images/{part}2017/{n}.jpg": part for part in ("train", "val") for n in (1, 2)}
    assert not kinds(problems)
    assert "x,y,width,height" in rows.readings[0] and "instances_train2017.json" in rows.readings[0]


def test_roboflow_beside_the_images(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        draw_all(tmp_path / part, f"{part}.jpg")
        write_json(tmp_path / part / "_annotations.coco.json", coco([f"{part}.jpg"], [(0, 1, A)]))
    rows, _ = read(tmp_path, "coco")
    assert splits(rows) == {"train/train.jpg": "train", "valid/valid.jpg": "val", "test/test.jpg": "test"}


def test_paths_of_another_machine_and_of_label_studio(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "a.jpg", "b b.jpg")
    names = ["images\\a.jpg", "/srv/label-studio/images/b b.jpg"]
    write_json(tmp_path / "result.json", coco(names, [(0, 1, A), (1, 2, A)]))
    rows, _ = read(tmp_path, "coco")
    assert set(boxes(rows)) == {"images/a.jpg", "images/b b.jpg"}
    assert set(rows.splits) == {""}


def test_one_file_named_with_its_images_a_folder_up(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "a.jpg", "b.jpg")
    file = write_json(tmp_path / "annotations/instances_val.json", coco(["a.jpg", "b.jpg"], [(0, 1, A), (1, 2, A)]))
    rows, _ = read(file, "coco")
    # One file alone is no evaluation split of something else.
    assert splits(rows) == {"images/a.jpg": "", "images/b.jpg": ""}


def test_labels_of_whole_images(tmp_path: Path) -> None:
    draw_all(tmp_path, "train/x/a.jpg", "train/x/b.jpg")
    value = coco(["train/x/a.jpg", "train/x/b.jpg"], [(0, 1, A), (1, 2, A)])
    for annotation in value["annotations"]:
        del annotation["bbox"]
    write_json(tmp_path / "train.json", value)
    assert labels(read(tmp_path, "coco")[0]) == {"train/x/a.jpg": "cat", "train/x/b.jpg": "dog"}


def test_text_ids_polygons_without_a_box_and_addresses(tmp_path: Path) -> None:
    draw_all(tmp_path / "train2017", "1.jpg")
    value = coco(["1.jpg"], [(0, 1, A)])
    value["images"][0] = {"id": "0", "coco_url": "http://images.cocodataset.org/train2017/1.jpg"}
    value["annotations"][0] = {"image_id": "0", "category_id": "1", "segmentation": [[4, 6, 34, 6, 34, 26]]}
    write_json(tmp_path / "lvis_v1_train.json", value)
    assert boxes(read(tmp_path, "coco")[0]) == {"train2017/1.jpg": [("cat", 4, 6, 34, 26)]}


def test_crowds_tiny_boxes_and_images_without_objects_are_left_out_and_said(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    value = coco(["a.jpg", "b.jpg"], [(0, 1, A), (0, 1, B), (0, 2, [5, 5, 3, 20])])
    value["annotations"][1]["iscrowd"] = 1
    write_json(tmp_path / "labels.json", value)
    rows, problems = read(tmp_path, "coco")
    assert boxes(rows) == {"a.jpg": [("cat", 4, 6, 34, 26)]}
    assert {name: found.count for name, found in problems.cases.items()} == {
        "crowd": 1, "tiny-box": 1, "no-objects": 1, "unannotated": 1
    }  # fmt: skip


def test_key_points_and_captions_beside_objects_are_not_read(tmp_path: Path) -> None:
    draw_all(tmp_path / "val2017", "1.jpg")
    value = coco(["1.jpg"], [(0, 1, A)])
    write_json(tmp_path / "annotations/instances_val2017.json", value)
    write_json(tmp_path / "annotations/captions_val2017.json", {**value, "annotations": [{"caption": "a cat"}]})
    keypoints = [{**value["annotations"][0], "keypoints": [1, 2, 2]}]
    write_json(tmp_path / "annotations/person_keypoints_val2017.json", {**value, "annotations": keypoints})
    rows, _ = read(tmp_path, "coco")
    assert rows.label_files == ["annotations/instances_val2017.json"]


def test_categories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    value = coco(["a.jpg"], [(0, 1, A), (0, 2, B)], ["cup", "cup"])
    value["categories"][1]["supercategory"] = "sport"
    write_json(tmp_path / "x.json", value)
    assert sorted(read(tmp_path, "coco")[0].labels) == ["pet/cup", "sport/cup"]
    value["categories"][1]["supercategory"] = "pet"
    write_json(tmp_path / "x.json", value)
    assert sorted(read(tmp_path, "coco")[0].labels) == ["cup (1)", "cup (2)"]


def test_two_files_for_one_image_are_refused_with_both(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    for name in ("old.json", "new.json"):
        write_json(tmp_path / name, coco(["a.jpg"], [(0, 1, A)]))
    with pytest.raises(UsageError, match=r"new\.json.*old\.json|old\.json.*new\.json") as error:
        read(tmp_path, "coco")
    assert "shitu prepare" in (error.value.hint or "")


def test_corners_in_a_coco_file_are_refused_with_both_readings(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    corners = [(0, 1, [4, 6, 60, 40]), (1, 2, [30, 10, 60, 40])]
    write_json(tmp_path / "x.json", coco(["a.jpg", "b.jpg"], corners))
    with pytest.raises(DataError, match=r"x\.json.*1 of 2 boxes.*x,y,width,height.*x1,y1,x2,y2") as error:
        read(tmp_path, "coco")
    assert any("annotations[1]" in line for line in error.value.details)


def test_whole_images_and_boxes_together_are_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    value = coco(["a.jpg", "b.jpg"], [(0, 1, A), (1, 2, [])])
    write_json(tmp_path / "x.json", value)
    with pytest.raises(UsageError, match="labels whole images"):
        read(tmp_path, "coco")


def test_an_image_of_several_classes_without_boxes_is_an_error_with_its_labels(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write_json(tmp_path / "x.json", coco(["a.jpg", "b.jpg"], [(0, 1, []), (0, 2, []), (1, 2, [])]))
    rows, problems = read(tmp_path, "coco")
    assert labels(rows) == {"b.jpg": "dog"}
    assert problems.cases["several-labels"].examples == [(f"{tmp_path}/x.json: annotations[0]", "a.jpg: cat, dog")]


def test_images_of_another_size_are_errors_with_both_sizes(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    draw_all(tmp_path, "b.jpg", size=(32, 24))
    write_json(tmp_path / "x.json", coco(["a.jpg", "b.jpg"], [(0, 1, A), (1, 2, [0, 0, 20, 20])]))
    rows, problems = read(tmp_path, "coco")
    assert set(boxes(rows)) == {"a.jpg"}
    assert "64 x 48 in the annotation, 32 x 24 here" in problems.cases["other-size"].examples[0][1]


def test_every_bad_entry_is_named(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    value = coco(["a.jpg", "gone.jpg"], [(0, 1, A), (7, 1, A), (0, 9, A), (1, 1, A), (0, 1, [1, 2, 3])])
    value["annotations"].append({"image_id": 0, "category_id": 1, "segmentation": {"counts": "abc"}})
    write_json(tmp_path / "x.json", value)
    rows, problems = read(tmp_path, "coco")
    assert len(rows) == 1
    assert [where.rpartition(" ")[2] for where, _ in problems.cases["bad-annotation"].examples] == [
        "annotations[1]", "annotations[2]", "annotations[4]", "annotations[5]"
    ]  # fmt: skip
    assert problems.cases["missing"].examples == [(f"{tmp_path}/x.json: images[1]", "gone.jpg")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [], "annotations": [], "categories": ', "x.json:1: not valid JSON"),
        ('{"images": [], "annotations": [{"bbox": [NaN, 1, 2, 3]}]}', "not a finite number"),
        ('{"images": ' + "[" * 3000 + "]" * 3000 + ', "annotations": []}', "nested more than 64"),
        ('{"images": 3, "annotations": []}', "expected an object with images"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "x.json", text)
    with pytest.raises(DataError, match=words):
        read(tmp_path, "coco")
