"""The door for programs: pictures of any kind, bad ones among them."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli import Extractor
from shitu_cli.data.loader import NO_RANDOMNESS
from shitu_cli.errors import DataError, EnvironmentProblem, UsageError
from shitu_cli.features.extractor import Cropped, listed


@pytest.fixture(scope="module")
def extractor(exported: Path) -> Extractor:
    return Extractor(exported, threads=1, batch_size=4)


def test_another_process_opens_its_own(extractor: Extractor, pictures: list[Path]) -> None:
    """In a forked one, OpenVINO would wait forever for threads that only the first has."""
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(UsageError, match="this Extractor cannot be sent to another process") as error:
            use(extractor)
    assert "open one in each process" in str(error.value.hint)
    assert np.array_equal(copy.copy(extractor).extract(pictures[:1]), extractor.extract(pictures[:1]))
    child = os.fork()
    if not child:
        try:
            extractor.extract(pictures[:1])
        except UsageError as problem:
            os._exit(7 if "works only there" in problem.message else 1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_what_cannot_be_computed(extractor: Extractor, pictures: list[Path]) -> None:
    image = extractor.read(pictures[0])
    for wrong in (image, [image], "a.jpg", np.zeros((2, 9))):
        with pytest.raises(DataError, match=r"expected images from read\(\) in one array"):
            extractor.compute(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"^an empty path$"):
        extractor.extract("")


def test_what_an_extractor_cannot_be_opened_with(exported: Path) -> None:
    for wrong, says in [
        ({"images": "3"}, "images='3': expected a whole number"),
        ({"gpu": -1}, "gpu=-1: expected a whole number"),
        ({"config": "shitu.yaml"}, "expected a config, got 'shitu.yaml'"),
    ]:
        with pytest.raises(UsageError, match=says):
            Extractor(exported, **wrong)  # type: ignore[arg-type]
    with pytest.raises(EnvironmentProblem, match=r"gpu:99 was requested, but"):  # was computed on the CPU
        Extractor(exported, gpu=99)


def test_pictures_of_any_kind(extractor: Extractor, pictures: list[Path]) -> None:
    path = pictures[0]
    array = cv2.imread(str(path))[..., ::-1]
    features = extractor.extract([path, str(path), path.read_bytes(), array, Cropped(path, (0, 0, 999, 999))])
    assert features.dtype == np.float32 and features.shape == (5, extractor.feature_size)
    assert np.array_equal(features, np.repeat(features[:1], 5, axis=0))
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    raw = extractor.extract([path], normalize=False)
    assert np.allclose(raw / np.linalg.norm(raw), features[:1], atol=1e-6) and abs(np.linalg.norm(raw) - 1) > 0.01
    part = extractor.extract([Cropped(path, (0, 0, 8, 8)), array[:8, :8]])
    assert np.array_equal(part[0], part[1]) and not np.array_equal(part[0], features[0])
    assert extractor.extract([]).shape == (0, extractor.feature_size)


def test_images_read_one_by_one_are_computed_together(extractor: Extractor, pictures: list[Path]) -> None:
    """What a service does: each image is read where its request is, many are computed at once."""
    inputs = np.stack([extractor.read(path) for path in pictures[:3]])
    assert np.array_equal(extractor.compute(inputs), extractor.extract(pictures[:3]))
    raw = extractor.compute(inputs, normalize=False)
    assert np.array_equal(raw, extractor.extract(pictures[:3], normalize=False))
    with pytest.raises(DataError, match="could not be read"):
        extractor.read(b"no picture")


def test_arrays_are_converted_as_files_are(extractor: Extractor, pictures: list[Path], tmp_path: Path) -> None:
    """Grey ones and ones with transparency, and what Pillow opens."""
    picture = cv2.imread(str(pictures[0]))
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    alpha = np.dstack([picture, np.full(grey.shape, 90, np.uint8)])
    for name, image, array in (("grey", grey, grey), ("alpha", alpha, alpha[..., [2, 1, 0, 3]])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        assert np.array_equal(extractor.extract([array]), extractor.extract([tmp_path / f"{name}.png"]))

    class Opened:
        """What Pillow's pictures have."""

        def convert(self, mode: str) -> np.ndarray:
            assert mode == "RGB"
            return picture[..., ::-1]

    assert np.array_equal(extractor.extract([Opened()]), extractor.extract([picture[..., ::-1]]))


def test_what_pillow_has_opened_is_as_the_file(extractor: Extractor, pictures: list[Path], tmp_path: Path) -> None:
    """Photos lie on their side until their EXIF data are heeded, and 16 bits must not be cut off at 255."""
    from PIL import Image

    turned, deep = tmp_path / "turned.jpg", tmp_path / "deep.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(pictures[0]).save(turned, exif=exif, quality=95)
    cv2.imwrite(str(deep), cv2.imread(str(pictures[0]), cv2.IMREAD_GRAYSCALE).astype(np.uint16) * 257)
    lying = extractor.extract(Image.open(pictures[0]))
    for path in (turned, deep):
        opened, expected = extractor.extract(Image.open(path)), extractor.extract(path)
        assert np.allclose(opened, expected, atol=1e-3), path
    assert not np.allclose(extractor.extract(Image.open(turned)), lying, atol=1e-3)
    with pytest.raises(DataError, match="of mode F, whose range of values is unknown"):
        extractor.extract(Image.fromarray(np.ones((4, 4), np.float32)))
    with pytest.raises(DataError, match="a Pillow image without pixels"):
        extractor.extract(Image.new("RGB", (0, 4)))
    turned.write_bytes(turned.read_bytes()[:-100])
    with pytest.raises(DataError, match="image 1 of 1: a Pillow image that cannot be read"):
        extractor.extract(Image.open(turned))


def test_a_single_image_of_any_kind_is_one(extractor: Extractor, pictures: list[Path]) -> None:
    """An array must not become as many grey images as it has rows."""
    picture = np.ascontiguousarray(cv2.imread(str(pictures[0]))[..., ::-1])

    class Opened:
        def convert(self, mode: str) -> np.ndarray:
            return picture

    expected = extractor.extract([picture])
    for single in (picture, Opened(), Cropped(pictures[0], (0, 0, picture.shape[1], picture.shape[0]))):
        assert extractor.extract(single).shape == expected.shape, type(single)
    assert np.array_equal(extractor.extract(picture), expected)
    assert np.array_equal(extractor.extract(np.stack([picture, picture])), np.repeat(expected, 2, axis=0))
    with pytest.raises(DataError, match="a value of type int"):
        extractor.extract(7)  # type: ignore[arg-type]
    with pictures[0].open("rb") as file, pytest.raises(DataError, match="1 of 1: a value of type BufferedReader"):
        extractor.extract(file)  # type: ignore[arg-type]


def test_an_array_of_paths_is_several_images(extractor: Extractor, pictures: list[Path]) -> None:
    expected = extractor.extract(pictures[:2])
    texts = [str(path) for path in pictures[:2]]
    for paths in (np.array(texts), np.array(texts, object), np.array(pictures[:2], object)):
        assert np.array_equal(extractor.extract(paths), expected), paths.dtype
    with pytest.raises(DataError, match="expected uint8 RGB"):
        extractor.extract(np.zeros(5, np.uint8))


@pytest.mark.parametrize(
    ("form", "says"),
    [("file", "{}: 1 x 60,000 pixels"), ("bytes", "image 1 of 1: image bytes: 1 x "), ("array", "image 1 of 1: 1 x ")],
)
def test_an_image_that_grows_too_large_is_named_once(tmp_path: Path, form: str, says: str) -> None:
    from shitu_cli.features.extractor import transformed

    def grow(pixels: np.ndarray, rng: object) -> np.ndarray:
        raise DataError("1 x 60,000 pixels would become too many")

    source = {"file": tmp_path / "a.png", "bytes": b"", "array": np.zeros((60_000, 1, 3), np.uint8)}[form]
    with pytest.raises(DataError) as caught:
        transformed(source, np.zeros((60_000, 1, 3), np.uint8), grow, NO_RANDOMNESS)  # type: ignore[arg-type]
    reason = caught.value.message if form == "file" else f"image 1 of 1: {caught.value.message}"
    assert reason.startswith(says.format(tmp_path / "a.png"))


def test_features_do_not_depend_on_the_batch(exported: Path, extractor: Extractor, pictures: list[Path]) -> None:
    alone = np.concatenate([extractor.extract([path]) for path in pictures[:5]])
    assert np.array_equal(extractor.extract(pictures[:5]), alone)
    assert np.array_equal(Extractor(exported, threads=2, batch_size=32).extract(pictures)[:5], alone)


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (4000, 1)])
def test_pictures_of_one_pixel(extractor: Extractor, tmp_path: Path, size: tuple[int, int]) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.full((*size, 3), 200, np.uint8))
    features = extractor.extract([tmp_path / "p.png"])
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (b"", "image 3 of 3: image bytes: the file is empty"),
        (b"no picture", "image bytes: could not be read as an image"),
        ("nowhere.jpg", "nowhere.jpg: No such file or directory"),
        (np.zeros((4, 4, 3), np.float32), "expected uint8 RGB"),
        (np.zeros((4, 4, 2), np.uint8), "expected uint8 RGB"),
        (7, "a value of type int cannot be used as an image: expected a path, bytes, an array or a Pillow image"),
        (np.zeros((0, 4, 3), np.uint8), "expected uint8 RGB"),
    ],
)
def test_what_is_no_picture(extractor: Extractor, pictures: list[Path], image: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        extractor.extract([*pictures[:2], image])  # type: ignore[list-item]


def test_unreadable_pictures_are_told_with_their_batch(extractor: Extractor, pictures: list[Path]) -> None:
    bad = {2, 3, 9, 12}
    images: list[Path | bytes] = [b"bad" if n in bad else pictures[n] for n in range(13)]
    got = list(extractor.batches(images))
    assert [list(indices) for indices, _, _ in got] == [[0, 1], [4, 5, 6, 7], [8, 10, 11], []]
    assert [sorted(skipped) for _, _, skipped in got] == [[2, 3], [], [9], [12]]
    assert all(len(features) == len(indices) for indices, features, _ in got)
    part = list(extractor.batches(images, start=4, stop=10))
    assert [list(indices) for indices, _, _ in part] == [[4, 5, 6, 7], [8]] and list(part[1][2]) == [9]


def test_a_picture_larger_than_the_decoder_allows(exported: Path, tmp_path: Path) -> None:
    """A picture of 20,000 x 20,000 meets the same limit with its default of 2^30 pixels far off; here it is 10,000."""
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((200, 200, 3), np.uint8))
    script = (
        "import sys; from shitu_cli import Extractor; from shitu_cli.errors import DataError\n"
        "try: Extractor(sys.argv[1]).extract([sys.argv[2]])\n"
        "except DataError as error: print(error.message)"
    )
    argv = [sys.executable, "-c", script, str(exported), str(tmp_path / "large.png")]
    environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": "10000"}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert "large.png: " in done.stdout and "cannot be decoded" in done.stdout


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_that_may_change_are_bytes(kind: type) -> None:
    """Uploads come as these; alone and among others."""
    assert listed(kind(b"ab")) == [b"ab"]
    assert listed([kind(b"ab"), "a.jpg"]) == [b"ab", "a.jpg"]
