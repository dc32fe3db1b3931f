"""Small images of more pixels than memory holds, which their headers hide from whoever reads them in another way."""

from __future__ import annotations

import struct
import zlib

SIDE = 32_000  # OpenCV by itself decodes up to 2**30 pixels


def png(width: int = SIDE, height: int = SIDE) -> bytes:
    """A whole PNG but for its pixels, of which there are too few."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def tiff(entries: list[tuple[int, int, int]], *, big: bool = False) -> bytes:
    """A TIFF or BigTIFF of these tags (tag, type, value)."""
    usual = [(258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, SIDE), (279, 4, 4)]
    count, entry = ("<Q", "<HHQQ") if big else ("<H", "<HHII")
    table = b"".join(struct.pack(entry, tag, kind, 1, value) for tag, kind, value in [*entries, *usual])
    start = b"II+\0" + struct.pack("<HHQ", 8, 0, 16) if big else b"II*\0" + struct.pack("<I", 8)
    return start + struct.pack(count, len(entries) + len(usual)) + table + bytes(16)


def codestream(width: int = SIDE, height: int = SIDE, channels: int = 3) -> bytes:
    """The head of a codestream of JPEG 2000."""
    size = struct.pack(">H8IH", 0, width, height, 0, 0, width, height, 0, 0, channels) + b"\x07\x01\x01" * channels
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + b"\xff\x93" + bytes(50) + b"\xff\xd9"


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def jp2(width: int, height: int, stream: bytes) -> bytes:
    """A JP2 whose own header says this size."""
    header = box(b"ihdr", struct.pack(">IIHBBBB", height, width, 3, 7, 7, 0, 0))
    brand = box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return box(b"jP  ", b"\r\n\x87\n") + brand + box(b"jp2h", header) + box(b"jp2c", stream)


def heic(properties: bytes, numbers: bytes) -> bytes:
    """The boxes of a HEIC image with these properties."""
    associated = box(b"ipma", struct.pack(">IIHB", 0, 1, 1, len(numbers)), numbers)
    meta = box(b"meta", bytes(4), box(b"pitm", bytes(4), b"\0\1"), box(b"iprp", box(b"ipco", properties), associated))
    return box(b"ftyp", b"heic\0\0\0\0heic") + meta


def jpeg_header(width: int, height: int) -> bytes:
    return b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + b"\1\x22\0\2\x11\1\3\x11\1"


_SPATIAL = box(b"ispe", bytes(4), struct.pack(">II", SIDE, SIDE))
_SMALL = box(b"ispe", bytes(4), struct.pack(">II", 64, 64))
_CLEAN = box(b"clap", struct.pack(">8I", 1, 1, 1, 1, 0, 1, 0, 1))
_HIDDEN = jpeg_header(SIDE, SIDE) + b"\xff\xda" + bytes(20) + b"\xff\xd9"

BOMBS: dict[str, bytes] = {
    "a PNG": png(),
    "a BigTIFF": tiff([(256, 4, SIDE), (257, 4, SIDE)], big=True),
    "a TIFF of two widths": tiff([(256, 4, SIDE), (256, 4, 1), (257, 4, SIDE)]),
    "a TIFF whose width is no whole number": tiff([(256, 11, SIDE), (257, 4, SIDE)]),
    "a TIFF of one huge tile": tiff([(256, 4, 64), (257, 4, 64), (322, 4, SIDE), (323, 4, SIDE)]),
    "a TIFF without a size": tiff([]),
    "raw JPEG 2000": codestream(),
    "a JP2 that says 1 x 1": jp2(1, 1, codestream()),
    "a JP2 of many channels": jp2(64, 64, codestream(64, 64, 16_000)),
    "a JP2 without a codestream": jp2(64, 64, b""),
    "HEIC of which one pixel is shown": heic(_SPATIAL + _CLEAN, b"\1\2"),
    "HEIC with a huge tile": heic(_SMALL + _SPATIAL, b"\1"),
    "HEIC without a size": heic(_CLEAN, b""),
    "a JPEG that hides its header": b"\xff\xd8\xff\0" + struct.pack(">H", len(_HIDDEN) + 2) + _HIDDEN
    + jpeg_header(64, 64) + b"\xff\xda" + bytes(20) + b"\xff\xd9",
    "a PPM with a comment of an old Mac": b"P6 #\r%d %d 255\n1 1 255\n" % (SIDE, SIDE) + bytes(100),
    "a PPM with a number behind a comment": b"P6 #a 1 1 \n%d#%d 255\n" % (SIDE, SIDE) + bytes(100),
    "a PPM with a long comment": b"P6 #" + b"x" * 5000 + b"\n%d %d 255\n" % (SIDE, SIDE) + bytes(100),
    "a Sun raster, which is no format of ours": b"\x59\xa6\x6a\x95" + struct.pack(">7I", SIDE, SIDE, 24, 0, 1, 0, 0),
    "HDR, which is no format of ours": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y %d +X %d\n" % (SIDE, SIDE),
}  # fmt: skip
