"""DeepFashion In-shop Clothes Retrieval: Eval/list_eval_partition.txt."""

from __future__ import annotations

import re
from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Rows, first_bytes
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

PARTITION = "list_eval_partition.txt"
_PACKED = ("Img/img.zip", "img.zip", "Img/img_highres.zip")
_HEADING = re.compile(rb"image_name\s+item_id")


def _partition(source: Source) -> Path | None:
    """Return the list of items; CelebA and other DeepFashion sets have one of the same name with other columns."""
    patterns = (PARTITION, f"Eval/{PARTITION}", f"*/{PARTITION}", f"*/Eval/{PARTITION}")
    paths = (path for pattern in patterns for path in sorted(source.path.glob(pattern)))
    return next((path for path in paths if _HEADING.search(first_bytes(path, 200))), None)


def _read(path: Path, protocol: str, problems: Problems) -> Rows:
    base = path.parent.parent if path.parent.name == "Eval" else path.parent
    # The list's paths begin with img/, which is in Img/ or beside it.
    rows = Rows(base / "Img" if (base / "Img" / "img").is_dir() else base)
    if not (rows.root / "img").is_dir():
        packed = next((base / name for name in _PACKED if (base / name).is_file()), None)
        way = f"unpack it: unzip {packed} -d {packed.parent}" if packed else "they come in img.zip of the data set"
        raise DataError(f"{base}: no folder img/ with the images", hint=way)
    # The first two lines are their number and a heading.
    add_lines(rows, path, _parse, "image_name item_id evaluation_status", problems, skip=2)
    return rows


def _parse(line: str) -> list[Entry] | None:
    cells = line.rsplit(maxsplit=2)
    whole = len(cells) == 3 and cells[2] in ("train", "query", "gallery")
    return [Entry(cells[0].strip(), cells[1], cells[2])] if whole else None


INSHOP = dataset(
    "inshop",
    "DeepFashion In-shop: Eval/list_eval_partition.txt and img/; whole images, as the boxes belong to other sizes",
    home=_partition,
    read=_read,
    needs=f"Eval/{PARTITION}",
)
