"""Image files of strangers: each ends in pixels or in a DataError that names it, without waiting or much memory."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli import MAX_PIXELS
from shitu_cli.config.reader import make_part, make_parts
from shitu_cli.data.header import read_header
from shitu_cli.data.images import decode_image
from shitu_cli.data.transforms import build_transforms
from shitu_cli.errors import ConfigError, DataError
from shitu_cli.features.extractor import transformed
from shitu_cli.preparation.audit import look_at
from tests.bombs import BOMBS, png, tiff
from tests.mutations import at_least, mutations

_PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


def _encoded(suffix: str) -> bytes:
    return cv2.imencode(suffix, _PIXELS[..., 0] if suffix == ".pgm" else _PIXELS)[1].tobytes()


def _jpeg(width: int, height: int) -> bytes:
    data = bytearray(_encoded(".jpg"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def _bmp(width: int, height: int) -> bytes:
    data = bytearray(_encoded(".bmp"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def _tiff(width: int, height: int) -> bytes:
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 4)]
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(8)


HOSTILE: dict[str, bytes] = {
    "a huge PNG": png(60_000, 60_000),
    "a PNG of 2**31 pixels": png(2**31 - 1, 1),
    "a huge JPEG": _jpeg(65_000, 65_000),
    "a huge BMP": _bmp(2**31 - 1, 2**31 - 1),
    "a BMP of negative height": _bmp(60_000, -60_000),
    "a huge TIFF": _tiff(60_000, 60_000),
    "a huge PPM": b"P6\n# a comment\n60000 60000\n255\n" + bytes(100),
    "a PNG without pixels": png(32, 24)[:50],
    "a JPEG of its header alone": _encoded(".jpg")[:40],
    "an empty file": b"",
    "text": b"hello",
    "zeros": bytes(1000),
    "a program": b"\x7fELF" + bytes(100),
    "GIF without a screen": b"GIF89a",
    "SVG with an entity": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]><svg>&x;</svg>',
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_are_refused(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match=r"image\.jpg"):
        decode_image(path)
    assert capfd.readouterr() == ("", "")  # OpenCV would write about some


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_never_reach_a_decoder(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("cv2.imdecode", decode)
    monkeypatch.setattr("simplejpeg.decode_jpeg", decode)
    monkeypatch.setattr("shitu_cli.data.heif.decode", decode)
    path = tmp_path / "image.jpg"
    path.write_bytes(BOMBS[name])
    with pytest.raises(DataError, match=r"image\.jpg: .*(how many pixels|too many|could not be read as an image)"):
        decode_image(path)
    assert look_at(str(path)).problem in ("too-large", "unreadable", "not-an-image", "truncated")


def test_opencv_itself_has_the_limit_too() -> None:
    """It reads it when it is imported, and knows more formats than we do."""
    code = "import sys, shitu_cli.data.images, cv2, numpy; data = numpy.frombuffer(sys.stdin.buffer.read(), 'u1')"
    run = [sys.executable, "-c", f"{code}; cv2.imdecode(data, cv2.IMREAD_COLOR)"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENCV_")}
    done = subprocess.run(run, input=png(), capture_output=True, check=False, env=environment)
    assert done.returncode == 1 and b"IO_MAX_IMAGE_PIXELS" in done.stderr


@pytest.mark.parametrize("big", [False, True])
def test_whole_tiffs_of_both_forms_say_their_size(big: bool) -> None:
    header = read_header(tiff([(256, 16 if big else 3, 96), (257, 4, 64)], big=big))
    assert (header.kind, header.width, header.height) == ("TIFF", 96, 64)


PATHS: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "looped links": lambda path: path.symlink_to(path.name),
    "a folder": os.mkdir,
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40))[0],
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", PATHS)
def test_paths_that_lead_to_no_image_are_refused_at_once(tmp_path: Path, name: str) -> None:
    PATHS[name](tmp_path / "image.jpg")
    with pytest.raises(DataError, match=r"image\.jpg"):
        decode_image(tmp_path / "image.jpg")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm", ".pgm", ".jp2"])
def test_the_header_says_the_size_before_anything_is_decoded(suffix: str) -> None:
    header = read_header(_encoded(suffix))
    assert (header.width, header.height) == (96, 64)
    assert header.width * header.height <= MAX_PIXELS


@pytest.mark.fuzz
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tif", ".ppm"])
def test_damaged_images_are_pixels_or_a_data_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    for data in mutations(_encoded(suffix), at_least(60)):
        path.write_bytes(data)
        try:
            image = decode_image(path)
        except DataError as error:
            assert str(path) in error.message
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ResizeImage", {"resize_short": 256}),
        ("ResizeImage", {"resize_short": 256, "backend": "pil"}),
        ("CropImage", {"size": 224}),
        ("RandCropImageV2", {"size": 224}),
        ("Resize", {"size": 256}),
        ("Pad", {"padding": 4096}),
    ],
)
def test_a_long_thin_image_is_not_made_larger_than_memory(name: str, arguments: dict[str, object]) -> None:
    """One row of 60,000 pixels would become 256 of 15 million each, some eleven gigabytes."""
    transform = build_transforms([make_part("transform", name, **arguments)])
    with pytest.raises(DataError, match=r"60,000 x 1 pixels would become .* \(at most 178,956,970 pixels\)"):
        transform(np.zeros((1, 60_000, 3), np.uint8), np.random.default_rng(0))
    with pytest.raises(DataError, match=r"^long\.png: 60,000 x 1"):
        transformed("long.png", np.zeros((1, 60_000, 3), np.uint8), transform, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["ResizeImage", "CropImage", "RandCropImage", "Resize", "CenterCrop", "Pad"])
def test_sizes_of_strangers_have_a_bound(name: str) -> None:
    key = "padding" if name == "Pad" else "size"
    with pytest.raises(ConfigError, match="4096"):
        make_part("transform", name, **{key: 65_000})
    with pytest.raises(ConfigError, match="has 200,000 entries, expected at most 100"):
        make_parts("transform", [{name: {key: 64}}] * 200_000, "inference.yml")
