"""How an image becomes the input of a detector, and how boxes come back from there.

PaddleDetection and PaddleX write it down beside the model (`infer_cfg.yml`, `inference.yml`); the YOLO family has one
way for all its networks.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import cv2
import numpy as np

from shitu_cli.config.kinds import Keys, Length, Natural, Positive, Range
from shitu_cli.config.parts.transforms import IMAGENET_MEAN, IMAGENET_STD
from shitu_cli.config.reader import Reader, guess
from shitu_cli.errors import DataError
from shitu_cli.inputs import MIB
from shitu_cli.inputs.yaml_files import read_yaml

DESCRIPTIONS = ("infer_cfg.yml", "inference.yml")  # of PaddleDetection and of PaddleX
MOST_PIXELS = 4096  # a side of a detector's input
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
GREY = 114.0  # beside an image that YOLO gets in another shape than its own

Side = Annotated[int, Range(1, MOST_PIXELS)]
Colour = Annotated[tuple[float, ...], Length(3)]


@dataclass(frozen=True)
class Resize(Keys):
    target_size: Annotated[int | tuple[Side, ...], Range(1, MOST_PIXELS), Length(2), "height and width"]
    keep_ratio: bool = False
    interp: Annotated[int, Range(0, len(INTERPOLATIONS) - 1)] = 2


@dataclass(frozen=True)
class NormalizeImage(Keys):
    mean: Colour = IMAGENET_MEAN
    std: Annotated[tuple[Positive, ...], Length(3)] = IMAGENET_STD
    is_scale: bool = True
    norm_type: Literal["mean_std", "none", None] = "mean_std"


@dataclass(frozen=True)
class Pad(Keys):
    size: Annotated[tuple[Side, ...], Length(2), "height and width"]
    fill_value: Colour = (GREY,) * 3


@dataclass(frozen=True)
class PadStride(Keys):
    stride: Annotated[Natural, Range(0, 256)] = 0


@dataclass(frozen=True)
class Permute(Keys):
    """Height x width x colour becomes colour x height x width, as every network here wants it."""


STEPS: dict[str, type[Keys]] = {cls.__name__: cls for cls in (Resize, NormalizeImage, Pad, PadStride, Permute)}


class Input(NamedTuple):
    """A prepared image float32 [3, H, W], and where the image is in it: a pixel x, y is at scale * (x, y) + shift.

    `resized` is the (height, width) that the image has in it.
    """

    pixels: np.ndarray
    scale: tuple[float, float]
    shift: tuple[float, float]
    resized: tuple[int, int]

    def boxes_in_image(self, boxes: np.ndarray) -> np.ndarray:
        """Return boxes [N, 4] of the input as boxes float64 [N, 4] of the image."""
        return (boxes.astype(np.float64) - np.tile(self.shift, 2)) / np.tile(self.scale, 2)


@dataclass(frozen=True)
class Preprocessing:
    """Resizes to `size` (height, width) or so that it fits in, pads, and normalises.

    `centred` puts an image of another shape in the middle, as YOLO does, else it is in the corner; `canvas` is the
    (height, width) that is filled with `fill` around it; the sides are padded to multiples of `stride`.
    """

    size: tuple[int, int]
    keep_ratio: bool = False
    interpolation: int = cv2.INTER_CUBIC
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    factor: float = 1 / 255
    canvas: tuple[int, int] | None = None
    fill: tuple[float, ...] = (GREY,) * 3
    centred: bool = False
    stride: int = 0

    def __call__(self, image: np.ndarray) -> Input:
        """Return the input for an image uint8 [H, W, 3] RGB."""
        height, width = image.shape[:2]
        high, wide = self._resized(height, width)
        pixels = cv2.resize(image, (wide, high), interpolation=self.interpolation).astype(np.float32)
        scale, left, top = (wide / width, high / height), 0, 0
        if self.canvas is not None:
            room = np.empty((max(self.canvas[0], high), max(self.canvas[1], wide), 3), np.float32)
            room[:] = self.fill
            if self.centred:
                top, left = (room.shape[0] - high) // 2, (room.shape[1] - wide) // 2
            room[top : top + high, left : left + wide] = pixels
            pixels = room
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        planes = ((pixels * np.float32(self.factor) - mean) / std).transpose(2, 0, 1)
        if self.stride > 1:
            more = [(0, 0), *((0, -side % self.stride) for side in planes.shape[1:])]
            planes = np.pad(planes, more)
        return Input(np.ascontiguousarray(planes), scale, (left, top), (high, wide))

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if not self.keep_ratio:
            return self.size
        short, long = min(self.size), max(self.size)
        factor = min(short / min(height, width), long / max(height, width))
        if self.canvas is not None:  # it has to fit in there
            factor = min(factor, self.canvas[0] / height, self.canvas[1] / width)
        return max(1, round(height * factor)), max(1, round(width * factor))


# What PP-ShiTu's configuration says of its detector (PaddleClas, deploy/configs/inference_general.yaml): the published
# archive holds no description.
PP_SHITU = Preprocessing((640, 640))


def letterbox(size: tuple[int, int]) -> Preprocessing:
    """Return how YOLO's networks of this input (height, width) get an image: whole, in the middle of grey, 0 to 1."""
    return Preprocessing(size, True, cv2.INTER_LINEAR, (0.0,) * 3, (1.0,) * 3, canvas=size, centred=True)


def description_beside(model: Path) -> Path | None:
    """Return the description next to a model file; None if there is none."""
    return next((file for name in DESCRIPTIONS if (file := model.with_name(name)).is_file()), None)


def read_preparation(file: Path) -> Preprocessing:
    """Return what infer_cfg.yml or inference.yml says; DataError names the file and everything that is wrong in it."""
    values = read_yaml(file, limit=MIB)
    entries = values.get("Preprocess") if isinstance(values, dict) else None
    if not isinstance(entries, list) or not entries:
        raise DataError(
            f"{file} does not say how a detector's images are prepared",
            hint="the file of a detector has a list Preprocess with Resize, NormalizeImage and Permute",
        )
    reader, steps = Reader({}, str(file)), {}
    for number, entry in enumerate(entries):
        name, step = _step(reader, f"Preprocess.{number}", entry)
        if name in steps:
            reader.problem(f"Preprocess.{number}", f"a second {name}")
        steps[name] = step
    if "Resize" not in steps:
        reader.problem("Preprocess", "no Resize, so that the size of the input is not known")
    if reader.problems:
        raise DataError(
            f"{file}: images cannot be prepared as it says",
            details=reader.problems,
            hint="export the detector again, or name another one",
        )
    return _preparation(steps)


def _step(reader: Reader, key: str, entry: Any) -> tuple[str, Any]:
    block = dict(reader.mapping(key, entry))
    name = block.pop("type", None)
    cls = STEPS.get(name) if isinstance(name, str) else None
    if cls is None:
        reader.problem(key, f"type {str(name)[:40]!r}: expected one of {', '.join(STEPS)}{guess(name, STEPS)}")
        return str(name), None
    return cls.__name__, reader.block(key, block, cls)


def _preparation(steps: dict[str, Any]) -> Preprocessing:
    resize: Resize = steps["Resize"]
    target = resize.target_size
    size = (target, target) if isinstance(target, int) else (target[0], target[1])
    normalize: NormalizeImage | None = steps.get("NormalizeImage")
    pad: Pad | None = steps.get("Pad")
    plain = normalize is None or normalize.norm_type == "none"
    return Preprocessing(
        size,
        resize.keep_ratio,
        INTERPOLATIONS[resize.interp],
        mean=(0.0,) * 3 if normalize is None or plain else normalize.mean,
        std=(1.0,) * 3 if normalize is None or plain else normalize.std,
        factor=1 / 255 if normalize is not None and normalize.is_scale else 1.0,
        canvas=None if pad is None else (pad.size[0], pad.size[1]),
        fill=(GREY,) * 3 if pad is None else pad.fill_value,
        stride=getattr(steps.get("PadStride"), "stride", 0),
    )
