"""Every kind of damage is found, none is invented."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli.data.header import read_header
from shitu_cli.errors import DataError
from shitu_cli.preparation.alike import find_alike
from shitu_cli.preparation.audit import Look, LookCache, look_at, look_at_all
from shitu_cli.preparation.prepare import Choices, read_and_split
from shitu_cli.reporting import SilentReporter


def picture(seed: int = 0, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """Smooth and full of structure, as photos are; uint8 BGR [H, W, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


def coded(image: np.ndarray, suffix: str = ".jpg", *params: int) -> bytes:
    return cv2.imencode(suffix, image, list(params))[1].tobytes()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb() -> bytes:
    """A PNG of a few bytes that says it is 40,000 x 40,000."""
    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", head)
        + png_chunk(b"IDAT", zlib.compress(b"0"))
        + png_chunk(b"IEND", b"")
    )


def exif(orientation: int) -> bytes:
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<HHHII", 1, 0x0112, 3, 1, orientation) + struct.pack("<I", 0)
    segment = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment


JPEG = coded(picture())
PNG = coded(picture(), ".png")

DAMAGE: dict[str, tuple[bytes, str]] = {
    "zero bytes": (b"", "empty-file"),
    "a text": (b"this is no picture\n", "not-an-image"),
    "a page": (b"<html><body>404</body></html>", "not-an-image"),
    "an archive": (b"PK\x03\x04rest", "not-an-image"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "a JPEG without its last byte": (JPEG[:-1], "truncated"),
    "a JPEG's head": (JPEG[:20], "truncated"),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated"),
    "half a WebP": (coded(picture(), ".webp")[:200], "truncated"),
    "half a BMP": (coded(picture(), ".bmp")[:5000], "truncated"),
    "a bomb": (bomb(), "too-large"),
    "a PNG of noise": (PNG[:60] + np.random.default_rng(0).bytes(300) + PNG[-12:], "unreadable"),
}

ODD: dict[str, tuple[bytes, str]] = {
    "grey JPEG": (coded(cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY)), "grey"),
    "16-bit PNG": (coded(picture().astype(np.uint16) * 257, ".png"), "16-bit"),
    "PNG with alpha": (coded(cv2.cvtColor(picture(), cv2.COLOR_BGR2BGRA), ".png"), "alpha"),
    "turned": (JPEG[:2] + exif(6) + JPEG[2:], "rotated"),
    "tiny": (coded(picture(size=(20, 20))), "tiny"),
    "a strip": (coded(picture(size=(400, 40))), "extreme-aspect"),
    "16-bit TIFF": (coded(picture().astype(np.uint16) * 257, ".tiff"), "16-bit"),
    "grey TIFF": (coded(cv2.cvtColor(picture(), cv2.COLOR_BGR2GRAY), ".tiff"), "grey"),
    "TIFF of two pages": (cv2.imencodemulti(".tiff", [picture(), picture(1)])[1].tobytes(), "animated"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str, tmp_path: Path) -> None:
    data, expected = DAMAGE[name]
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    assert look_at(str(path)).problem == expected


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_noted_and_usable(name: str, tmp_path: Path) -> None:
    data, expected = ODD[name]
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    look = look_at(str(path))
    assert (look.problem, look.notes) == ("", (expected,))


@pytest.mark.parametrize("name", ["a shape that only transparency shows", "twelve of sixteen bits", "one colour"])
def test_images_in_which_nothing_shows_are_warned_of(name: str, tmp_path: Path) -> None:
    """Black logos on nothing are black all over once transparency is dropped; values up to 4095 of 65535 as well."""
    shape = np.zeros((60, 80, 4), np.uint8)
    shape[20:40, 20:60, 3] = 255
    depth = (picture(size=(80, 60)).astype(np.uint16) * 16)[..., 0]
    image = {"a": shape, "t": depth, "o": np.full((60, 80, 3), (20, 90, 200), np.uint8)}[name[0]]
    (tmp_path / "x.png").write_bytes(coded(image, ".png"))
    assert "plain" in look_at(str(tmp_path / "x.png")).notes


def test_little_on_one_colour_is_not_nothing(tmp_path: Path) -> None:
    image = np.full((200, 300, 3), 255, np.uint8)
    image[101:104, 103:106] = 0
    (tmp_path / "x.png").write_bytes(coded(image, ".png"))
    assert look_at(str(tmp_path / "x.png")).notes == ()


def test_a_turned_picture_has_its_upright_size(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(ODD["turned"][0])
    look = look_at(str(tmp_path / "x.jpg"))
    assert (look.width, look.height) == (120, 160)


def test_a_missing_file() -> None:
    assert look_at("/nowhere/x.jpg").problem == "missing"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp", ".tiff", ".ppm"])
def test_whole_pictures_are_fine(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(coded(picture(), suffix))
    look = look_at(str(path))
    assert (look.problem, look.notes, look.width, look.height) == ("", (), 160, 120)
    header = read_header(path.read_bytes())
    assert header.kind is not None and not header.truncated


def test_bytes_behind_the_end_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(JPEG + b"\0" * 100)
    assert look_at(str(tmp_path / "x.jpg")).problem == ""


def looks_of(tmp_path: Path, *files: bytes) -> list[Look]:
    paths = []
    for number, data in enumerate(files):
        (tmp_path / f"{number}.jpg").write_bytes(data)
        paths.append(str(tmp_path / f"{number}.jpg"))
    return look_at_all(paths, SilentReporter(), cache=LookCache(None))


def test_identical_and_near_pictures_are_found(tmp_path: Path) -> None:
    image = picture(3)
    brighter = np.clip(image.astype(np.int16) + 3, 0, 255).astype(np.uint8)
    files = [
        coded(image),
        coded(image),
        coded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 70),
        coded(cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA)),
        coded(brighter),
        coded(picture(4)),
        coded(cv2.flip(image, 1)),
    ]
    alike = find_alike(looks_of(tmp_path, *files))
    assert alike.identical == [[0, 1]]
    together = {0}
    for a, b in alike.near:
        if a in together or b in together:
            together |= {a, b}
    assert together == {0, 2, 3, 4}


def test_a_thousand_different_pictures_are_not_alike(tmp_path: Path) -> None:
    looks = looks_of(tmp_path, *(coded(picture(seed, (64, 48))) for seed in range(1000)))
    alike = find_alike(looks)
    assert alike.identical == [] and alike.near == []


def test_plain_pictures_are_not_alike_by_their_plainness(tmp_path: Path) -> None:
    plain = [np.full((60, 80, 3), value, np.uint8) for value in (10, 12, 14)]
    assert find_alike(looks_of(tmp_path, *map(coded, plain))).near == []


def test_the_cache_serves_what_did_not_change(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(JPEG)
    store = tmp_path / "cache.bin"
    first = look_at_all([str(path)], SilentReporter(), cache=LookCache(store))
    cache = LookCache(store)
    assert cache.get(str(path), decode=True) == first[0]
    path.write_bytes(JPEG[:-2])
    assert cache.get(str(path), decode=True) is None
    assert look_at_all([str(path)], SilentReporter(), cache=cache)[0].problem == "truncated"


def filled(store: Path, paths: list[Path]) -> LookCache:
    cache = LookCache(store)
    for path in paths:
        look_at_all([str(path)], SilentReporter(), cache=cache)
    return cache


def test_the_cache_grows_by_what_is_new(tmp_path: Path) -> None:
    """Writing all that is known at every save made a million images take hours."""
    paths = [tmp_path / f"{number}.jpg" for number in range(6)]
    for path in paths:
        path.write_bytes(JPEG)
    store = tmp_path / "cache.bin"
    sizes, before = [], b""
    cache = LookCache(store)
    for path in paths:
        look_at_all([str(path)], SilentReporter(), cache=cache)
        data = store.read_bytes()
        assert data.startswith(before)
        sizes.append(len(data) - len(before))
        before = data
    assert max(sizes) - min(sizes) < 10
    assert LookCache(store).known == cache.known and len(cache.known) == 6


def test_a_cache_that_was_cut_off_is_used_as_far_as_it_goes(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path in paths:
        path.write_bytes(JPEG)
    store = tmp_path / "cache.bin"
    filled(store, paths)
    store.write_bytes(store.read_bytes()[:-5])
    cache = LookCache(store)
    assert list(cache.known) == [str(path) for path in paths[:2]]
    look_at_all([str(paths[2])], SilentReporter(), cache=cache)
    assert len(LookCache(store).known) == 3


def test_a_cache_of_mostly_outdated_looks_is_written_anew(tmp_path: Path) -> None:
    path, store = tmp_path / "x.jpg", tmp_path / "cache.bin"
    for size in range(8):
        path.write_bytes(JPEG + bytes(size))
        filled(store, [path])
    assert len(store.read_bytes()) < 4 * 400


def test_a_damaged_cache_is_no_cache(tmp_path: Path) -> None:
    store = tmp_path / "cache.bin"
    store.write_bytes(b"\x80\x05cos\nsystem\n(S'touch /tmp/pwned'\ntR.")
    assert LookCache(store).known == {}


def test_headers_only_still_finds_truncation(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(JPEG[:-300])
    assert look_at(str(tmp_path / "x.jpg"), decode=False).problem == "truncated"


def test_leaks_noise_and_duplicates_are_told_apart(
    tmp_path: Path, make_images: Callable[..., dict[str, list[Path]]]
) -> None:
    made = make_images(tmp_path / "train", classes=3, per_class=4)
    for name, files in make_images(tmp_path / "query", classes=3, per_class=2, seed=8).items():
        target = tmp_path / "gallery" / name / "g.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files[0].read_bytes() + b"\0")
    shutil_copy(made["class_000"][0], tmp_path / "train/class_000/again.jpg")
    shutil_copy(made["class_000"][1], tmp_path / "train/class_001/wrong.jpg")
    shutil_copy(made["class_002"][2], tmp_path / "query/class_002/leak.jpg")
    found = read_and_split([tmp_path], Choices(), SilentReporter()).problems.cases
    assert found["duplicate"].count == 1 and "again.jpg" in found["duplicate"].examples[0][0]
    assert found["label-noise"].count == 1 and "wrong.jpg" in found["label-noise"].examples[0][0]
    assert found["leak"].count == 1
    fixed = read_and_split([tmp_path], Choices(fix=True), SilentReporter())
    assert fixed.query is not None and "query/class_002/leak.jpg" not in fixed.query.paths()
    assert "train/class_000/again.jpg" not in fixed.train.paths()


def shutil_copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def test_a_class_of_one_burst_of_photos_is_not_evaluated_in_silence(tmp_path: Path) -> None:
    def burst(name: str, seed: int) -> None:
        (tmp_path / "data" / name).mkdir(parents=True)
        for n in range(4):
            (tmp_path / "data" / name / f"{n}.jpg").write_bytes(coded(picture(seed), ".jpg", 1, 95 - n))

    burst("burst", 0)
    burst("another", 1)
    with pytest.raises(DataError, match="the images of each class are nearly the same"):
        read_and_split([tmp_path / "data"], Choices(), SilentReporter())
    for n in range(6):
        (tmp_path / "data" / "burst" / f"other{n}.jpg").write_bytes(coded(picture(10 + n)))
    made = read_and_split([tmp_path / "data"], Choices(), SilentReporter())
    assert made.problems.cases["no-query"].examples == [("another", "4 images")]
