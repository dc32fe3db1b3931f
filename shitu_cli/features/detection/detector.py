"""Open a detector's files and find things with it: the same boxes for an image whatever else is computed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from shitu_cli.config.arguments import COUNT, PORTION, require
from shitu_cli.errors import DataError, Message, UsageError
from shitu_cli.features.backends import create_predictor, create_session, damaged
from shitu_cli.features.detection.boxes import MOST_CANDIDATES, Detection, apart, inside, whole_pixels
from shitu_cli.features.detection.forms import KNOWN_FORMS, Boxes, UnknownForm, decisive, read_boxes
from shitu_cli.features.detection.preparation import (
    MOST_PIXELS,
    PP_SHITU,
    Input,
    Preprocessing,
    description_beside,
    letterbox,
    read_preparation,
)
from shitu_cli.features.model_files import DETECTION
from shitu_cli.features.one_process import OfOneProcess
from shitu_cli.files import sha256_of
from shitu_cli.runtime.arithmetic import kept_threads

THRESHOLD, MOST = 0.2, 5  # those of PP-ShiTu (PaddleClas, deploy/configs/inference_general.yaml)
OVERLAP = 0.5  # of two boxes, above which the less certain one is a duplicate
# ONNX first: threads run it side by side, Paddle's predictor one after the other.
MODEL_FILES = tuple(f"{stem}.{kind}" for stem in ("inference", "model") for kind in ("onnx", "json", "pdmodel"))
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}  # what ONNX calls inputs that are filled here
SCALES = ("scale_factor", "im_shape")  # inputs of PaddleDetection's networks beside the image, [1, 2] each
YOLO_SIDE = 640  # where neither the file nor its metadata says one
_AGAIN: Message = "export the detector again, or name another one"

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Network:
    """What runs a file: the shapes of its inputs by name (None: any size), its metadata, and a call on one thread."""

    inputs: dict[str, tuple[int | None, ...]]
    metadata: dict[str, str]
    run: Callable[[Arrays], list[np.ndarray]]


class Detector(OfOneProcess):
    """Finds the things in an image, whatever they are; threads may share it.

    A box depends on its image alone: each image is computed by itself, on one thread.

    Args:
        model: A directory that PaddleDetection or PaddleX exported, or a model file (.pdmodel, .json or .onnx) of
            PaddleDetection or of the YOLO family.
        threshold: How sure it must be of a box (0 to 1).
        most: How many boxes of an image are used, the surest ones.

    `remark` says what was assumed if no file next to the model says how images are prepared. Raises UsageError if there
    is no model, DataError for one that is damaged, that does more than detect, or whose output has an unknown form.
    """

    def __init__(self, model: str | Path, *, threshold: float = THRESHOLD, most: int = MOST) -> None:
        require(PORTION, threshold=threshold)
        require(COUNT, most=most)
        super().__init__()
        self.path, self.threshold, self.most = Path(model), threshold, most
        self.file = _model_file(self.path)
        self._network = _open(self.file)
        self._image = _name_of_image(self.file, self._network.inputs)
        self.remark = ""
        self._preparation = self._find_preparation()
        self.detect(np.full((64, 64, 3), 127, np.uint8))  # fails now if the form of its output is not known

    @cached_property
    def fingerprint(self) -> str:
        """What identifies the boxes that it gives: its files, and how sure it must be."""
        files = (self.file, self.file.with_suffix(".pdiparams"), description_beside(self.file))
        digests = [sha256_of(file) for file in files if file is not None and file.is_file()]
        return hashlib.sha256(repr((digests, self.threshold)).encode()).hexdigest()

    def detect(self, image: np.ndarray, *, threshold: float | None = None, most: int | None = None) -> list[Detection]:
        """Return the things in an image uint8 [H, W, 3] RGB, the surest first.

        `threshold` and `most` replace those of the detector. Raises DataError if its answer cannot be understood.
        """
        self._require_own_process()
        height, width = image.shape[:2]
        prepared = self._preparation(image)
        boxes, scores, in_image, is_final = self._boxes(prepared)
        boxes, scores = inside(boxes if in_image else prepared.boxes_in_image(boxes), scores, width, height)
        least = self.threshold if threshold is None else threshold
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= least][:MOST_CANDIDATES]
        rows = order.tolist() if is_final else apart(boxes, order, OVERLAP)
        chosen = rows[: self.most if most is None else most]
        return [Detection(whole_pixels(boxes[row]), float(scores[row])) for row in chosen]

    def _boxes(self, prepared: Input) -> Boxes:
        inputs = {self._image: prepared.pixels[None]}
        if "scale_factor" in self._network.inputs:
            inputs["scale_factor"] = np.asarray([prepared.scale[::-1]], np.float32)
        if "im_shape" in self._network.inputs:
            inputs["im_shape"] = np.asarray([prepared.resized], np.float32)
        outputs = self._run(inputs)
        size = (prepared.pixels.shape[1], prepared.pixels.shape[2])
        try:
            return read_boxes(outputs, size, in_image="scale_factor" in self._network.inputs)
        except UnknownForm as problem:
            hint = "what can be read: " + "; ".join(KNOWN_FORMS)
            raise DataError(f"{self.file} gives no boxes that can be read: {problem}", hint=hint) from None

    def _run(self, inputs: Arrays) -> list[np.ndarray]:
        try:
            return self._network.run(inputs)
        except Exception as error:  # each library raises its own classes
            raise damaged(self.file, error, "cannot be run", _AGAIN) from None

    def _find_preparation(self) -> Preprocessing:
        """Return how to prepare images: as the description next to the model says, else as usual for its family."""
        description = description_beside(self.file)
        if description is not None:
            return read_preparation(description)
        shape = self._network.inputs[self._image]
        sides = [side for side in shape[2:] if side is not None]
        fixed = (sides[0], sides[1]) if len(sides) == 2 else None
        if fixed is not None and not all(1 <= side <= MOST_PIXELS for side in fixed):
            raise DataError(f"{self.file} wants images of {fixed[1]} x {fixed[0]} pixels", hint=_AGAIN)
        if self.file.suffix == ".onnx" and self._is_yolo(fixed):
            return letterbox(fixed or _yolo_size(self._network.metadata))
        self.remark = (
            f"there is no infer_cfg.yml or inference.yml beside {self.file}, which would say how to prepare images for "
            "it: they are prepared as for PP-ShiTu's detector"
        )
        return PP_SHITU if fixed is None else Preprocessing(fixed)

    def _is_yolo(self, size: tuple[int, int] | None) -> bool:
        """Return whether a file without description is of the YOLO family: one input, and one array of boxes."""
        if len(self._network.inputs) > 1:
            return False
        high, wide = size or _yolo_size(self._network.metadata)
        rows = decisive(self._run({self._image: np.zeros((1, 3, high, wide), np.float32)}))
        return len(rows) == 1 and rows[0].ndim in (2, 3)


def _model_file(path: Path) -> Path:
    """Return the file of a detector: it itself, or the one in its directory."""
    if path.is_dir():
        named = [path / name for name in MODEL_FILES if (path / name).is_file()]
        files = named or sorted(file for file in path.iterdir() if file.suffix in (".pdmodel", ".onnx"))
        if len(files) == 1 or named:
            return files[0]
        problem = "several models" if files else f"none of {', '.join(MODEL_FILES)}"
        raise DataError(f"{path} holds {problem}", hint="name the file of the detector")
    if not path.exists():
        raise UsageError(f"no such detector: {path}", hint="name an exported directory, or an .onnx file")
    if path.suffix not in (".pdmodel", ".json", ".onnx"):
        raise UsageError(f"{path}: a detector is a directory, or a file .pdmodel, .json or .onnx")
    return path


def _open(file: Path) -> _Network:
    if file.suffix == ".onnx":
        return _onnx_network(file)
    predictor = create_predictor(file, threads=1, kind=DETECTION)
    running = threading.Lock()  # a predictor holds one set of inputs

    def run(inputs: Arrays) -> list[np.ndarray]:
        with running:
            for name, values in inputs.items():
                predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(values))
            with kept_threads():
                predictor.run()
            names = predictor.get_output_names()
            return [np.array(predictor.get_output_handle(name).copy_to_cpu()) for name in names]

    # Its sizes cannot be asked for; the description says them.
    inputs: dict[str, tuple[int | None, ...]] = {
        name: (None,) * (2 if name in SCALES else 4) for name in predictor.get_input_names()
    }
    return _Network(inputs, {}, run)


def _onnx_network(file: Path) -> _Network:
    session = create_session(file, DETECTION)
    inputs = {one.name: _sizes(one.shape) for one in session.get_inputs()}
    kinds = {one.name: FLOATS.get(one.type) for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    unknown = [f"{one.name} of {one.type}" for one in session.get_inputs() if kinds[one.name] is None]
    if unknown:
        raise DataError(f"{file} takes other numbers than float32 and float16: {', '.join(unknown)}", hint=_AGAIN)

    def run(arrays: Arrays) -> list[np.ndarray]:
        given = {name: values.astype(kinds[name], copy=False) for name, values in arrays.items()}
        return [np.asarray(value) for value in session.run(names, given)]

    return _Network(inputs, dict(session.get_modelmeta().custom_metadata_map), run)


def _sizes(shape: Sequence[Any]) -> tuple[int | None, ...]:
    """Return the sizes that a file fixes; None if it takes any."""
    return tuple(side if type(side) is int and side > 0 else None for side in shape)


def _name_of_image(file: Path, inputs: Mapping[str, tuple[int | None, ...]]) -> str:
    """Return the name of the input that takes the image; DataError if there are inputs that cannot be filled here."""
    images = [name for name, shape in inputs.items() if len(shape) == 4]
    others = [name for name in inputs if name not in images and name not in SCALES]
    if len(images) != 1 or others:
        raise DataError(
            f"{file} is not a detector that can be used here: its inputs are {', '.join(inputs) or 'none'}",
            hint="a detector takes one image, and optionally scale_factor and im_shape, as PaddleDetection's do",
        )
    if inputs[images[0]][0] not in (1, None) or inputs[images[0]][1] not in (3, None):
        raise DataError(f"{file} does not take single images with three colours", hint=_AGAIN)
    return images[0]


def _yolo_size(metadata: Mapping[str, str]) -> tuple[int, int]:
    """Return the size (height, width) that Ultralytics notes in its files; its default if there is none."""
    try:
        size = json.loads(metadata.get("imgsz", ""))
    except ValueError:
        size = None
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int and 32 <= side <= 4096 for side in size):
        return size[0], size[1]
    return YOLO_SIDE, YOLO_SIDE
