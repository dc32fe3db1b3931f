"""Size and orientation of AVIF and HEIC images from their boxes (ISO/IEC 23008-12), and the pixels of HEIC.

OpenCV decodes AVIF, but ignores the rotation that phones store beside the pixels. HEIC is decoded by pillow-heif, where
that is installed.
"""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator

import numpy as np

SUFFIXES = frozenset({".heic", ".heif", ".hif"})
HEIC_BRANDS = frozenset({b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})

# (quarter turns counter-clockwise, mirror: None, 0 top and bottom swapped, 1 left and right) → EXIF's number
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
_MAX_BOXES = 4096


def is_readable() -> bool:
    """Return whether HEIC images can be decoded here."""
    return importlib.util.find_spec("pillow_heif") is not None


def decode(data: bytes) -> np.ndarray | None:
    """Return a HEIC image as it is shown, uint8 [H, W, 3] RGB; None if it cannot be decoded."""
    import pillow_heif

    try:
        image = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        pixels = np.asarray(image)
    except (ValueError, EOFError, RuntimeError, OSError, SyntaxError):
        return None
    return np.ascontiguousarray(pixels[..., :3] if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2))


def properties(data: bytes) -> tuple[int, int, int, int]:
    """Return width, height and EXIF orientation of the primary image; zeros and 1 where they are missing.

    The last number is that of the pixels of the largest image in the file: a tile, or one of which a part is shown.
    Raises struct.error or IndexError for boxes that end too early.
    """
    meta = next((body for kind, body in boxes(data) if kind == b"meta"), b"")[4:]
    meta_boxes = dict(boxes(meta))
    primary = _number(meta_boxes.get(b"pitm", b"")[4:], 2 if meta_boxes.get(b"pitm", b"\0")[:1] == b"\0" else 4)
    property_boxes = dict(boxes(meta_boxes.get(b"iprp", b"")))
    all_properties = list(boxes(property_boxes.get(b"ipco", b"")))
    item_numbers = _property_numbers(property_boxes.get(b"ipma", b""), primary)
    width = height = turns = 0
    mirror: int | None = None
    for kind, body in (all_properties[n - 1] for n in item_numbers if 0 < n <= len(all_properties)):
        if kind == b"ispe":
            width, height = struct.unpack(">II", body[4:12])
        elif kind == b"clap":  # encoders fill up to whole blocks, and say here what is shown
            across, parts, down, slices = struct.unpack(">IIII", body[:16])
            width, height = across // max(1, parts), down // max(1, slices)
        elif kind == b"irot":
            turns = body[0] & 3
        elif kind == b"imir":
            mirror = body[0] & 1
    sizes = (struct.unpack(">II", body[4:12]) for kind, body in all_properties if kind == b"ispe")
    largest = max((across * down for across, down in sizes), default=0)
    return width, height, _ORIENTATIONS[turns, mirror], largest


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the consecutive boxes in `data`."""
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1:
            size, head = struct.unpack(">Q", data[at + 8 : at + 16])[0], 16
        end = len(data) if size == 0 else at + size
        if end < at + head:
            return
        yield kind, data[at + head : end]
        at = end


def _number(data: bytes, size: int) -> int:
    return int.from_bytes(data[:size], "big")


def _property_numbers(body: bytes, item: int) -> list[int]:
    """Return the numbers, from 1, of the properties of an item."""
    if len(body) < 8:
        return []
    version, wide = body[0], bool(body[3] & 1)
    count = min(_number(body[4:], 4), _MAX_BOXES)
    at, id_size = 8, 2 if version == 0 else 4
    for _ in range(count):
        number = _number(body[at:], id_size)
        many = body[at + id_size]
        at += id_size + 1
        step = 2 if wide else 1
        numbers = [_number(body[at + n * step :], step) & (0x7FFF if wide else 0x7F) for n in range(many)]
        if number == item:
            return numbers
        at += many * step
    return []
