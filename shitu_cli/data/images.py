"""Decode images: always to 8-bit RGB, upright according to their EXIF data, with errors that name the file."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from shitu_cli.data import heif
from shitu_cli.data.header import Header, read_header, size_problem
from shitu_cli.errors import Command, DataError, Message, ShituError, pip_install
from shitu_cli.inputs import MIB, box_of
from shitu_cli.stores import read_image

# It writes to stderr why it cannot decode an image; our errors say it, and name the file.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Box = tuple[float, float, float, float]
MAX_BYTES = 512 * MIB
_LEAVE_OUT: Message = [Command("prepare", "./data", "--fix"), " leaves such images out"]
# OpenCV's flags at a fraction of the size, with the decoder's own RGB order instead of BGR.
_FLAGS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 & ~cv2.IMREAD_COLOR | cv2.IMREAD_COLOR_RGB,
}
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm", ".jfif", ".gif", ".avif"}
    | heif.SUFFIXES
)


def is_image_name(name: str) -> bool:
    """Return whether a name ends as images do."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def with_box(path: str, box: Box | None) -> str:
    """Return the name of a part of an image, `photo.jpg#10,10,90,90`; the path itself without a box."""
    return path if box is None else f"{path}#{','.join(f'{side:g}' for side in box)}"


def split_box(name: str) -> tuple[str, Box | None]:
    """Return the path and the box in a name as `with_box` gives it; None for a whole image."""
    path, _, text = name.rpartition("#")
    box = box_of(text) if path else None
    return (name, None) if box is None else (path, box)


def decode_image(source: str | Path | bytes, *, box: Box | None = None, enough: int | None = None) -> np.ndarray:
    """Return an image as uint8 [H, W, 3] RGB; grey, alpha, CMYK and 16-bit images are converted.

    `source` is a file, a member of an archive (`shard.tar::a.jpg`), an address, or the bytes of an image.
    `box` x1, y1, x2, y2 crops to that part (clipped to the image). If `enough` pixels of the short side suffice, a
    JPEG is decoded at a half, a quarter or an eighth of its size, which is several times as fast and smooths like
    averaging. Raises DataError that names the file if it cannot be decoded.
    """
    name = "image bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes):
        # cv2.imread cannot open every path (non-ASCII on Windows); reading the bytes works.
        try:
            source = read_image(source, limit=MAX_BYTES, hint=[Command("prepare", "./data"), " checks every image"])
        except ShituError as problem:  # an unreadable file is treated like a damaged image
            raise DataError(problem.message.removeprefix("cannot read "), hint=problem.hint) from None
    if not source:
        raise DataError(f"{name}: the file is empty", hint=_LEAVE_OUT)
    header = read_header(source)
    if header.kind is None:
        raise DataError(f"{name}: could not be read as an image", hint=_LEAVE_OUT)
    if why := size_problem(header):
        raise DataError(f"{name}: {why}", hint="make the image smaller, or leave it out")
    factor = 1 if enough is None else _fraction(header, box, enough)
    if header.kind == "HEIC" and not heif.is_readable():
        raise DataError(f"{name}: HEIC images need the package pillow-heif", hint=pip_install("heic"))
    try:
        image = _decode(source, header, factor)
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({_reason(error)})", hint=_LEAVE_OUT) from None
    if image is None:
        raise DataError(f"{name}: could not be read as an image", hint=_LEAVE_OUT)
    if box is not None:
        image = crop(image, tuple(value / factor for value in box), name)  # type: ignore[arg-type]
    return image


def _decode(data: bytes, header: Header, factor: int) -> np.ndarray | None:
    """Return RGB pixels, None for a format unknown to OpenCV; plain JPEGs take a faster way to the same pixels."""
    upright = header.kind == "JPEG" and header.orientation == 1 and header.channels in (1, 3)
    if upright and factor == 1:
        # A flawed one falls through to OpenCV, which tolerates more.
        with contextlib.suppress(ValueError):
            return np.asarray(simplejpeg.decode_jpeg(data, "RGB"))
    if header.kind == "HEIC":
        return heif.decode(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), _FLAGS[factor])
    # OpenCV applies the orientation of the other formats itself.
    return turn_upright(image, header.orientation) if image is not None and header.kind == "AVIF" else image


def turn_upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Return the upright image [H, W, 3] from the stored pixels and EXIF's orientation (1 to 8)."""
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _fraction(header: Header, box: Box | None, enough: int) -> int:
    """Return the largest of 8, 4, 2 and 1 by which the sides of a JPEG, or of the box in it, may be divided."""
    if header.kind != "JPEG":
        return 1
    side = min(header.width, header.height) if box is None else min(box[2] - box[0], box[3] - box[1])
    return next((factor for factor in (8, 4, 2) if side >= factor * enough), 1)


def crop(image: np.ndarray, box: Box, name: str = "image") -> np.ndarray:
    """Return the part x1, y1, x2, y2 of an image [H, W, 3]; DataError if it lies outside the image."""
    height, width = image.shape[:2]
    x1, y1 = max(0, int(box[0])), max(0, int(box[1]))
    x2, y2 = min(width, round(box[2])), min(height, round(box[3]))
    if x1 >= x2 or y1 >= y2:
        raise DataError(
            f"{name}: the box {box} lies outside the image, which is {width} x {height} pixels",
            hint="correct the box, or remove it to use the whole image",
        )
    return image[y1:y2, x1:x2]


def _reason(error: cv2.error) -> str:
    text = str(getattr(error, "err", "") or error).strip()
    return text.splitlines()[0] if text else "unknown reason"
