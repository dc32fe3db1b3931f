"""DeepFashion2: image/ and annos/ in train/ and validation/; every item is an image of its category."""

from __future__ import annotations

from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB, read_json
from shitu_cli.preparation.formats.annotated import Annotated
from shitu_cli.preparation.formats.base import ANNOTATIONS, Format, Rows
from shitu_cli.preparation.formats.boxes import XYXY, numbers
from shitu_cli.preparation.formats.discovery import annotation_files, head_and_tail, spread
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.values import list_of, object_of, words
from shitu_cli.preparation.problems import Problems


def _files(source: Source) -> list[str]:
    return [file for file in annotation_files(source, ".json") if "annos" in file.split("/")[:-1]]


def _detect(source: Source) -> bool:
    texts = [head_and_tail(source.base / file) for file in spread(_files(source))]
    return any(b'"item1"' in text and b'"bounding_box"' in text for text in texts)


def _read(source: Source, problems: Problems) -> Rows:
    gathered = Annotated(source, problems, "DeepFashion2", per_image=True)
    files = _files(source)
    if not files:
        raise DataError(f"{source.path}: no annos/*.json")
    for file in files:
        gathered.units[file] = "item{}"
        try:
            value = object_of(read_json(gathered.path(file), limit=64 * MIB))
        except DataError as error:
            problems.add("bad-annotation", error.message)
            continue
        image = gathered.settle(gathered.pair(file), file, file, 0)
        items = {key: object_of(item) for key, item in value.items() if key.startswith("item") and key[4:].isdigit()}
        for key, item in items.items() if image is not None else ():
            assert image is not None
            number = int(key[4:10])
            box = numbers(list_of(item.get("bounding_box")))
            if box is None or len(box) != 4:
                gathered.bad(file, number, "no bounding_box [x1, y1, x2, y2]")
            else:
                gathered.add(image, words(item.get("category_name")), file, number, box=box, convention=XYXY)
    rows = gathered.rows()
    rows.readings.append("the categories are the classes; that items of one pair_id and style are the same is not used")
    return rows


DEEP_FASHION2 = Format(
    "deepfashion2",
    "DeepFashion2: train/image/ with train/annos/, validation/ beside; every item is an image of its category",
    _detect,
    _read,
    ANNOTATIONS,
)
