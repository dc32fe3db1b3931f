"""Source formats of `shitu prepare`. To add one: write a file with a Format and name it here."""

from __future__ import annotations

from shitu_cli.errors import Command, UsageError
from shitu_cli.preparation.formats.aircraft import AIRCRAFT
from shitu_cli.preparation.formats.aliproduct import ALIPRODUCT
from shitu_cli.preparation.formats.base import Format
from shitu_cli.preparation.formats.box_tables import BOX_TABLE
from shitu_cli.preparation.formats.cars import CARS
from shitu_cli.preparation.formats.coco import COCO
from shitu_cli.preparation.formats.createml import CREATE_ML
from shitu_cli.preparation.formats.cub import CUB
from shitu_cli.preparation.formats.cvat import CVAT
from shitu_cli.preparation.formats.deepfashion2 import DEEP_FASHION2
from shitu_cli.preparation.formats.fiftyone import FIFTYONE
from shitu_cli.preparation.formats.gldv2 import GLDV2
from shitu_cli.preparation.formats.groundtruth import GROUND_TRUTH
from shitu_cli.preparation.formats.huggingface import HUGGING_FACE
from shitu_cli.preparation.formats.icartoon import ICARTOON
from shitu_cli.preparation.formats.inshop import INSHOP
from shitu_cli.preparation.formats.labelme import LABELME
from shitu_cli.preparation.formats.labelstudio import LABEL_STUDIO
from shitu_cli.preparation.formats.logodet import LOGODET
from shitu_cli.preparation.formats.one_hot import ONE_HOT
from shitu_cli.preparation.formats.pets import PETS
from shitu_cli.preparation.formats.plain_tables import PLAIN_TABLE
from shitu_cli.preparation.formats.products10k import PRODUCTS10K
from shitu_cli.preparation.formats.reid import MARKET1501, VERI776
from shitu_cli.preparation.formats.sop import SOP
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.formats.supervisely import SUPERVISELY
from shitu_cli.preparation.formats.table import TABLE
from shitu_cli.preparation.formats.textlist import TEXT_LIST
from shitu_cli.preparation.formats.tiny_imagenet import TINY_IMAGENET
from shitu_cli.preparation.formats.tree import CLASS_TREE, SPLIT_TREE
from shitu_cli.preparation.formats.veriwild import VERIWILD
from shitu_cli.preparation.formats.via import VIA
from shitu_cli.preparation.formats.voc import VOC
from shitu_cli.preparation.formats.yolo import YOLO

# The first that recognises a source reads it: special layouts come before general ones.
FORMATS: tuple[Format, ...] = (
    *(ALIPRODUCT, GLDV2, VERIWILD, LOGODET, ICARTOON, SOP, INSHOP),
    *(CUB, CARS, PRODUCTS10K, MARKET1501, VERI776, PETS, TINY_IMAGENET, AIRCRAFT),
    *(COCO, VOC, YOLO, LABELME, CREATE_ML, CVAT, VIA, LABEL_STUDIO, GROUND_TRUTH, SUPERVISELY, FIFTYONE),
    *(DEEP_FASHION2, HUGGING_FACE, BOX_TABLE, PLAIN_TABLE, ONE_HOT),
    *(TABLE, TEXT_LIST, SPLIT_TREE, CLASS_TREE),
)


def find_format(source: Source, name: str | None = None) -> Format:
    """The format named, or the first that recognises the source; UsageError for an unknown name."""
    if name is not None:
        for known in FORMATS:
            if known.name == name:
                return known
        raise UsageError(
            f"--format {name}: expected one of {', '.join(f.name for f in FORMATS)}",
            hint=Command("prepare", "--formats"),
        )
    found = next((known for known in FORMATS if known.detect(source)), None)
    if found is None:
        raise UsageError(
            f"{source.path}: not a layout that is known", hint=[Command("prepare", "--formats"), " lists them"]
        )
    return found
