"""Decoding pictures: always 8-bit RGB, turned upright as their EXIF says, errors that name the file."""

from __future__ import annotations

import contextlib
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from shitu_cli.data.header import MAX_PIXELS, Header, read_header
from shitu_cli.errors import Command, DataError, ShituError
from shitu_cli.inputs import MIB, read_bytes

Box = tuple[float, float, float, float]
MAX_BYTES = 512 * MIB
# OpenCV's flags at a fraction of the size, with the decoder's own RGB order instead of BGR.
_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
}
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm", ".jfif"} | {".gif", ".avif"}
)


def decode_image(source: str | Path | bytes, *, box: Box | None = None, enough: int | None = None) -> np.ndarray:
    """A picture as uint8 [H, W, 3] RGB; grey, alpha, CMYK and 16-bit ones are converted.

    `box` x1, y1, x2, y2 cuts out that part (clipped to the picture). Where `enough` pixels of the short side do, a
    JPEG is decoded at a half, a quarter or an eighth of its size, which is several times as fast and smooths like
    averaging. Raises DataError naming the file when it cannot be decoded.
    """
    name = "image bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes):
        # cv2.imread cannot open every path (non-ASCII on Windows), reading bytes can.
        try:
            source = read_bytes(source, limit=MAX_BYTES, hint=[Command("prepare", "./data"), " checks every image"])
        except ShituError as problem:  # one image that may not be read is left out like one that is damaged
            raise DataError(problem.message.removeprefix("cannot read "), hint=problem.hint) from None
    if not source:
        raise DataError(
            f"{name}: the file is empty", hint=[Command("prepare", "./data", "--fix"), " leaves such images out"]
        )
    header = read_header(source)
    if header.width * header.height > MAX_PIXELS:
        raise DataError(f"{name}: {header.width} x {header.height} pixels are too many (at most {MAX_PIXELS:,})")
    factor = 1 if enough is None else _fraction(header, box, enough)
    try:
        image = _decode(source, header, factor)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({_reason(error)})") from None
    if image is None:
        raise DataError(
            f"{name}: not a picture that can be decoded",
            hint=[Command("prepare", "./data", "--fix"), " leaves such images out"],
        )
    if box is not None:
        image = crop(image, tuple(value / factor for value in box), name)  # type: ignore[arg-type]
    return image


def _decode(data: bytes, header: Header, factor: int) -> np.ndarray | None:
    """RGB pixels, None for what OpenCV does not know; plain JPEGs by the faster way to the same pixels."""
    upright = header.kind == "JPEG" and header.orientation == 1 and header.channels in (1, 3)
    if upright and factor == 1 and header.width * header.height <= MAX_PIXELS:
        # One with a flaw goes on to OpenCV, which forgives more.
        with contextlib.suppress(ValueError):
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor])
    # OpenCV turns the others itself.
    return turned(image, header.orientation) if image is not None and header.kind == "AVIF" else image


def turned(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image [H, W, 3] as it is shown, from the pixels as stored and EXIF's number from 1 to 8."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _fraction(header: Header, box: Box | None, enough: int) -> int:
    """The largest of 8, 4, 2 and 1 by which the sides of a JPEG, or of the box in it, may be divided."""
    if header.kind != "JPEG":
        return 1
    side = min(header.width, header.height) if box is None else min(box[2] - box[0], box[3] - box[1])
    return next((factor for factor in (8, 4, 2) if side >= factor * enough), 1)


def crop(image: np.ndarray, box: Box, name: str = "image") -> np.ndarray:
    """The part x1, y1, x2, y2 of a picture [H, W, 3]; DataError when nothing of it lies inside."""
    height, width = image.shape[:2]
    x1, y1 = max(0, int(box[0])), max(0, int(box[1]))
    x2, y2 = min(width, round(box[2])), min(height, round(box[3]))
    if x1 >= x2 or y1 >= y2:
        raise DataError(f"{name}: the box {box} lies outside the picture of {width} x {height}")
    return image[y1:y2, x1:x2]


def _reason(error: cv2.error) -> str:
    text = str(getattr(error, "err", "") or error).strip()
    return text.splitlines()[0] if text else "unknown reason"
