"""A right tree for each annotation format: what it is read as, and the files that mutations may spoil."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.preparation.annotation_trees import coco, draw_all, voc, write, write_json

Sample = Callable[[Path], list[Path]]
NAMES = ("a.jpg", "b.jpg")
PIXELS = (16, 18, 48, 30)  # of 64 x 48; 0.25, 0.375, 0.75, 0.625 of it


def _coco(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    return [write_json(root / "labels.json", coco(NAMES, [(0, 1, [16, 18, 32, 12]), (1, 2, [16, 18, 32, 12])]))]


def _voc(root: Path) -> list[Path]:
    draw_all(root / "JPEGImages", *NAMES)
    pairs = zip("ab", ("cat", "dog"), strict=True)
    return [write(root / f"Annotations/{stem}.xml", voc(f"{stem}.jpg", (label, *PIXELS))) for stem, label in pairs]


def _yolo(root: Path) -> list[Path]:
    draw_all(root / "images", *NAMES)
    names = write(root / "data.yaml", "train: images\nval: images\nnames: [cat, dog]\n")
    return [names, *(write(root / f"labels/{s}.txt", f"{n} 0.5 0.5 0.5 0.25\n") for n, s in enumerate("ab"))]


def _labelme(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    files = []
    for stem, label in zip("ab", ("cat", "dog"), strict=True):
        shape = {
            "label": label,
            "points": [[16, 18], [48, 30]],
            "group_id": None,
            "shape_type": "rectangle",
            "flags": {},
        }
        value = {"version": "5.0.1", "flags": {}, "shapes": [shape], "imagePath": f"{stem}.jpg", "imageData": None}
        files.append(write_json(root / f"{stem}.json", {**value, "imageHeight": 48, "imageWidth": 64}))
    return files


def _createml(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    place = {"x": 32, "y": 24, "width": 32, "height": 12}
    pairs = zip(NAMES, ("cat", "dog"), strict=True)
    notes = [{"image": name, "annotations": [{"label": label, "coordinates": place}]} for name, label in pairs]
    return [write_json(root / "_annotations.createml.json", notes)]


def _cvat(root: Path) -> list[Path]:
    draw_all(root / "images", *NAMES)
    images = "".join(
        f'<image id="{n}" name="{name}" width="64" height="48"><box label="{label}" source="manual" occluded="0" '
        'xtl="16.0" ytl="18.0" xbr="48.0" ybr="30.0" z_order="0"></box></image>'
        for n, (name, label) in enumerate(zip(NAMES, ("cat", "dog"), strict=True))
    )
    return [write(root / "annotations.xml", f"<annotations><version>1.1</version>{images}</annotations>")]


def _via(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    shape = {"name": "rect", "x": 16, "y": 18, "width": 32, "height": 12}
    pairs = zip(NAMES, ("cat", "dog"), strict=True)
    images = {
        f"{name}123": {
            "filename": name,
            "size": 123,
            "regions": [{"shape_attributes": shape, "region_attributes": {"class": label}}],
            "file_attributes": {},
        }
        for name, label in pairs
    }
    return [write_json(root / "via_project.json", {"_via_settings": {}, "_via_img_metadata": images})]


def _labelstudio(root: Path) -> list[Path]:
    draw_all(root / "media/upload/1", *NAMES)
    tasks = [
        {
            "id": n,
            "data": {"image": f"/data/upload/1/{name}"},
            "annotations": [
                {
                    "id": n,
                    "was_cancelled": False,
                    "result": [
                        {
                            "id": f"r{n}",
                            "type": "rectanglelabels",
                            "original_width": 64,
                            "original_height": 48,
                            "value": {
                                "x": 25,
                                "y": 37.5,
                                "width": 50,
                                "height": 25,
                                "rotation": 0,
                                "rectanglelabels": [label],
                            },
                        }
                    ],
                }
            ],
        }
        for n, (name, label) in enumerate(zip(NAMES, ("cat", "dog"), strict=True))
    ]
    return [write_json(root / "project-1-at-2024.json", tasks)]


def _groundtruth(root: Path) -> list[Path]:
    draw_all(root / "photos", *NAMES)
    lines = [
        {
            "source-ref": f"s3://bucket/photos/{name}",
            "bb": {
                "image_size": [{"width": 64, "height": 48, "depth": 3}],
                "annotations": [{"class_id": n, "left": 16, "top": 18, "width": 32, "height": 12}],
            },
            "bb-metadata": {"class-map": {"0": "cat", "1": "dog"}, "type": "groundtruth/object-detection"},
        }
        for n, name in enumerate(NAMES)
    ]
    return [write(root / "output.manifest", "".join(json.dumps(line) + "\n" for line in lines))]


def _supervisely(root: Path) -> list[Path]:
    draw_all(root / "ds0/img", *NAMES)
    meta = write_json(root / "meta.json", {"classes": [{"title": "cat", "shape": "rectangle"}], "tags": []})
    files = [meta]
    for name, label in zip(NAMES, ("cat", "dog"), strict=True):
        thing = {"classTitle": label, "geometryType": "rectangle", "tags": []}
        thing["points"] = {"exterior": [[16, 18], [48, 30]], "interior": []}
        value = {"description": "", "tags": [], "size": {"height": 48, "width": 64}, "objects": [thing]}
        files.append(write_json(root / f"ds0/ann/{name}.json", value))
    return files


def _fiftyone(root: Path) -> list[Path]:
    draw_all(root / "data", *NAMES)
    found = {s: [{"label": n, "bounding_box": [0.25, 0.375, 0.5, 0.25]}] for n, s in enumerate("ab")}
    return [write_json(root / "labels.json", {"classes": ["cat", "dog"], "labels": found})]


def _deepfashion2(root: Path) -> list[Path]:
    draw_all(root / "train/image", *NAMES)
    return [
        write_json(
            root / f"train/annos/{stem}.json",
            {
                "source": "shop",
                "pair_id": 1,
                "item1": {"category_name": label, "category_id": 1, "bounding_box": list(PIXELS), "style": 1},
            },
        )
        for stem, label in zip("ab", ("cat", "dog"), strict=True)
    ]


def _imagefolder(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    lines = [
        {"file_name": name, "objects": {"bbox": [[16, 18, 32, 12]], "categories": [label]}}
        for name, label in zip(NAMES, ("cat", "dog"), strict=True)
    ]
    return [write(root / "metadata.jsonl", "".join(json.dumps(line) + "\n" for line in lines))]


def _box_table(root: Path) -> list[Path]:
    draw_all(root, *NAMES)
    rows = "".join(f"{n},64,48,{label},16,18,48,30\n" for n, label in zip(NAMES, ("cat", "dog"), strict=True))
    return [write(root / "_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n" + rows)]


def _plain_table(root: Path) -> list[Path]:
    draw_all(root / "images", *NAMES)
    rows = "".join(f"images/{n},16,18,48,30,{label}\n" for n, label in zip(NAMES, ("cat", "dog"), strict=True))
    return [write(root / "annotations.csv", rows)]


SAMPLES: dict[str, Sample] = {
    "coco": _coco,
    "voc": _voc,
    "yolo": _yolo,
    "labelme": _labelme,
    "createml": _createml,
    "cvat": _cvat,
    "via": _via,
    "labelstudio": _labelstudio,
    "groundtruth": _groundtruth,
    "supervisely": _supervisely,
    "fiftyone": _fiftyone,
    "deepfashion2": _deepfashion2,
    "imagefolder": _imagefolder,
    "box-table": _box_table,
    "plain-table": _plain_table,
}
