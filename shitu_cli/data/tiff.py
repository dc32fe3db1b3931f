"""Read the tags of TIFF and of EXIF data, which is written like it."""

from __future__ import annotations

import struct
from typing import NamedTuple

SUBFILE, WIDTH, HEIGHT, BITS, COLOURS = 0x00FE, 0x0100, 0x0101, 0x0102, 0x0106
ORIENTATION, TILE_WIDTH, TILE_HEIGHT, EXTRA = 0x0112, 0x0142, 0x0143, 0x0152
NEXT = 0  # stands for the place of the next directory
CLASSIC, BIG = (b"II*\0", b"MM\0*"), (b"II+\0", b"MM\0+")
MAX_ENTRIES = 0xFFFF  # of a directory; decoders refuse more
_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # by the number of their type


class _Layout(NamedTuple):
    """How a directory is written: its number of entries, the bytes of each, and places in the file."""

    number: str
    entry: int
    place: str


_LAYOUT = {False: _Layout("H", 12, "I"), True: _Layout("Q", 20, "Q")}


def read_tags(data: bytes, *names: int, at: int | None = None) -> dict[int, int]:
    """Return the integers of these tags in a directory of TIFF or BigTIFF, of several integers the first.

    The directory is the first one, or that `at` a place; NEXT is the place of the one behind it, 0 if there is none.
    Where a tag occurs twice the first counts, as for decoders; if it cannot be read, the tag is left out.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    tags: dict[int, int | None] = {}
    if order is None:
        return {}
    is_big = data[:4] in BIG
    layout = _LAYOUT[is_big]
    head, inside = struct.calcsize(order + layout.number), struct.calcsize(order + layout.place)

    def number(code: str, start: int) -> int:
        return int(struct.unpack(order + code, data[start : start + struct.calcsize(order + code)])[0])

    try:
        start = number(layout.place, 8 if is_big else 4) if at is None else at
        count = number(layout.number, start)
        if count > MAX_ENTRIES:
            return {}
        end = start + head + layout.entry * count
        for place in range(start + head, end, layout.entry):
            tag, kind = struct.unpack(order + "HH", data[place : place + 4])
            if tag not in names or tag in tags:
                continue
            code, values = _INTEGERS.get(kind), place + layout.entry - inside
            if code is not None and number(layout.place, place + 4) * struct.calcsize(order + code) > inside:
                values = number(layout.place, values)  # they do not fit here, but lie where it says
            tags[tag] = None if code is None else number(code, values)
        tags[NEXT] = number(layout.place, end)
    except struct.error:
        pass
    return {tag: value for tag, value in tags.items() if value is not None}
