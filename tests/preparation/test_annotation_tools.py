"""What the annotation tools export beside the plain case: variants, what has two readings, what is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shitu_cli.errors import DataError, UsageError
from tests.preparation.annotation_samples import PIXELS
from tests.preparation.annotation_trees import boxes, draw_all, kinds, labels, read, splits, write, write_json

CAT = {"a.jpg": [("cat", *PIXELS)]}

# --- LabelMe ---


def labelme(
    root: Path, stem: str, shapes: list[dict[str, Any]], flags: dict[str, bool] | None = None, **more: Any
) -> None:
    value = {"flags": flags or {}, "shapes": shapes, "imagePath": f"{stem}.jpg", "imageData": None, **more}
    write_json(root / f"{stem}.json", value)


def test_labelme_shapes_of_all_kinds(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    shapes = [
        {"label": "p", "points": [[4, 6], [34, 6], [34, 26.5]], "shape_type": "polygon"},
        {"label": "c", "points": [[30, 20], [40, 20]], "shape_type": "circle"},
        {"label": "g", "points": [[4, 6], [10, 12]], "shape_type": "rectangle", "group_id": 1},
        {"label": "g", "points": [[30, 20], [40, 40]], "shape_type": "rectangle", "group_id": 1},
        {"label": "point", "points": [[4, 6]], "shape_type": "point"},
    ]
    labelme(tmp_path, "a", shapes)
    rows, problems = read(tmp_path, "labelme")
    assert boxes(rows)["a.jpg"] == [("p", 4, 6, 34, 26.5), ("c", 20, 10, 40, 30), ("g", 4, 6, 40, 40)]
    assert problems.cases["bad-annotation"].examples[0][0].endswith("a.json: shapes[4]")


def test_labelme_flags_and_shapes_in_one_source_are_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    labelme(tmp_path, "a", [{"label": "p", "points": [[4, 6], [34, 6], [34, 26]]}])
    labelme(tmp_path, "b", [], {"cat": True})
    with pytest.raises(UsageError, match="whole images"):
        read(tmp_path, "labelme")


def test_labelme_with_two_flags_set_is_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    labelme(tmp_path, "a", [], {"cat": True, "dog": True})
    labelme(tmp_path, "b", [], {"cat": True, "dog": False})
    rows, problems = read(tmp_path, "labelme")
    assert labels(rows) == {"b.jpg": "cat"}
    assert "cat, dog" in problems.cases["several-labels"].examples[0][1]


def test_labelme_turned_since(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    labelme(tmp_path, "a", [{"label": "p", "points": [[4, 6], [34, 6], [34, 26]]}], imageWidth=48, imageHeight=64)
    _, problems = read(tmp_path, "labelme")
    assert "turned by its EXIF data" in problems.cases["other-size"].examples[0][1]


# --- Create ML ---


def test_createml_of_turi_and_labels_of_whole_images(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    place = {"x": 32, "y": 24, "width": 32, "height": 12}
    part = {"coordinates": place, "label": "cat"}
    write_json(
        tmp_path / "x.json", [{"imagefilename": "a.jpg", "annotation": [part]}, {"image": "b.jpg", "annotations": []}]
    )
    rows, problems = read(tmp_path, "createml")
    assert boxes(rows) == CAT
    assert problems.cases["no-objects"].count == 1


def test_createml_with_corners_as_coordinates_is_reported(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    part = {"coordinates": {"x": 32, "y": "middle", "width": 32, "height": 12}, "label": "cat"}
    write_json(tmp_path / "x.json", [{"image": "a.jpg", "annotations": [part]}, 3])
    assert kinds(read(tmp_path, "createml")[1]) == {"bad-annotation": 2}


# --- CVAT ---


def cvat(*images: str) -> str:
    return f"<annotations><version>1.1</version><meta><task><name>x</name></task></meta>{''.join(images)}</annotations>"


def test_cvat_tags_subsets_and_shapes(tmp_path: Path) -> None:
    draw_all(tmp_path / "images/Train", "a.jpg")
    draw_all(tmp_path / "images/Validation", "b.jpg")
    polygon = '<polygon label="cat" points="16.0,18.0;48.0,18.0;48.0,30.0"></polygon>'
    ellipse = '<ellipse label="dog" cx="32" cy="24" rx="16" ry="6"/>'
    images = [
        f'<image id="0" name="a.jpg" subset="Train" width="64" height="48">{polygon}</image>',
        f'<image id="1" name="b.jpg" subset="Validation" width="64" height="48">{ellipse}</image>',
        '<image id="2" name="c.jpg" width="64" height="48"></image>',
    ]
    write(tmp_path / "annotations.xml", cvat(*images))
    rows, _ = read(tmp_path, "cvat")
    assert boxes(rows) == {"images/Train/a.jpg": [("cat", *PIXELS)], "images/Validation/b.jpg": [("dog", *PIXELS)]}
    assert sorted(rows.splits) == ["train", "val"]


def test_cvat_with_several_tags_is_an_error_and_with_boxes_too_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    two = '<image id="0" name="a.jpg" width="64" height="48"><tag label="cat"/><tag label="dog"/></image>'
    one = '<image id="1" name="b.jpg" width="64" height="48"><tag label="cat"/></image>'
    write(tmp_path / "annotations.xml", cvat(two, one))
    rows, problems = read(tmp_path, "cvat")
    assert labels(rows) == {"b.jpg": "cat"} and kinds(problems) == {"several-labels": 1}
    both = '<image id="0" name="a.jpg"><tag label="x"/><box label="y" xtl="1" ytl="1" xbr="9" ybr="9"/></image>'
    write(tmp_path / "annotations.xml", cvat(both))
    with pytest.raises(UsageError, match="whole images"):
        read(tmp_path, "cvat")


def test_cvat_for_video_is_refused_with_the_way_out(tmp_path: Path) -> None:
    draw_all(tmp_path, "frame_000000.jpg")
    write(tmp_path / "annotations.xml", cvat('<track id="0" label="cat"><box frame="0" xtl="1"/></track>'))
    with pytest.raises(DataError, match="tracks of a video") as error:
        read(tmp_path, "cvat")
    assert "CVAT for images" in (error.value.hint or "")


# --- VIA ---


def via(name: str, regions: Any, **attributes: Any) -> dict[str, Any]:
    return {f"{name}1": {"filename": name, "size": 1, "regions": regions, "file_attributes": attributes}}


def region(**attributes: Any) -> dict[str, Any]:
    shape = {"name": "rect", "x": 16, "y": 18, "width": 32, "height": 12}
    return {"shape_attributes": shape, "region_attributes": attributes}


def test_via_of_version_one_and_menus(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write_json(tmp_path / "v1.json", via("a.jpg", {"0": region(type="cat")}))
    assert boxes(read(tmp_path, "via")[0]) == CAT
    (tmp_path / "v1.json").unlink()
    attributes = {"region": {"kind": {"type": "dropdown", "options": {"0": "cat", "1": "dog"}}}, "file": {}}
    project = {"_via_img_metadata": via("a.jpg", [region(kind="0")]), "_via_attributes": attributes}
    write_json(tmp_path / "project.json", project)
    assert boxes(read(tmp_path, "via")[0]) == CAT


def test_via_circles_polygons_and_checkboxes(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    circle = {"name": "circle", "cx": 30, "cy": 20, "r": 10}
    polygon = {"name": "polygon", "all_points_x": [4, 34, 34], "all_points_y": [6, 6, 26]}
    ellipse = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 20, "ry": 10, "theta": 1.5707963}
    regions = [
        {"shape_attributes": circle, "region_attributes": {"kind": {"cat": True, "dog": False}}},
        {"shape_attributes": polygon, "region_attributes": {"kind": {"dog": True}}},
        {"shape_attributes": ellipse, "region_attributes": {"kind": {"dog": True}}},
        {"shape_attributes": polygon, "region_attributes": {"kind": {"cat": True, "dog": True}}},
        {"shape_attributes": {"name": "point", "cx": 1, "cy": 2}, "region_attributes": {"kind": {"dog": True}}},
    ]
    write_json(tmp_path / "x.json", via("a.jpg", regions))
    rows, problems = read(tmp_path, "via")
    assert boxes(rows)["a.jpg"] == [("cat", 20, 10, 40, 30), ("dog", 4, 6, 34, 26), ("dog", 20, 0, 40, 40)]
    assert kinds(problems) == {"bad-annotation": 2}


def test_via_attributes_of_files(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write_json(tmp_path / "x.json", via("a.jpg", [], label="cat") | via("b.jpg", [], label="dog"))
    assert labels(read(tmp_path, "via")[0]) == {"a.jpg": "cat", "b.jpg": "dog"}


def test_via_with_several_attributes_is_refused_with_an_example_of_each(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write_json(tmp_path / "x.json", via("a.jpg", [region(colour="red", shape="round")]))
    with pytest.raises(UsageError, match="which of colour, shape is the class") as error:
        read(tmp_path, "via")
    assert error.value.details == ["colour: 'red'", "shape: 'round'"]
    write_json(tmp_path / "x.json", via("a.jpg", [region(label="cat", colour="red")]))
    assert boxes(read(tmp_path, "via")[0]) == CAT


def test_via_csv(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    shape = '"{""name"":""rect"",""x"":16,""y"":18,""width"":32,""height"":12}"'
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
    first = f'a.jpg,1,"{{}}",1,0,{shape},"{{""class"":""cat""}}"'
    write(
        tmp_path / "via.csv", f'{header}\n{first}\nb.jpg,1,"{{}}",0,0,"{{}}","{{}}"\nb.jpg,1,"{{}}",0,0,"{{","{{}}"\n'
    )
    rows, problems = read(tmp_path, "via")
    assert boxes(rows) == CAT
    assert problems.cases["bad-annotation"].examples == [
        (f"{tmp_path}/via.csv:4", "attributes that are not a JSON object")
    ]


# --- Label Studio ---


def task(image: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(results), **more}], "predictions": []}


def choice(*names: str) -> dict[str, Any]:
    return {"type": "choices", "value": {"choices": list(names)}, "from_name": "choice", "to_name": "image"}


def test_label_studio_choices_of_local_and_uploaded_files(tmp_path: Path) -> None:
    draw_all(tmp_path, "photos/a.jpg", "photos/b b.jpg")
    tasks = [
        task("/data/local-files/?d=photos/b%20b.jpg", choice("dog")),
        task("/data/upload/1/0f3ac1d2-a.jpg", choice("cat"), choice("cat")),
        task("/data/upload/1/0f3ac1d2-a.jpg", choice("dog"), was_cancelled=True),
    ]
    write_json(tmp_path / "p.json", tasks)
    rows, _ = read(tmp_path, "labelstudio")
    assert labels(rows) == {"photos/b b.jpg": "dog", "photos/a.jpg": "cat"}


def test_label_studio_annotators_who_disagree_are_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    twice = task("/data/upload/1/a.jpg", choice("cat"))
    twice["annotations"].append({"result": [choice("dog")]})
    write_json(tmp_path / "p.json", [twice, task("b.jpg", choice("dog"))])
    rows, problems = read(tmp_path, "labelstudio")
    assert labels(rows) == {"b.jpg": "dog"}
    assert problems.cases["several-labels"].examples == [(f"{tmp_path}/p.json: task 0", "a.jpg: cat, dog")]


def test_label_studio_regions_turned_polygons_and_labels_apart(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    size = {"original_width": 64, "original_height": 48}
    turned = {"x": 50, "y": 25, "width": 25, "height": 25, "rotation": 90, "rectanglelabels": ["turned"]}
    polygon = {"points": [[25, 37.5], [75, 37.5], [75, 62.5]], "polygonlabels": ["polygon"]}
    round_one = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 12.5, "ellipselabels": ["round"]}
    plain = {"x": 25, "y": 37.5, "width": 50, "height": 25, "rotation": 0}
    results = [
        {"id": "1", "value": turned, **size},
        {"id": "2", "value": polygon, **size},
        {"id": "3", "value": round_one, **size},
        {"id": "4", "value": plain, "type": "rectangle", **size},
        {"id": "4", "value": {"choices": ["apart"]}, "type": "choices"},
        {"id": "5", "value": {"rle": [1, 2], "brushlabels": ["brush"]}, **size},
    ]
    write_json(tmp_path / "p.json", [task("a.jpg", *results)])
    rows, problems = read(tmp_path, "labelstudio")
    assert boxes(rows)["a.jpg"] == [
        ("turned", 20, 12, 32, 28), ("polygon", *PIXELS), ("round", *PIXELS), ("apart", *PIXELS)
    ]  # fmt: skip
    assert kinds(problems) == {"bad-annotation": 1}


MARKS = "annotator,annotation_id,created_at,updated_at,lead_time"


def test_label_studio_csv_of_choices(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    rows = "a.jpg,1,cat,1,1,x,x,1.5\n/data/upload/1/b.jpg,2,dog,1,2,x,x,1\n"
    rows += 'c.jpg,3,"{""choices"": [""cat"", ""dog""]}",1,3,x,x,1\n'
    write(tmp_path / "p.csv", f"image,id,choice,{MARKS}\n{rows}")
    found, problems = read(tmp_path, "labelstudio")
    assert labels(found) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert problems.cases["several-labels"].examples == [(f"{tmp_path}/p.csv:4", "c.jpg: cat, dog")]


def test_label_studio_csv_and_min_json_of_regions(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    cell = [{"x": 25, "y": 37.5, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}]
    text = json.dumps(cell).replace('"', '""')
    write(tmp_path / "p.csv", f'image,id,label,{MARKS}\na.jpg,1,"{text}",1,1,x,x,1.5\n')
    assert boxes(read(tmp_path, "labelstudio")[0]) == CAT
    (tmp_path / "p.csv").unlink()
    write_json(
        tmp_path / "p.json",
        [{"image": "/data/upload/1/a.jpg", "id": 1, "label": cell, "annotation_id": 1, "lead_time": 2}],
    )
    assert boxes(read(tmp_path, "labelstudio")[0]) == CAT


def test_label_studio_csv_with_two_candidates_is_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "p.csv", f"image,id,brand,colour,{MARKS}\na.jpg,1,Lada,red,1,1,x,x,1.5\n")
    with pytest.raises(UsageError, match=r"p\.csv: which of brand, colour is the class") as error:
        read(tmp_path, "labelstudio")
    assert "--columns" in (error.value.hint or "")


# --- Ground Truth ---


def manifest(root: Path, *lines: dict[str, Any]) -> None:
    write(root / "train.manifest", "".join(json.dumps(line) + "\n" for line in lines))


def test_ground_truth_classes(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    about = {"class-name": "cat", "type": "groundtruth/image-classification"}
    several = {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/image-classification-multilabel"}
    manifest(
        tmp_path,
        {"source-ref": "s3://b/a.jpg", "job": 0, "job-metadata": about},
        {"source-ref": "s3://b/b.jpg", "job": [1], "job-metadata": several},
        {"source-ref": "s3://b/c.jpg", "job": [0, 1], "job-metadata": several},
    )
    rows, problems = read(tmp_path, "groundtruth")
    assert labels(rows) == {"a.jpg": "cat", "b.jpg": "dog"}
    assert problems.cases["several-labels"].examples == [(f"{tmp_path}/train.manifest:3", "c.jpg: cat, dog")]


def test_ground_truth_with_two_jobs_is_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    manifest(tmp_path, {"source-ref": "a.jpg", "j1": 0, "j1-metadata": {}, "j2": 0, "j2-metadata": {}})
    with pytest.raises(UsageError, match="which of j1, j2"):
        read(tmp_path, "groundtruth")


def test_ground_truth_lines_that_are_no_json_are_named(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(
        tmp_path / "x.manifest",
        '{"source-ref": "a.jpg", "j": 0, "j-metadata": {"class-name": "cat"}}\n{"source-\n[1]\n',
    )
    rows, problems = read(tmp_path, "groundtruth")
    assert len(rows) == 1
    assert [where.rpartition(":")[2] for where, _ in problems.cases["bad-annotation"].examples] == ["2", "3"]


# --- Supervisely, FiftyOne ---


def test_supervisely_tags_name_splits_and_classes(tmp_path: Path) -> None:
    for name, tags in (("a.png", ["train", "cat"]), ("b.png", ["val", "dog"])):
        draw_all(tmp_path / "ds/img", name)
        value = {"size": {"height": 48, "width": 64}, "tags": [{"name": tag} for tag in tags], "objects": []}
        write_json(tmp_path / f"ds/ann/{name}.json", value)
    rows, _ = read(tmp_path, "supervisely")
    assert labels(rows) == {"ds/img/a.png": "cat", "ds/img/b.png": "dog"}
    assert splits(rows) == {"ds/img/a.png": "train", "ds/img/b.png": "val"}


def test_fiftyone_classification_and_samples(tmp_path: Path) -> None:
    draw_all(tmp_path / "data", "a.jpg", "b.jpg")
    write_json(tmp_path / "labels.json", {"classes": ["cat", "dog"], "labels": {"a": 0, "b": "dog"}})
    assert labels(read(tmp_path, "fiftyone")[0]) == {"data/a.jpg": "cat", "data/b.jpg": "dog"}
    (tmp_path / "labels.json").unlink()
    found = {"_cls": "Detections", "detections": [{"label": "cat", "bounding_box": [0.25, 0.375, 0.5, 0.25]}]}
    samples = [
        {
            "filepath": f"data/{name}",
            "tags": [split],
            "ground_truth": found,
            "predictions": {"_cls": "Detections", "detections": []},
        }
        for name, split in (("a.jpg", "train"), ("b.jpg", "test"))
    ]
    write_json(tmp_path / "samples.json", {"samples": samples})
    rows, _ = read(tmp_path, "fiftyone")
    assert boxes(rows)["data/a.jpg"] == [("cat", *PIXELS)]
    assert splits(rows) == {"data/a.jpg": "train", "data/b.jpg": "test"}


# --- Hugging Face ---


def test_imagefolder_in_each_split_and_above(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        draw_all(tmp_path / split, "a.jpg")
        write(tmp_path / split / "metadata.csv", "file_name,text,label\na.jpg,a photo,cat\n")
    rows, _ = read(tmp_path, "imagefolder")
    assert splits(rows) == {"train/a.jpg": "train", "validation/a.jpg": "val"}


def test_imagefolder_numbers_have_the_names_of_the_readme(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    head = "---\ndataset_info:\n  features:\n  - name: image\n    dtype: image\n  - name: label\n    dtype:\n"
    write(
        tmp_path / "README.md",
        f"{head}      class_label:\n        names:\n          '0': cat\n          '1': dog\n---\n# Pets\n",
    )
    write(tmp_path / "metadata.csv", "file_name,label\na.jpg,0\nb.jpg,1\n")
    assert labels(read(tmp_path, "imagefolder")[0]) == {"a.jpg": "cat", "b.jpg": "dog"}


def test_imagefolder_boxes_in_a_csv_cell_and_unequal_lists(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    cell = "{'bbox': [[16, 18, 32, 12]], 'categories': ['cat']}"
    bad = "{'bbox': [[16, 18, 32, 12]], 'categories': []}"
    write(tmp_path / "metadata.csv", f'file_name,objects\na.jpg,"{cell}"\nb.jpg,"{bad}"\n')
    rows, problems = read(tmp_path, "imagefolder")
    assert boxes(rows) == CAT
    assert problems.cases["bad-annotation"].examples == [(f"{tmp_path}/metadata.csv:3", "1 boxes and 0 categories")]


def test_imagefolder_with_several_candidates_is_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "metadata.jsonl", '{"file_name": "a.jpg", "brand": "x", "colour": "red"}\n')
    with pytest.raises(UsageError, match=r"metadata\.jsonl: which of brand, colour"):
        read(tmp_path, "imagefolder")


def test_imagefolder_with_several_labels_on_one_image_is_an_error(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    write(
        tmp_path / "metadata.jsonl",
        '{"file_name": "a.jpg", "label": ["x", "y"]}\n{"file_name": "b.jpg", "label": ["x"]}\n',
    )
    rows, problems = read(tmp_path, "imagefolder")
    assert labels(rows) == {"b.jpg": "x"} and kinds(problems) == {"several-labels": 1}


# --- Tables ---


def test_open_images(tmp_path: Path) -> None:
    header = (
        "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    )
    for part in ("train", "validation"):
        draw_all(tmp_path / part, f"{part}01.jpg")
        one = f"{part}01,xclick,/m/01yrx,1,0.25,0.75,0.375,0.625,0,0,0,0,0"
        group = f"{part}01,xclick,/m/0bt9lr,1,0.25,0.75,0.375,0.625,0,0,1,0,0"
        write(tmp_path / f"{part}-annotations-bbox.csv", f"{header}\n{one}\n{group}\n")
    write(tmp_path / "class-descriptions-boxable.csv", "/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    rows, problems = read(tmp_path, "box-table")
    assert boxes(rows) == {"train/train01.jpg": [("Cat", *PIXELS)], "validation/validation01.jpg": [("Cat", *PIXELS)]}
    assert splits(rows) == {"train/train01.jpg": "train", "validation/validation01.jpg": "val"}
    assert problems.cases["crowd"].count == 2


def test_gtsrb(tmp_path: Path) -> None:
    draw_all(tmp_path / "Train/0", "0_1.png")
    header = "Width,Height,Roi.X1,Roi.Y1,Roi.X2,Roi.Y2,ClassId,Path"
    write(tmp_path / "Train.csv", f"{header}\n64,48,16,18,48,30,0,Train/0/0_1.png\n")
    assert boxes(read(tmp_path, "box-table")[0]) == {"Train/0/0_1.png": [("0", *PIXELS)]}


def test_a_box_table_with_widths_under_the_names_of_corners_is_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    rows = "a.jpg,cat,30,10,30,30\nb.jpg,dog,40,30,20,15\n"
    write(tmp_path / "boxes.csv", f"filename,class,xmin,ymin,xmax,ymax\n{rows}")
    with pytest.raises(DataError, match=r"boxes\.csv.*x1,y1,x2,y2.*x,y,width,height"):
        read(tmp_path, "box-table")


def test_a_box_table_with_two_classes_is_refused(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "boxes.csv", "filename,class,category,xmin,ymin,xmax,ymax\na.jpg,cat,pet,16,18,48,30\n")
    with pytest.raises(UsageError, match="which of class, category"):
        read(tmp_path, "box-table")


def test_a_box_that_is_no_number_is_named(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    rows = 'a.jpg;cat;"1,024";18;48;30\na.jpg;cat;16;18;48,0;30\na.jpg;;;;;\n'
    write(tmp_path / "boxes.csv", f"filename;class;xmin;ymin;xmax;ymax\n{rows}")
    found, problems = read(tmp_path, "box-table")
    assert boxes(found) == CAT
    assert problems.cases["bad-annotation"].examples[0][0] == f"{tmp_path}/boxes.csv:2"


@pytest.mark.parametrize(
    ("columns", "values"),
    [
        ("xmin,ymin,xmax,ymax", "0.25,0.375,0.75,0.625"),
        ("x_center,y_center,width,height", "0.5,0.5,0.5,0.25"),
        ("top_left_x,top_left_y,bottom_right_x,bottom_right_y", "16,18,48,30"),
    ],
)
def test_a_box_table_in_shares_of_the_image(columns: str, values: str, tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "boxes.csv", f"filename,class,{columns}\na.jpg,cat,{values}\n")
    assert boxes(read(tmp_path, "box-table")[0]) == {"a.jpg": [("cat", *PIXELS)]}


@pytest.mark.parametrize("columns", ["bbox_0,bbox_1,bbox_2,bbox_3", "x1,y1,x2,y2,x3,y3,x4,y4"])
def test_parts_of_images_that_are_not_understood_are_told(columns: str, tmp_path: Path) -> None:
    """Four corners are no box of the first two; columns of no known names were passed over in silence."""
    draw_all(tmp_path, "a.jpg", "b.jpg")
    numbers = ",".join(str(3 + n) for n in range(columns.count(",") + 1))
    write(tmp_path / "t.csv", f"file,label,{columns}\na.jpg,cat,{numbers}\nb.jpg,dog,{numbers}\n")
    rows, _ = read(tmp_path, "table")
    assert not rows.boxes and "not used: whole images are read" in rows.readings[0]


def test_automl_boxes_and_classes(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg", "b.jpg")
    lines = (
        "TRAIN,gs://bucket/x/a.jpg,cat,0.25,0.375,,,0.75,0.625,,\nTEST,gs://bucket/x/b.jpg,cat,.25,.375,,,.75,.625,,\n"
    )
    write(tmp_path / "automl.csv", lines)
    rows, _ = read(tmp_path, "plain-table")
    assert boxes(rows)["a.jpg"] == [("cat", *PIXELS)]
    assert splits(rows) == {"a.jpg": "train", "b.jpg": "test"}
    write(tmp_path / "automl.csv", "TRAIN,gs://bucket/x/a.jpg,cat\nVALIDATION,gs://bucket/x/b.jpg,dog\n")
    assert labels(read(tmp_path, "plain-table")[0]) == {"a.jpg": "cat", "b.jpg": "dog"}


def test_retinanet_with_images_without_objects_and_a_class_map(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "a.jpg", "b.jpg")
    write(tmp_path / "annotations.csv", "images/a.jpg,16,18,48,30,cat\nimages/b.jpg,,,,,\nimages/a.jpg,1,2\n")
    write(tmp_path / "classes.csv", "cat,0\n")
    rows, problems = read(tmp_path, "plain-table")
    assert boxes(rows) == {"images/a.jpg": [("cat", *PIXELS)]}
    assert kinds(problems) == {"bad-annotation": 1} and problems.cases["no-objects"].count == 1


def test_makesense(tmp_path: Path) -> None:
    draw_all(tmp_path, "a.jpg")
    write(tmp_path / "labels.csv", "cat,16,18,32,12,a.jpg,64,48\n")
    assert boxes(read(tmp_path, "plain-table")[0]) == CAT


def test_a_column_for_each_class_with_two_or_none(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        draw_all(tmp_path / part, *(f"{stem}.jpg" for stem in "abcd"))
        rows = "a.jpg, 1, 0\nb.jpg, 1, 1\nc.jpg, 0, 0\nd.jpg, 0, 1\n"
        write(tmp_path / part / "_classes.csv", f"filename, cat, dog\n{rows}")
    rows_read, problems = read(tmp_path, "table")
    assert labels(rows_read) == {"train/a.jpg": "cat", "train/d.jpg": "dog", "valid/a.jpg": "cat", "valid/d.jpg": "dog"}
    assert sorted(set(rows_read.splits)) == ["train", "val"]
    assert kinds(problems) == {"several-labels": 2} and problems.cases["no-objects"].count == 2


# --- Data sets ---


def test_oxford_pets(tmp_path: Path) -> None:
    draw_all(tmp_path / "images", "Abyssinian_1.jpg", "great_pyrenees_2.jpg")
    notes = tmp_path / "annotations"
    write(notes / "list.txt", "#Image CLASS-ID SPECIES BREED ID\nAbyssinian_1 1 1 1\ngreat_pyrenees_2 2 2 1\n")
    write(notes / "trainval.txt", "Abyssinian_1 1 1 1\n")
    write(notes / "test.txt", "great_pyrenees_2 2 2 1\nAbyssinian_3 2 2 1\nodd\n")
    # The boxes there are of heads, and called cat and dog: the breeds are what it is known for.
    write(notes / "xmls/Abyssinian_1.xml", "<annotation><object><name>cat</name></object></annotation>")
    rows, problems = read(tmp_path, "oxford-pets")
    assert labels(rows) == {"images/Abyssinian_1.jpg": "Abyssinian", "images/great_pyrenees_2.jpg": "great_pyrenees"}
    assert rows.splits == ["train", "test"]
    assert kinds(problems) == {"malformed": 2}


def test_deepfashion2_splits_and_bad_items(tmp_path: Path) -> None:
    for part in ("train", "validation"):
        draw_all(tmp_path / part / "image", "000001.jpg")
        item = {"category_name": "skirt", "bounding_box": list(PIXELS)}
        write_json(
            tmp_path / part / "annos/000001.json", {"source": "user", "item1": item, "item2": {"bounding_box": 3}}
        )
    rows, problems = read(tmp_path, "deepfashion2")
    assert sorted(rows.splits) == ["train", "val"] and kinds(problems) == {"bad-annotation": 2}
