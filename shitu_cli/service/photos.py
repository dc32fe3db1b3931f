"""Photos that clients add: kept under the hash of their bytes, so that the same photo is there once."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from shitu_cli.boundary import place_to_write
from shitu_cli.data.header import read_header
from shitu_cli.data.images import decode_image, split_box
from shitu_cli.errors import DataError, ShituError
from shitu_cli.files import atomic_write, cannot_write, sha256_of

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif"}
SUFFIXES |= {"PNM": ".ppm", "AVIF": ".avif", "JPEG 2000": ".jp2"}
QUALITY = 85
_DIGITS = 32  # of the hash of its bytes, which is the name of a photo
_NAME = re.compile(rf"[0-9a-f]{{{_DIGITS}}}(\.[a-z0-9]+)?")


class Photos:
    """The folder for added photos."""

    def __init__(self, folder: Path) -> None:
        self.folder = place_to_write(folder)

    def place(self, data: bytes) -> Path:
        """Return the file of a photo with these bytes, whether it exists or not."""
        suffix = SUFFIXES.get(read_header(data).kind or "", "")
        return self.folder / f"{hashlib.sha256(data).hexdigest()[:_DIGITS]}{suffix}"

    def keep(self, data: bytes) -> Path:
        """Write a photo durably, unless it is there; return its file. Raises EnvironmentProblem if the disk refuses."""
        file = self.place(data)
        try:
            if not file.is_file() or file.stat().st_size != len(data):
                with atomic_write(file) as out:
                    out.write(data)
        except OSError as error:
            raise cannot_write(file, error) from error
        return file

    def holds(self, file: Path) -> bool:
        """Return whether `keep` wrote this file, which has the hash of its bytes as its name.

        The user may have photos in this folder too, named by another hash perhaps.
        """
        if file.parent.resolve() != self.folder or not _NAME.fullmatch(file.name):
            return False
        try:
            return sha256_of(file).startswith(file.name[:_DIGITS])
        except ShituError:  # it is gone, or cannot be read
            return False

    def forget(self, files: Iterable[Path]) -> None:
        """Delete files that are held here."""
        for file in files:
            with contextlib.suppress(OSError):
                file.unlink()


def thumbnail(name: Path, size: int, most_pixels: int) -> bytes:
    """Return an image of the index as a new JPEG whose sides are at most `size`, upright and without its metadata.

    `name` may end with the box that the index holds of it: `photo.jpg#10,10,90,90`. Nothing but pixels leaves the
    server, whatever file an untrusted index names. Raises DataError if it is not an image.
    """
    file, box = split_box(str(name))
    image = decode_image(Path(file), box=box, enough=size)
    height, width = image.shape[:2]
    if height * width > most_pixels:
        raise DataError(f"{name}: {width} x {height} pixels are too many to show")
    scale = min(1.0, size / max(height, width))
    if scale < 1:
        shape = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()
