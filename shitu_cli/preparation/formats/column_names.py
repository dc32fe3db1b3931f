"""Names of columns, compared without case, spaces and signs: what is in a column by its name."""

from __future__ import annotations

import re

from shitu_cli.preparation.formats.splits import FLAGS, SPLIT_NAMES


def name_set(text: str) -> frozenset[str]:
    """Return the words of a text as a set."""
    return frozenset(text.split())


# The first tuple comes before the second.
LABEL_NAMES = (
    ("label", "labels"),
    (
        *("class", "classname", "classid", "classlabel", "labelname", "labelid", "category", "categoryname", "target"),
        *("categoryid", "groundtruth", "tag", "y", "choice"),
    ),
)
IMAGE_NAMES = name_set(
    "image path file filename filepath imagepath img imgpath name imagename imageid imgname imgid photo picture url "
    "imageurl src imagefile uri link"
)
CAMERA_NAMES = frozenset(["camera", "cameraid", "camid", "cam"])
ID_NAMES = frozenset(("id", "sequence", "sequenceid", "seq", "seqid", "track", "trackid", "tracklet"))
# Columns that are measures, dates and notes by their names: the label only where the user says so.
MEASURES = name_set(
    "width height size area price stock count quantity qty score confidence probability prob lat lon latitude "
    "longitude year month day date time datetime timestamp rating weight age leadtime annotator annotatorid "
    "annotationid createdat updatedat index idx row rownumber url link source license author copyright md5 "
    "sha1 sha256 hash phash imagephash filesize bytes iso aperture exposure focallength "
    "depth channels iscrowd crowd occluded truncated difficult"
)
# Columns that may say which rows are not to be used.
EXCLUDES = name_set(
    "deleted exclude excluded ignore ignored skip skipped valid verified approved reviewed rejected status quality "
    "duplicate usable bad"
)
CERTAINTIES = frozenset(("score", "confidence", "probability", "prob"))
BOX_NAMES = frozenset(("box", "bbox", "boundingbox", "roi", "rect", "rectangle", "bndbox"))
# Columns that may say a part of the image.
PARTS = re.compile(
    r"^(?:bbox|bounding|box|roi|polygon|segment|rle|encodedpixels|corner|topleft|[xy]\d?$|[xy](?:min|max))"
)
NO_LABELS = MEASURES | CAMERA_NAMES | SPLIT_NAMES | FLAGS.keys()
# Labels under names of their own, such as label_fixed beside label; not those of a program, or of before.
OTHER_LABELS = re.compile(
    r"(?!.*(?:pred|guess|model|auto|old|prev|orig|raw|noisy|count|num|score|conf|prob|quality|index|source))"
    r".*(?:label|class|categor|target)"
)
