"""Read format, size and colour of an image from its bytes without decoding, and whether it ends too early."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from shitu_cli import MAX_PIXELS
from shitu_cli.data import heif, tiff

_TIFF_CHANNELS = {0: 1, 1: 1, 5: 4}  # by the value of tiff.COLOURS: grey, and CMYK; others are read as RGB
_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000, the size comes right behind
_PNM = re.compile(rb"P\d(?:\s|#[^\r\n]*[\r\n])+(\d{1,9})\s(?:\s|#[^\r\n]*[\r\n])*(\d{1,9})\s")


@dataclass
class Header:
    """The properties of an image; `kind` is None if it is not one, width and height are 0 if the header lacks them.

    `unpacked` are the pixels that a decoder unpacks at once, where these may be more than those of the image.
    """

    kind: str | None
    width: int = 0
    height: int = 0
    channels: int = 3
    depth: int = 8
    alpha: bool = False
    animated: bool = False
    orientation: int = 1  # EXIF's: 1 is upright, from 5 on width and height are exchanged
    truncated: bool = False
    unpacked: int = 0

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height after rotating the image according to its EXIF data."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


def size_problem(header: Header, limit: int = MAX_PIXELS) -> str:
    """Return why an image must not be decoded; "" if its header says that it has at most `limit` pixels.

    Decoders take memory for as many as there are: where the header does not tell, nobody knows how much.
    """
    width, height = header.width, header.height
    if width <= 0 or height <= 0:
        return "its header does not say how many pixels it has"
    if header.unpacked > max(limit, width * height):
        return f"{header.unpacked:,} pixels inside are too many (at most {limit:,})"
    if width * height > limit:
        return f"{width:,} x {height:,} pixels are too many (at most {limit:,})"
    return ""


def image_kind(head: bytes) -> str | None:
    """Return the format of a file that begins with these bytes; None if it is not an image."""
    if head[:2] in (b"BM", *(b"P%d" % n for n in range(1, 7))):  # text files may begin with these letters too
        return "BMP" if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0" else None
    return read_header(head).kind if head else None


def read_header(data: bytes) -> Header:
    """Return the header of an image from the bytes of the whole file; never raises."""
    try:
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
        if data[:2] == b"BM":
            size, *_, form = struct.unpack("<IIII", data[2:18])
            width, height = struct.unpack("<HH", data[18:22]) if form == 12 else struct.unpack("<ii", data[18:26])
            return Header("BMP", width, abs(height), truncated=len(data) < size)
    except (struct.error, IndexError):
        return Header("damaged", truncated=True)
    if data[:4] in (*tiff.CLASSIC, *tiff.BIG):
        return _tiff(data)
    if data[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6") and data[2:3].isspace():
        return Header("PNM", *_pnm_size(data), channels=1 if data[:2] in (b"P2", b"P5") else 3)
    if data[4:8] == b"ftyp" and (kind := _heif_kind(data)) is not None:
        return _heif(data, kind)
    if data[4:8] == b"jP  " or data[:4] == _CODESTREAM:
        return Header("JPEG 2000", *_jpeg2000_size(data))
    return Header(None)


def _pnm_size(data: bytes) -> tuple[int, int]:
    match = _PNM.match(data[:4096])
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Return the size in the codestream, by which decoders go; zeros if there is none, or more than four channels."""
    stream = data if data[:4] == _CODESTREAM else next((b for kind, b in heif.boxes(data) if kind == b"jp2c"), b"")
    if stream[:4] != _CODESTREAM or len(stream) < 42:
        return 0, 0
    right, bottom, left, top = struct.unpack(">4I", stream[8:24])
    channels = struct.unpack(">H", stream[40:42])[0]
    return (right - left, bottom - top) if 1 <= channels <= 4 else (0, 0)


def _jpeg(data: bytes) -> Header:
    header = Header("JPEG", truncated=True)
    at, size = 2, len(data)
    while at + 4 <= size:
        if data[at] != 0xFF:
            at += 1
            continue
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
            continue
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            header.depth, header.height, header.width, header.channels = struct.unpack(">BHHB", data[at + 4 : at + 10])
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            header.orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        elif marker == 0xDA:
            # In compressed data, 0xFF is followed by zero or a restart marker: so an end marker is really the end.
            header.truncated = data.rfind(b"\xff\xd9", at + 2 + length) < 0  # searched from the end, where most have it
            return header
        at += 2 + length
    return header


def _exif_orientation(exif: bytes) -> int:
    """Return the orientation in EXIF data, 1 if it is missing or invalid."""
    value = tiff.read_tags(exif, tiff.ORIENTATION).get(tiff.ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _tiff(data: bytes) -> Header:
    """Return the header of a TIFF, with width and height as stored; the decoder rotates such images itself."""
    names = (tiff.WIDTH, tiff.HEIGHT, tiff.BITS, tiff.COLOURS, tiff.ORIENTATION, tiff.EXTRA)
    tags = tiff.read_tags(data, *names, tiff.TILE_WIDTH, tiff.TILE_HEIGHT)
    orientation, behind = tags.get(tiff.ORIENTATION, 1), tags.get(tiff.NEXT, 0)
    # A directory behind the first may hold another page, or a smaller copy of the same image.
    is_page = behind > 0 and not tiff.read_tags(data, tiff.SUBFILE, at=behind).get(tiff.SUBFILE, 0) & 1
    return Header(
        "TIFF",
        tags.get(tiff.WIDTH, 0),
        tags.get(tiff.HEIGHT, 0),
        channels=_TIFF_CHANNELS.get(tags.get(tiff.COLOURS, 2), 3),
        depth=tags.get(tiff.BITS, 8),
        alpha=tags.get(tiff.EXTRA) in (1, 2),
        animated=is_page,
        orientation=orientation if 1 <= orientation <= 8 else 1,
        unpacked=tags.get(tiff.TILE_WIDTH, 0) * tags.get(tiff.TILE_HEIGHT, 0),
    )


def _heif_kind(data: bytes) -> str | None:
    """Return AVIF or HEIC by the brands of a file; None for another, such as a film."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(size, len(data)), 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & heif.HEIC_BRANDS else None


def _heif(data: bytes, kind: str) -> Header:
    header = Header(kind, animated=data[8:12] in (b"avis", b"hevc", b"hevx", b"msf1"))
    try:
        header.width, header.height, header.orientation, header.unpacked = heif.properties(data)
    except (struct.error, IndexError):
        header.truncated = True
    return header


def _png(data: bytes) -> Header:
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    body = data[:65536]
    return Header(
        "PNG",
        width,
        height,
        channels=1 if colour in (0, 4) else 3,
        depth=depth,
        alpha=colour in (4, 6) or b"tRNS" in body,
        animated=b"acTL" in body,
        orientation=_chunk_orientation(data),
        truncated=data.rfind(b"IEND") < 0,
    )


def _chunk_orientation(data: bytes) -> int:
    """Return the orientation in the eXIf chunk of a PNG, which may come before or after the pixels."""
    at = 8
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"eXIf":
            return _exif_orientation(data[at + 8 : at + 8 + size])
        at += 12 + size
    return 1


def _webp(data: bytes) -> Header:
    size = struct.unpack("<I", data[4:8])[0]
    header = Header("WebP", truncated=len(data) < size + 8)
    if data[12:16] == b"VP8X":
        header.alpha, header.animated = bool(data[20] & 0x10), bool(data[20] & 0x02)
        header.width = int.from_bytes(data[24:27], "little") + 1
        header.height = int.from_bytes(data[27:30], "little") + 1
        header.orientation = _webp_orientation(data) if data[20] & 0x08 else 1
    elif data[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        header.width, header.height = width & 0x3FFF, height & 0x3FFF
    elif data[12:16] == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        header.width, header.height = (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
        header.alpha = bool(bits >> 28 & 1)
    return header


def _webp_orientation(data: bytes) -> int:
    at = 12
    while at + 8 <= len(data):
        kind, size = struct.unpack("<4sI", data[at : at + 8])
        if kind == b"EXIF":
            body = data[at + 8 : at + 8 + size]
            return _exif_orientation(body.removeprefix(b"Exif\0\0"))
        at += 8 + size + size % 2
    return 1


def _gif(data: bytes) -> Header:
    width, height = struct.unpack("<HH", data[6:10])
    # A graphic control block precedes every frame of an animation.
    frames = data.count(b"\x21\xf9\x04")
    return Header("GIF", width, height, animated=frames > 1, truncated=data.rstrip(b"\0")[-1:] != b"\x3b")
