"""DeepFashion2: image/ and annos/ in train/ and validation/; every item is an image of its category."""

from __future__ import annotations

from collections.abc import Sequence

from shitu_cli.preparation.formats.annotations import Annotations
from shitu_cli.preparation.formats.boxes import XYXY, numbers
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import list_of, object_of

_REMARK = "the categories are the classes; that items of one pair_id and style are the same is not used"


def _read_image(file: AnnotationFile) -> None:
    value = object_of(file.json())
    image = file.own_image()
    items = {key: object_of(item) for key, item in value.items() if key.startswith("item") and key[4:].isdigit()}
    for key, item in items.items() if image is not None else ():
        assert image is not None
        box = numbers(list_of(item.get("bounding_box")))
        image.box(item.get("category_name"), box, XYXY, "no bounding_box [x1, y1, x2, y2]", int(key[4:10]))


def _read(annotations: Annotations, files: Sequence[str]) -> None:
    annotations.remarks.append(_REMARK)
    per_file(_read_image, "item{}")(annotations, files)


DEEP_FASHION2 = annotation_format(
    "deepfashion2",
    "DeepFashion2: train/image/ with train/annos/, validation/ beside; every item is an image of its category",
    tool="DeepFashion2",
    files=files_ending(".json", inside="annos"),
    is_one=lambda name, head: b'"item1"' in head and b'"bounding_box"' in head,
    read=_read,
    needs="annos/*.json",
    per_image=True,
)
