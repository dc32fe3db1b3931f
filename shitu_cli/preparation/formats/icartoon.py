"""iCartoonFace, recognition track: faces by boxes, and labelled test faces with distractors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from shitu_cli.preparation.formats.base import Box, Rows
from shitu_cli.preparation.formats.boxes import numbers
from shitu_cli.preparation.formats.dataset import Entry, add_lines, dataset
from shitu_cli.preparation.formats.source import Source
from shitu_cli.preparation.problems import Problems

TRAIN, TEST = "icartoonface_rectrain", "icartoonface_rectest"


class _Home(NamedTuple):
    """The lists and the folders of images; the test may be missing."""

    root: Path
    train: tuple[Path, Path]
    test: tuple[Path, Path] | None


def _home(source: Source) -> _Home | None:
    def both(listed: str, folder: str) -> tuple[Path, Path] | None:
        listing = next((file for file in source.tree.files if file.rpartition("/")[2] == listed), None)
        images = (f"/{image}".partition(f"/{folder}/") for image in (source.tree.images if listing else ()))
        above = next((above for above, part, _ in images if part), None)
        return (
            (source.base / listing, source.base / f"{above}/{folder}".lstrip("/"))
            if listing and above is not None
            else None
        )

    train = both(f"{TRAIN}_det.txt", TRAIN)
    return _Home(source.base, train, both(f"{TEST}_info.txt", TEST)) if train is not None else None


def _read(home: _Home, protocol: str, problems: Problems) -> Rows:
    rows = Rows(home.root)
    listed, folder = home.train
    prefix = folder.relative_to(home.root).as_posix()

    def train(line: str) -> list[Entry] | None:
        image, *cells = line.split()
        box = _box(cells)
        # personai_icartoonface_rectrain_00012/..._0000345.jpg: the folder ends with the identity.
        label = image.rpartition("/")[0].rpartition("_")[2]
        return [Entry(f"{prefix}/{image}", f"train-{label}", "train", box)] if box and len(cells) == 4 else None

    add_lines(rows, listed, train, "path and box", problems)
    if home.test is not None:
        listed, folder = home.test
        prefix = folder.relative_to(home.root).as_posix()
        add_lines(rows, listed, lambda line: _test(line, prefix), "name, box, label", problems)
    return rows


def _test(line: str, prefix: str) -> list[Entry] | None:
    """Read a test face as query and gallery; label -1 is a distractor, in the gallery only."""
    image, *cells = line.split()
    if len(cells) == 1:
        return []  # pairs of the official protocol
    box = _box(cells)
    if box is None or len(cells) != 5:
        return None
    if cells[4] == "-1":
        return [Entry(f"{prefix}/{image}", "-1", "gallery", box)]
    return [Entry(f"{prefix}/{image}", f"test-{cells[4]}", split, box) for split in ("query", "gallery")]


def _box(cells: list[str]) -> Box | None:
    values = numbers(cells[:4])
    return (values[0], values[1], values[2], values[3]) if values is not None and len(values) == 4 else None


ICARTOON = dataset(
    "icartoonface",
    "iCartoonFace: icartoonface_rectrain/ with its _det.txt; test faces with icartoonface_rectest_info.txt",
    home=_home,
    read=_read,
    needs=f"{TRAIN}_det.txt and the folder {TRAIN}/",
)
