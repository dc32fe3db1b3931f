"""DeepFashion In-shop Clothes Retrieval: Eval/list_eval_partition.txt."""

from __future__ import annotations

from pathlib import Path

from shitu_cli.errors import DataError
from shitu_cli.preparation.formats.base import Format, Rows, read_text
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

PARTITION = "list_eval_partition.txt"


def _partition(root: Path) -> Path | None:
    if not root.is_dir():
        return None
    found = (root / PARTITION, root / "Eval" / PARTITION, *sorted(root.glob(f"*/{PARTITION}")))
    return next((p for p in (*found, *sorted(root.glob(f"*/Eval/{PARTITION}"))) if p.is_file()), None)


def _detect(source: Source) -> bool:
    root = source.path
    return _partition(root) is not None


def _read(source: Source, problems: Problems) -> Rows:
    root = source.path
    path = _partition(root)
    if path is None:
        raise DataError(f"{root}: no Eval/{PARTITION}")
    base = path.parent.parent if path.parent.name == "Eval" else path.parent
    # The list's paths begin with img/, which lies in Img/ or beside it.
    rows = Rows(base / "Img" if (base / "Img" / "img").is_dir() else base)
    if not (rows.root / "img").is_dir():
        packed = next(
            (p for p in (base / "Img/img.zip", base / "img.zip", base / "Img/img_highres.zip") if p.is_file()), None
        )
        way = f"unpack it: unzip {packed} -d {packed.parent}" if packed else "they come in img.zip of the data set"
        raise DataError(f"{base}: no folder img/ with the images", hint=way)
    for number, line in enumerate(read_text(path, problems).split("\n"), 1):
        parts = line.rsplit(maxsplit=2)
        if number <= 2 or not parts:
            continue  # the count, then image_name item_id evaluation_status
        if len(parts) != 3 or parts[2] not in ("train", "query", "gallery"):
            problems.add("malformed", f"{path}:{number}", f"expected path, item, status, got {line.strip()!r}")
            continue
        rows.add(parts[0].strip(), parts[1], parts[2], file=str(path), line=number)
    return rows


INSHOP = Format(
    "inshop",
    "DeepFashion In-shop: Eval/list_eval_partition.txt and img/; whole pictures, as the boxes belong to other sizes",
    _detect,
    _read,
)
