"""Boxes as files write them: a format states its convention, which is checked against the images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shitu_cli.errors import DataError
from shitu_cli.inputs.numbers import MAX_SIDE
from shitu_cli.preparation.formats.base import Box
from shitu_cli.preparation.formats.values import list_of

Size = tuple[int, int]
# How far a box may leave its image: tools round, and some count pixels from 1.
SLACK_PIXELS, SLACK_SHARE = 2.0, 0.02
# Shares of boxes that leave their images from which a whole file may be misread; fewer are mistakes. Corners read as
# sizes rarely leave their images, sizes read as corners are upside down in half of the cases.
CONTRADICTION = {"corners": 0.2, "size": 0.02, "centre": 0.02}
MIN_SIDE = 4.0  # pixels below which a box shows nothing that could be recognised


@dataclass(frozen=True)
class Convention:
    """What the four numbers of a box mean.

    `name` is the short word for it, `text` the words for users; `shape` is corners, size (corner, width, height) or
    centre (centre, width, height), and a whole side of the image is `whole` units long, None for pixels.
    """

    name: str
    text: str
    shape: str
    whole: float | None = None

    def corners(self, values: Sequence[float], size: Size | None) -> Box:
        """Return x1, y1, x2, y2 in pixels; `size` (width, height) of the image is needed unless the unit is pixels."""
        a, b, c, d = values
        if self.whole is not None:
            assert size is not None
            across, down = size[0] / self.whole, size[1] / self.whole
            a, b, c, d = a * across, b * down, c * across, d * down
        if self.shape == "size":
            return a, b, a + c, b + d
        if self.shape == "centre":
            return a - c / 2, b - d / 2, a + c / 2, b + d / 2
        return a, b, c, d


XYXY = Convention("xyxy", "x1,y1,x2,y2 in pixels", "corners")
XYWH = Convention("xywh", "x,y,width,height in pixels", "size")
CXCYWH = Convention("cxcywh", "centre x,centre y,width,height in pixels", "centre")
XYXY_SHARE = Convention("xyxy-share", "x1,y1,x2,y2 in shares of the image, 0 to 1", "corners", 1)
XYWH_SHARE = Convention("xywh-share", "x,y,width,height in shares of the image, 0 to 1", "size", 1)
CXCYWH_SHARE = Convention("cxcywh-share", "centre x,centre y,width,height in shares of the image, 0 to 1", "centre", 1)
XYWH_PERCENT = Convention("xywh-percent", "x,y,width,height in percent of the image", "size", 100)
SHARES = {XYXY: XYXY_SHARE, XYWH: XYWH_SHARE, CXCYWH: CXCYWH_SHARE}  # the same in shares of the image
CONVENTIONS = (XYXY, XYWH, CXCYWH, XYXY_SHARE, XYWH_SHARE, CXCYWH_SHARE, XYWH_PERCENT)

# Columns of tables that together are a box, with what they mean; names without case, blanks and signs between words.
BOX_COLUMNS: tuple[tuple[tuple[str, str, str, str], Convention], ...] = (
    (("xmin", "ymin", "xmax", "ymax"), XYXY),
    (("x1", "y1", "x2", "y2"), XYXY),
    (("x0", "y0", "x1", "y1"), XYXY),
    (("left", "top", "right", "bottom"), XYXY),
    (("xtl", "ytl", "xbr", "ybr"), XYXY),
    (("roix1", "roiy1", "roix2", "roiy2"), XYXY),
    (("topleftx", "toplefty", "bottomrightx", "bottomrighty"), XYXY),
    (("bboxx1", "bboxy1", "bboxx2", "bboxy2"), XYXY),
    (("bboxxmin", "bboxymin", "bboxxmax", "bboxymax"), XYXY),
    (("x", "y", "width", "height"), XYWH),
    (("x", "y", "w", "h"), XYWH),
    (("xmin", "ymin", "width", "height"), XYWH),
    (("xmin", "ymin", "w", "h"), XYWH),
    (("left", "top", "width", "height"), XYWH),
    (("bboxx", "bboxy", "bboxwidth", "bboxheight"), XYWH),
    (("bboxx", "bboxy", "bboxw", "bboxh"), XYWH),
    (("xcenter", "ycenter", "width", "height"), CXCYWH),
    (("centerx", "centery", "width", "height"), CXCYWH),
    (("cx", "cy", "w", "h"), CXCYWH),
)


_DECIMAL_COMMA = re.compile(r"\s*-?\d{1,9},(?:\d{1,2}|\d{4,9})\s*")


def plain_name(column: str) -> str:
    """Return a column's name without case, blanks and signs: `X_min`, `x min` and `xmin` are the same."""
    return "".join(sign for sign in column.casefold() if sign.isalnum())


def box_columns(header: Sequence[str]) -> tuple[list[int], Convention] | None:
    """Return the positions of the four columns of a box, and what their names say it means; None without a box."""
    at: dict[str, int] = {}
    for number, name in enumerate(header):
        at.setdefault(plain_name(name), number)
    for names, convention in BOX_COLUMNS:
        if all(name in at for name in names) and not ("x1" in names and "x3" in at):  # four corners are no box
            return [at[name] for name in names], convention
    return None


def numbers(values: Iterable[object]) -> tuple[float, ...] | None:
    """Return the values as numbers, None if one is not a number below `MAX_SIDE`; text that holds a number counts.

    So does text with a decimal comma, but not 1,024, which may be a thousand.
    """
    result = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        if isinstance(value, str) and "_" in value:  # Python allows it between digits
            return None
        if isinstance(value, str) and _DECIMAL_COMMA.fullmatch(value):
            value = value.replace(",", ".")
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        if not abs(number) < MAX_SIDE:  # nor is NaN
            return None
        result.append(number)
    return tuple(result)


def stated_size(width: object, height: object) -> Size | None:
    """Return the size of an image that a file states; None if it states none, or 0 as some tools do."""
    values = numbers((width or 0, height or 0))
    if values is None or not 1 <= min(values) <= max(values) < 1e6:
        return None
    return int(values[0]), int(values[1])


def around(points: Sequence[Sequence[float]]) -> Box:
    """Return the box around points (x, y)."""
    xs, ys = [point[0] for point in points], [point[1] for point in points]
    return min(xs), min(ys), max(xs), max(ys)


def around_points(points: object, least: int = 2) -> Box | None:
    """Return the box around a list of points [x, y]; None for fewer than `least`, or if one is not a point."""
    pairs = [numbers(list_of(point)) for point in list_of(points)]
    good = [pair for pair in pairs if pair is not None and len(pair) == 2]
    return around(good) if len(good) == len(pairs) >= least else None


def around_flat(values: Sequence[float] | None, least: int = 2) -> Box | None:
    """Return the box around points x1, y1, x2, y2, ...; None for fewer than `least`."""
    if values is None or len(values) % 2 or len(values) < 2 * least:
        return None
    return around(list(zip(values[::2], values[1::2], strict=True)))


def around_centre(x: float, y: float, across: float, down: float) -> Box:
    """Return the box around the centre x, y that reaches `across` and `down` from it."""
    return x - across, y - down, x + across, y + down


def around_size(x: float, y: float, width: float, height: float) -> Box:
    """Return the box of this size below and right of x, y."""
    return x, y, x + width, y + height


def size_form(box: Box) -> Box:
    """Return x, y, width, height of a box of two corners."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def turned(x: float, y: float, width: float, height: float, degrees: float) -> Box:
    """Return the box around a rectangle that is turned clockwise about its corner x, y (Label Studio's convention)."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    corners = [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)]
    return around([(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners])


def fits(box: Box, size: Size) -> bool:
    """Return whether a box in pixels is at least a pixel wide and high and inside its image."""
    x1, y1, x2, y2 = box
    slack_x, slack_y = (max(SLACK_PIXELS, SLACK_SHARE * side) for side in size)
    inside = x1 >= -slack_x and y1 >= -slack_y and x2 <= size[0] + slack_x and y2 <= size[1] + slack_y
    return inside and x2 - x1 >= 1 and y2 - y1 >= 1


def check_convention(
    file: str,
    boxes: Sequence[tuple[Sequence[float], Size, str]],
    stated: Convention,
    way_out: str | None = None,
) -> None:
    """Refuse a file whose boxes contradict its convention as a whole.

    Args:
        file: The file that holds the boxes, for the error.
        boxes: Four numbers, the size of the image and the place (`file:line`) of each box of a sample.
        stated: The convention of the file's format.
        way_out: The hint of the error.

    Raises DataError if boxes leave their images as `stated` and all of them fit as another convention. A few bad
    boxes are reported elsewhere.
    """
    wrong = [entry for entry in boxes if not fits(stated.corners(entry[0], entry[1]), entry[1])]
    if not wrong or len(wrong) < CONTRADICTION[stated.shape] * len(boxes):
        return
    better = [
        other
        for other in CONVENTIONS
        if other is not stated and all(fits(other.corners(values, size), size) for values, size, _ in boxes)
    ]
    if not better:
        return
    values, size, where = wrong[0]
    shown = ",".join(f"{value:g}" for value in values)
    readings = [f"as {c.text}: {_shown(c.corners(values, size))}" for c in (stated, *better)]
    raise DataError(
        f"{file}: {len(wrong):,} of {len(boxes):,} boxes leave their images when they are read as {stated.text}, which "
        f"this format has; read as {' or as '.join(c.text for c in better)} all of them fit",
        details=[f"{where}: {shown} in an image of {size[0]} x {size[1]} is", *readings],
        hint=way_out or f"write the boxes as {stated.text}, or export them again from the tool that made them",
    )


def _shown(box: Box) -> str:
    return f"{box[0]:g},{box[1]:g} to {box[2]:g},{box[3]:g}"
