"""Boxes in the cells of tables and lists: what their four numbers mean, judged by the sizes of the images."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from shitu_cli.errors import UsageError
from shitu_cli.preparation.formats.base import Box
from shitu_cli.preparation.formats.boxes import (
    CXCYWH_SHARE,
    XYWH,
    XYWH_SHARE,
    XYXY,
    XYXY_SHARE,
    Convention,
    Size,
    box_columns,
    check_convention,
    fits,
    numbers,
)

_POSSIBLE = (XYXY, XYWH, XYXY_SHARE, XYWH_SHARE, CXCYWH_SHARE)
_FIT, _BEST = 0.98, 0.8  # shares of boxes that fit their images as a convention


CellBox = tuple[tuple[float, ...], Convention | None]
_PAIRS = re.compile(r"""['"]?([A-Za-z_0-9]{1,20})['"]?\s{0,3}:\s{0,3}(-?\d{1,9}(?:\.\d{0,12})?)""")
_EMPTY = ("", "nan", "none", "-")


def cell_box(cells: Sequence[str]) -> CellBox | None:
    """Return the numbers of a box from four cells or one ([1, 2, 3, 4], 1 2 3 4), and what they mean if they say so.

    {'x': 30, 'y': 20, 'w': 40, 'h': 60} says it. None for a whole image, whose cells are empty; ValueError for others.
    """
    if all(cell.strip().lower() in _EMPTY for cell in cells):
        return None
    if len(cells) == 1:
        pairs = _PAIRS.findall(cells[0][:500])
        if (box := box_columns([name for name, _ in pairs])) is not None:
            named = numbers(pairs[n][1] for n in box[0])
            if named is not None:
                return named, box[1]
    parts = re.split(r"[\s,;]+", cells[0].strip().strip("[](){}").strip()) if len(cells) == 1 else cells
    values = numbers(parts)
    if values is None or len(values) != 4:
        raise ValueError(f"box {' '.join(cells)[:80]!r}, expected x1,y1,x2,y2")
    return values, None


def settle_convention(
    place: str,
    entries: Sequence[tuple[Sequence[float], str, str]],
    stated: Convention | None,
    size_of: Callable[[str], Size | None],
    columns: str,
) -> Convention:
    """Return what the boxes of a file mean.

    Args:
        place: The file, for errors.
        entries: Four numbers, the image and `file:line` of a sample of the boxes.
        stated: What the names of the columns or the user say; None if they do not.
        size_of: The size of an image, None if it is not known.
        columns: How the option --columns names the box, for the way out.

    Raises DataError if the images contradict what is stated, UsageError if nothing is and two meanings fit.
    """
    judged = [(values, size, where) for values, image, where in entries if (size := size_of(image)) is not None]
    if stated is not None:
        way_out = f"say what they are: --columns {columns}:xywh, or :xyxy, :cxcywh-share, ..."
        check_convention(place, judged, stated, way_out=way_out)
        return stated
    if not judged:
        return XYXY
    shares = {
        convention: sum(fits(convention.corners(values, size), size) for values, size, _ in judged) / len(judged)
        for convention in _POSSIBLE
    }
    fitting = [convention for convention in _POSSIBLE if shares[convention] >= _FIT]
    if len(fitting) > 1:
        values, size, where = judged[0]
        raise UsageError(
            f"{place}: the boxes fit their images in more than one way: {' or '.join(c.text for c in fitting)}",
            details=[
                f"{where}: {_shown(values)} in {size[0]} x {size[1]} as {c.text}: {_shown(c.corners(values, size))}"
                for c in fitting
            ],
            hint=" or ".join(f"--columns {columns}:{c.name}" for c in fitting),
        )
    if fitting:
        return fitting[0]
    best, second = sorted(_POSSIBLE, key=lambda c: -shares[c])[:2]
    return best if shares[best] >= _BEST and shares[second] < shares[best] / 2 else XYXY


def placed(values: Sequence[float], convention: Convention, size: Size | None) -> Box | None:
    """Return a box in pixels, cut off at 0; None if the size that is needed is not known."""
    if convention.whole is not None and size is None:
        return None
    x1, y1, x2, y2 = convention.corners(values, size)
    if convention is XYXY:
        return x1, y1, x2, y2
    return round(max(0.0, x1), 2), round(max(0.0, y1), 2), round(x2, 2), round(y2, 2)


def _shown(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
