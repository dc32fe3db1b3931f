"""Supervisely: <dataset>/ann/<image>.json of objects and tags beside <dataset>/img/, meta.json with the classes."""

from __future__ import annotations

from shitu_cli.preparation.formats.boxes import XYXY, around_points, stated_size
from shitu_cli.preparation.formats.splits import split_of
from shitu_cli.preparation.formats.tool import AnnotationFile, annotation_format, files_ending, per_file
from shitu_cli.preparation.formats.values import label_text, object_of, objects

_AREAS = ("rectangle", "polygon")  # a bitmap would have to be unpacked for its size


def _read_image(file: AnnotationFile) -> None:
    value = file.json()
    if not isinstance(value, dict):
        return
    size = object_of(value.get("size"))
    tags = [label_text(tag.get("name")) for _, tag in objects(value.get("tags"))]
    split = next((split for tag in tags if (split := split_of(tag)) == tag.lower()), "")
    image = file.own_image(split=split, size=stated_size(size.get("width"), size.get("height")))
    if image is None:
        return
    labels = [tag for tag in tags if split_of(tag) != tag.lower()]
    shapes = list(objects(value.get("objects")))
    if not shapes and not labels:
        image.empty()
    for label in labels if not shapes else ():  # beside objects they describe the scene
        image.label(label)
    for number, shape in shapes:
        kind = shape.get("geometryType")
        box = around_points(object_of(shape.get("points")).get("exterior")) if kind in _AREAS else None
        image.box(shape.get("classTitle"), box, XYXY, f"a {str(kind)[:40]} without an area", number)


SUPERVISELY = annotation_format(
    "supervisely",
    "Supervisely or Dataset Ninja: <dataset>/img/ with <dataset>/ann/<image>.json; every object is an image of its "
    "class, or the one tag is the label of the image",
    tool="Supervisely",
    files=files_ending(".json", inside="ann"),
    is_one=lambda name, head: b'"objects"' in head and b'"size"' in head and b'"tags"' in head,
    read=per_file(_read_image, "objects[{}]"),
    needs="ann/*.json",
    per_image=True,
)
