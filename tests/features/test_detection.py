"""Detectors of every family give the same boxes for the same image; what is no detector is refused in words."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from shitu_cli.errors import DataError, UsageError
from shitu_cli.features.detection import forms
from shitu_cli.features.detection.boxes import apart, inside
from shitu_cli.features.detection.detector import Detector
from shitu_cli.features.detection.preparation import Preprocessing, letterbox, read_preparation
from shitu_cli.features.model_files import DETECTION, check_model_files
from tests.features import detectors
from tests.features.detectors import DESCRIPTION, Graph, scene

Write = Callable[[Path], Path]
DESCRIBED: list[Write] = [
    detectors.pico_raw,
    detectors.paddle_unsuppressed,
    lambda file: detectors.paddle_unsuppressed(file, scaled=True),
    detectors.paddle_finished,
]
YOLO: list[Write] = [
    detectors.yolo_8,
    detectors.yolo_8_of_any_size,
    detectors.yolo_8_in_halves,
    detectors.yolo_5,
    detectors.yolo_5_with_maps,
    detectors.yolo_finished,
]


def of_paddle(folder: Path, write: Write = detectors.paddle_finished, text: str = DESCRIPTION) -> Path:
    folder.mkdir(exist_ok=True)
    write(folder / "model.onnx")
    (folder / "infer_cfg.yml").write_text(text)
    return folder


@pytest.mark.parametrize("write", DESCRIBED)
def test_networks_of_paddle_detection(tmp_path: Path, write: Write) -> None:
    detector = Detector(of_paddle(tmp_path / "mainbody", write))
    found = detector.detect(scene((1, 2), (3, 0), shape=(128, 256)))
    assert detector.remark == ""
    assert [box for box, _ in found] == [(64, 64, 128, 96), (192, 0, 256, 32)]
    assert [score for _, score in found] == pytest.approx([1, 235 / 255], abs=2e-3)


@pytest.mark.parametrize("write", YOLO)
def test_networks_of_the_yolo_family_get_the_image_whole_between_grey(tmp_path: Path, write: Write) -> None:
    detector = Detector(write(tmp_path / "yolo.onnx"), threshold=0.6)
    # 128 x 64 becomes 64 x 32, with 16 rows of grey above and below.
    image = np.zeros((64, 128, 3), np.uint8)
    image[32:64, 96:128] = 255
    assert [(box, round(score or 0, 3)) for box, score in detector.detect(image)] == [((96, 32, 128, 64), 1.0)]
    assert detector.remark == "" and detector.detect(np.zeros((50, 50, 3), np.uint8)) == []


def test_a_threshold_and_the_most_boxes(tmp_path: Path) -> None:
    image = scene((0, 0), (2, 0), (0, 2), (2, 2))
    detector = Detector(of_paddle(tmp_path / "d", detectors.pico_raw), most=3)
    assert len(detector.detect(image)) == 3
    assert len(detector.detect(image, most=9)) == 4
    assert len(detector.detect(image, threshold=0.9)) == 2
    with pytest.raises(UsageError, match="threshold"):
        Detector(tmp_path / "d", threshold=1.5)


@pytest.mark.parametrize("form", ["pir", "pdmodel"])
def test_paddle_programs_with_their_own_suppression(paddle_detector: Callable[[str], Path], form: str) -> None:
    detector = Detector(paddle_detector(form))
    found = detector.detect(scene((1, 2), (3, 0)))
    assert [box for box, _ in found] == [(32, 64, 64, 96), (96, 0, 128, 32)]
    assert detector.detect(scene()) == []


def test_suppression_is_no_step_of_a_network_for_features(paddle_detector: Callable[[str], Path]) -> None:
    for form, name in (("pir", "inference.json"), ("pdmodel", "inference.pdmodel")):
        file = paddle_detector(form) / name
        check_model_files(file, DETECTION)
        with pytest.raises(DataError, match=r"no network for features needs: '.*multiclass_nms3'"):
            check_model_files(file)


def test_suppression_without_its_boxes_is_refused(paddle_detector: Callable[[str], Path], tmp_path: Path) -> None:
    # Paddle would follow a null pointer.
    folder = Path(shutil.copytree(paddle_detector("pdmodel"), tmp_path / "d"))
    data = (folder / "inference.pdmodel").read_bytes()
    assert data.count(b"BBoxes") == 1
    (folder / "inference.pdmodel").write_bytes(data.replace(b"BBoxes", b"BBoxez"))
    with pytest.raises(DataError, match="a step multiclass_nms3 lacks its BBoxes"):
        Detector(folder)


def test_one_image_gives_the_same_boxes_whatever_runs_beside_it(tmp_path: Path) -> None:
    detector = Detector(of_paddle(tmp_path / "d", detectors.pico_raw))
    images = [scene((n % 4, n // 4)) for n in range(16)]
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector.detect, images * 4)) == alone * 4
    assert threading.active_count() < 50


def test_a_network_without_a_description_says_what_is_assumed(tmp_path: Path) -> None:
    detector = Detector(detectors.pico_raw(tmp_path / "model.onnx"))
    assert "as for PP-ShiTu's detector" in detector.remark
    assert [box for box, _ in detector.detect(scene((1, 2)))] == [(32, 64, 64, 96)]


PREPROCESS = "Preprocess:\n- type: Resize\n  target_size: 64\n"
BAD_DESCRIPTIONS = {
    "nothing": ("", "does not say how"),
    "a recognition model's": ("PreProcess:\n  transform_ops:\n  - ResizeImage: {size: 224}\n", "does not say how"),
    "no size": ("Preprocess:\n- type: Permute\n", "no Resize"),
    "an operation that is not there": (PREPROCESS + "- type: Resise\n", "'Resise'"),
    "an operation without a type": (PREPROCESS + "- interp: 2\n", "'None'"),
    "a key that is not there": (PREPROCESS + "  keep_rato: true\n", "keep_ratio"),
    "a huge size": ("Preprocess:\n- type: Resize\n  target_size: [64, 1000000]\n", "target_size"),
    "a deviation of zero": (PREPROCESS + "- type: NormalizeImage\n  std: [0, 1, 1]\n", "std"),
    "one of them twice": (PREPROCESS + PREPROCESS.partition("\n")[2], "a second Resize"),
    "a tag": ("Preprocess: !!python/object/apply:os.system [true]\n", "infer_cfg.yml"),
    "no YAML": ("Preprocess: [", "not valid YAML"),
}


@pytest.mark.parametrize("name", BAD_DESCRIPTIONS)
def test_what_is_wrong_in_a_description_is_said(tmp_path: Path, name: str) -> None:
    text, words = BAD_DESCRIPTIONS[name]
    folder = of_paddle(tmp_path / "d", text=text)
    with pytest.raises(DataError) as problem:
        Detector(folder)
    told = "\n".join([problem.value.message, *problem.value.details])
    assert words in told and str(folder) in told


def test_the_operations_of_a_description(tmp_path: Path) -> None:
    file = tmp_path / "infer_cfg.yml"
    file.write_text(
        "Preprocess:\n- {type: Resize, target_size: [32, 64], keep_ratio: true, interp: 1}\n"
        "- {type: Pad, size: [40, 70], fill_value: [255.0, 0.0, 0.0]}\n"
        "- {type: NormalizeImage, is_scale: false, norm_type: none}\n- {type: PadStride, stride: 16}\n"
        "- {type: Permute}\n"
    )
    prepared = read_preparation(file)(np.full((50, 50, 3), 9, np.uint8))
    assert prepared.pixels.shape == (3, 48, 80) and prepared.resized == (32, 32)
    assert prepared.pixels[:, 31, 31].tolist() == [9, 9, 9] and prepared.pixels[:, 39, 69].tolist() == [255, 0, 0]
    assert prepared.pixels[:, 47, 79].tolist() == [0, 0, 0]
    np.testing.assert_allclose(prepared.boxes_in_image(np.array([[0, 0, 32, 32]])), [[0, 0, 50, 50]])


@pytest.mark.parametrize("shape", [(1, 900), (900, 1), (1, 1), (33, 31), (640, 640)])
def test_boxes_come_back_from_any_shape(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    for preparation in (
        letterbox((64, 96)),
        Preprocessing((64, 64)),
        Preprocessing((48, 64), keep_ratio=True, stride=32),
    ):
        prepared = preparation(image)
        high, wide = prepared.resized
        left, top = prepared.shift
        assert np.isfinite(prepared.pixels).all()
        boxes = prepared.boxes_in_image(np.array([[left, top, left + wide, top + high]]))
        np.testing.assert_allclose(boxes, [[0, 0, shape[1], shape[0]]], atol=1e-9)


def _constant(file: Path, *outputs: np.ndarray) -> Path:
    graph = Graph()
    touched = graph.step("ReduceMean", "image", keepdims=0)
    zero = graph.step("Mul", touched, graph.constant(0.0))
    return graph.save(file, [graph.step("Add", graph.constant(values), zero) for values in outputs])


NO_DETECTORS = {
    "a network for features": [np.zeros((1, 512))],
    "a picture": [np.zeros((1, 3, 64, 64))],
    "logits instead of scores": [np.full((1, 5, 84), 7.0)],
    "levels of no stride": [np.zeros((1, 50, 1)), np.zeros((1, 50, 32))],
    "levels that do not belong together": [np.zeros((1, 64, 1)), np.zeros((1, 16, 32))],
    "nothing at all": [np.zeros((0, 0, 0))],
}


@pytest.mark.parametrize("name", NO_DETECTORS)
def test_what_gives_no_boxes_is_refused_when_it_is_opened(tmp_path: Path, name: str) -> None:
    file = _constant(tmp_path / "model.onnx", *NO_DETECTORS[name])
    with pytest.raises(DataError, match="no boxes that can be read") as problem:
        Detector(file)
    assert "YOLO" in str(problem.value.hint)


def test_numbers_that_are_no_boxes_are_none() -> None:
    boxes = np.array([[0, 0, np.nan, 4], [5, 5, 4, 9], [-1e30, -1e30, 1e30, 1e30], [2, 2, 2.5, 9], [1, 1, 9, 9]])
    kept, scores = inside(boxes, np.array([1, 1, 0.5, 1, np.inf]), 8, 6)
    assert kept.tolist() == [[0, 0, 8, 6]] and scores.tolist() == [0.5]
    assert forms.read_boxes([np.zeros((1, 1))], (64, 64), in_image=True).boxes.shape == (0, 4)
    for nonsense in (np.full((1, 5, 84), np.nan), np.full((1, 5, 84), 1e30)):
        with pytest.raises(forms.UnknownForm, match="scores from"):
            forms.read_boxes([nonsense], (64, 64), in_image=False)


def test_boxes_that_overlap_are_one() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [20, 20, 30, 30], [0, 0, 10, 10]], np.float64)
    assert apart(boxes, [1, 0, 2, 3], 0.5) == [1, 2]
    assert apart(boxes, [0, 1, 2, 3], 0.9) == [0, 1, 2]
    assert apart(boxes[:0], [], 0.5) == []


def test_files_that_are_no_detectors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, kind, words in (
        (tmp_path / "none", UsageError, "no such detector"),
        (tmp_path / "empty", DataError, "holds none of"),
        (Path(__file__), UsageError, "a detector is"),
    ):
        with pytest.raises(kind, match=words):
            Detector(path)
    (tmp_path / "damaged.onnx").write_bytes(b"\x08")
    with pytest.raises(DataError, match=r"damaged\.onnx"):
        Detector(tmp_path / "damaged.onnx")
    model = onnx.load(detectors.yolo_8(tmp_path / "two.onnx"))
    model.graph.node[0].op_type = "Loop"
    onnx.save(model, tmp_path / "loop.onnx")
    with pytest.raises(DataError, match="no network for detection needs: 'Loop'"):
        Detector(tmp_path / "loop.onnx")
    model = onnx.load(tmp_path / "two.onnx")
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["whole"], to=1))
    for node in list(model.graph.node)[1:]:
        node.input[:] = ["whole" if name == "image" else name for name in node.input]
    onnx.save(model, tmp_path / "bytes.onnx")
    with pytest.raises(DataError, match="other numbers than float32"):
        Detector(tmp_path / "bytes.onnx")
    model = onnx.load(tmp_path / "two.onnx")
    model.graph.input.append(onnx.helper.make_tensor_value_info("prompt", 1, [1, 8]))
    onnx.save(model, tmp_path / "prompt.onnx")
    with pytest.raises(DataError, match="its inputs are image, prompt"):
        Detector(tmp_path / "prompt.onnx")
    detectors.yolo_5(tmp_path / "one.onnx")
    with pytest.raises(DataError, match="several models"):
        Detector(tmp_path)
