"""The surest thing in each image is found while the image is read: each is decoded once, and computed once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from shitu_cli import Extractor
from shitu_cli.data.images import decode_image
from shitu_cli.errors import DataError, ShituError
from shitu_cli.features import resumable
from shitu_cli.features.detection import bodies
from shitu_cli.features.detection.bodies import Body
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.extractor import Cropped
from shitu_cli.features.feature_file import extract_to_file
from shitu_cli.features.resumable import Extraction
from shitu_cli.preparation.sources import ImageFiles
from shitu_cli.reporting import SilentReporter
from tests.features import detectors
from tests.features.detectors import coloured

COLOUR = (255, 255, 60)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> tuple[Extractor, Detector]:
    folder = tmp_path_factory.mktemp("tools")
    (folder / "mainbody").mkdir()
    detectors.paddle_finished(folder / "mainbody" / "model.onnx")
    (folder / "mainbody" / "infer_cfg.yml").write_text(detectors.DESCRIPTION)
    return Extractor(detectors.recogniser(folder / "model"), threads=1, batch_size=2), Detector(folder / "mainbody")


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageFiles:
    """Nine images: of six with a thing, one has a box already; one shows nothing, two cannot be read. Blocks of 2."""
    monkeypatch.setattr(resumable, "BLOCK_IMAGES", 2)
    files = ImageFiles()
    for n in range(9):
        file = tmp_path / f"{n}.png"
        cv2.imwrite(str(file), coloured(*[(n % 4, n // 4, COLOUR)] if n != 4 else []))
        files.add(file, "thing", (0, 0, 50, 60) if n == 2 else None)
    for n in (5, 7):
        Path(files.files[n]).write_bytes(b"broken")
    return files


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image without a box is decoded."""
    counts: Counter[str] = Counter()

    def counted(path: str | Path, **options: object) -> np.ndarray:
        counts[Path(path).name] += 1
        return decode_image(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bodies, "decode_image", counted)
    return counts


def boxes_in(file: Path) -> list[str]:
    return [line.split("\t")[0].rpartition("/")[2] for line in file.read_text().splitlines()[1:]]


def test_each_image_is_decoded_once_and_gives_the_features_of_its_box(
    tools: tuple[Extractor, Detector], images: ImageFiles, reads: Counter[str], tmp_path: Path
) -> None:
    extractor, detector = tools
    written = extract_to_file(Extraction(extractor, images, detector=detector), tmp_path / "f.npy", SilentReporter())
    assert set(reads) == {f"{n}.png" for n in range(9) if n != 2} and set(reads.values()) == {1}
    assert boxes_in(tmp_path / "f.tsv") == [
        "0.png#0,0,32,32",
        "1.png#32,0,64,32",
        "2.png#0,0,50,60",
        "3.png#96,0,128,32",
        "4.png",
        "6.png#64,32,96,64",
        "8.png#0,64,32,96",
    ]
    assert [Path(file).name for file in written.skipped] == ["5.png", "7.png"]
    cut = [Cropped(images.files[n], box) for n, box in ((0, (0, 0, 32, 32)), (8, (0, 64, 32, 96)))]
    assert np.array_equal(np.load(tmp_path / "f.npy")[[0, -1]], extractor.extract(cut))


def test_an_interrupted_call_goes_on_without_looking_again(
    tools: tuple[Extractor, Detector],
    images: ImageFiles,
    reads: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    extractor, detector = tools
    extract_to_file(Extraction(extractor, images, detector=detector), tmp_path / "whole.npy", SilentReporter())
    work = resumable.ResumableFeatures
    with monkeypatch.context() as patch:  # as if the process were killed after its third block
        marks = iter(range(3))
        mark = work._mark

        def stopping(self: resumable.ResumableFeatures, number: int, block: resumable.FinishedBlock) -> None:
            if next(marks, None) is None:
                raise KeyboardInterrupt
            mark(self, number, block)

        patch.setattr(work, "_mark", stopping)
        with pytest.raises(KeyboardInterrupt):
            extract_to_file(Extraction(extractor, images, detector=detector), tmp_path / "f.npy", SilentReporter())
    reads.clear()
    written = extract_to_file(Extraction(extractor, images, detector=detector), tmp_path / "f.npy", SilentReporter())
    assert set(reads) == {"6.png", "7.png", "8.png"} and len(written.skipped) == 2
    for suffix in ("npy", "tsv"):
        assert (tmp_path / f"f.{suffix}").read_bytes() == (tmp_path / f"whole.{suffix}").read_bytes()


def test_a_part_at_a_fraction_of_its_size_is_that_of_a_list(tools: tuple[Extractor, Detector], tmp_path: Path) -> None:
    file = tmp_path / "large.jpg"
    cv2.imwrite(str(file), coloured((1, 2, COLOUR), side=1024))
    body = Body(file, tools[1])
    pixels = body.pixels(32)
    assert body.box is not None and pixels.shape == (32, 32, 3)
    assert np.array_equal(pixels, decode_image(file, box=body.box, enough=32))


def test_a_detector_that_fails_ends_the_call_instead_of_leaving_images_out(
    tools: tuple[Extractor, Detector], images: ImageFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Detector, image: np.ndarray, **options: object) -> list[object]:
        raise DataError("model.onnx cannot be run", hint="export the detector again")

    monkeypatch.setattr(Detector, "detect", fail)
    with pytest.raises(ShituError, match="cannot be run") as problem:
        extract_to_file(Extraction(tools[0], images, detector=tools[1]), tmp_path / "f.npy", SilentReporter())
    assert problem.value.exit_code == DataError.exit_code and problem.value.hint == "export the detector again"
