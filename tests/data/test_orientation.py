"""Images are turned upright as they say it themselves, in every format; their size is that of the upright image."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shitu_cli.data.header import read_header
from shitu_cli.data.images import decode_image
from shitu_cli.preparation.formats.base import upright_size
from tests.mutations import cases

pytest.importorskip("pillow_heif").register_heif_opener()
Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")
FORMATS = {
    "JPEG": {"quality": 95},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100},
    "HEIF": {"quality": 95},
}


def encoded(kind: str, orientation: int) -> bytes:
    """An image of 60 x 40 pixels as stored, its corners in four colours."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30], image[:20, 30:], image[20:, :30] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    try:
        Image.fromarray(image).save(out, kind, exif=exif.tobytes(), **FORMATS[kind])
    except (OSError, KeyError) as error:
        pytest.skip(f"Pillow does not write {kind}: {error}")
    return out.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    data = encoded(kind, orientation)
    right = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    assert np.abs(decode_image(data).astype(int) - right).mean() < 8
    header = read_header(data)
    assert header.upright == right.shape[1::-1] and not header.truncated
    (tmp_path / "image").write_bytes(data)
    assert upright_size(tmp_path / "image") == right.shape[1::-1]


@cases(400)
@given(data=st.data())
def test_damaged_headers_end_in_no_exception(data: st.DataObject) -> None:
    whole = _SAMPLES[data.draw(st.sampled_from(sorted(_SAMPLES)))]
    changed = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 6))):
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    header = read_header(bytes(changed))
    assert 1 <= header.orientation <= 8


def _samples() -> dict[str, bytes]:
    return {kind: encoded(kind, 6) for kind in FORMATS}


_SAMPLES = _samples()


def test_a_directory_that_leads_to_itself_ends() -> None:
    tiff = struct.pack("<2sHIHHHII", b"II", 42, 8, 65535, 0x0112, 3, 1, 8)
    assert read_header(tiff).kind == "TIFF"


@pytest.mark.parametrize(
    ("mode", "channels", "depth", "alpha"), [("RGBA", 3, 8, True), ("CMYK", 4, 8, False), ("I;16", 1, 16, False)]
)
def test_the_kind_of_pixels_of_a_tiff(mode: str, channels: int, depth: int, alpha: bool) -> None:
    out = io.BytesIO()
    Image.new(mode, (40, 30)).save(out, "TIFF")
    header = read_header(out.getvalue())
    assert (header.channels, header.depth, header.alpha, header.animated) == (channels, depth, alpha, False)


@pytest.mark.parametrize(("subfile", "is_page"), [(0, True), (1, False)])
def test_a_smaller_copy_in_a_tiff_is_no_page(subfile: int, is_page: bool) -> None:
    first = struct.pack("<HHHIII", 1, 0x0100, 4, 1, 40, 26)
    second = struct.pack("<HHHIII", 1, 0x00FE, 4, 1, subfile, 0)
    assert read_header(struct.pack("<2sHI", b"II", 42, 8) + first + second).animated == is_page
