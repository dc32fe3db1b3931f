"""Decoding pictures: always 8-bit RGB, turned upright as their EXIF says, errors that name the file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from shitu_cli.errors import DataError

Box = tuple[float, float, float, float]
_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4}
_REDUCED[8] = cv2.IMREAD_REDUCED_COLOR_8
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".jp2", ".pgm", ".ppm", ".jfif"} | {".gif", ".avif"}
)


def decode_image(source: str | Path | bytes, *, box: Box | None = None, reduce: int = 1) -> np.ndarray:
    """A picture as uint8 [H, W, 3] RGB; grey, alpha, CMYK and 16-bit ones are converted.

    `box` x1, y1, x2, y2 cuts out that part (clipped to the picture). `reduce` 2, 4 or 8 decodes a JPEG at a fraction
    of its size, several times faster. Raises DataError naming the file when it cannot be decoded.
    """
    name = "image bytes" if isinstance(source, bytes) else str(source)
    if not isinstance(source, bytes):
        # cv2.imread cannot open every path (non-ASCII on Windows), reading bytes can.
        try:
            source = Path(source).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: {error.strerror or error}", hint="shitu prepare checks every picture") from None
    if not source:
        raise DataError(f"{name}: the file is empty", hint="shitu prepare --fix leaves such pictures out")
    try:
        image = cv2.imdecode(np.frombuffer(source, np.uint8), _REDUCED[reduce])
    except cv2.error as error:
        raise DataError(f"{name}: cannot be decoded ({_reason(error)})") from None
    if image is None:
        raise DataError(
            f"{name}: not a picture that can be decoded", hint="shitu prepare --fix leaves such pictures out"
        )
    if box is not None:
        image = crop(image, tuple(value / reduce for value in box), name)  # type: ignore[arg-type]
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
