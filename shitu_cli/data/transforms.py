"""PaddleClas's image operations by name, on numpy and OpenCV, with randomness passed in so that runs repeat.

Pictures stay uint8 RGB [H, W, 3]; NormalizeImage is taken out of the list and applied to whole batches. Only where
an operation stands behind it is the picture normalised on the spot and returned as float32 [3, H, W].
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from shitu_cli.config.schema import Component
from shitu_cli.data.augment import AugMix, ColorJitter, RandAugment, RandomRotation
from shitu_cli.errors import ConfigError
from shitu_cli.reporting import counted

Op = Callable[[np.ndarray, np.random.Generator], np.ndarray]
INTERPOLATION = {
    "nearest": cv2.INTER_NEAREST,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class Normalization:
    """(pixel * scale - mean) / std for each of R, G, B."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    scale: float = 1 / 255

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """float32 [3] each: what a pixel is multiplied by, and what is added then."""
        std = np.asarray(self.std, np.float64)
        return (self.scale / std).astype(np.float32), (-np.asarray(self.mean) / std).astype(np.float32)


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(width, height)."""
    width, height = (size, size) if isinstance(size, int) else size
    if min(int(width), int(height)) < 1:
        raise ValueError(f"size {size}: expected 1 pixel or more each way")
    return int(width), int(height)


def resize(image: np.ndarray, width: int, height: int, interpolation: str | None, backend: str = "cv2") -> np.ndarray:
    """Resize; `backend: pil` smooths when it shrinks, which area interpolation comes closest to."""
    method = INTERPOLATION[interpolation or "bilinear"]
    if backend == "pil" and method != cv2.INTER_NEAREST and height < image.shape[0] and width < image.shape[1]:
        method = cv2.INTER_AREA
    return cv2.resize(image, (width, height), interpolation=method)


class DecodeImage:
    """Stands for the decoding that the loader has done.

    `reduced` lets it decode JPEGs that are much larger than needed at a fraction of their size.
    """

    def __init__(
        self,
        to_rgb: bool = True,
        to_np: bool = False,
        channel_first: bool = False,
        backend: str = "cv2",
        reduced: bool = False,
    ) -> None:
        if not all(isinstance(value, bool) for value in (to_rgb, channel_first, reduced)):
            raise ValueError("to_rgb, channel_first and reduced are true or false")
        if not to_rgb or channel_first:
            raise ValueError("pictures are RGB, height x width x channels here: to_rgb True, channel_first False")
        self.reduced = reduced

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


class ResizeImage:
    """To `size` (side, or [width, height]), or the short side to `resize_short` with the aspect kept."""

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        resize_short: int | None = None,
        interpolation: str | None = None,
        backend: str = "cv2",
        return_numpy: bool = True,
    ) -> None:
        if (size is None) == (resize_short is None):
            raise ValueError("needs either size or resize_short")
        if interpolation is not None and interpolation not in INTERPOLATION:
            raise ValueError(f"interpolation {interpolation!r} is not one of {', '.join(INTERPOLATION)}")
        self.size = None if size is None else pair(size)
        self.short, self.interpolation, self.backend = resize_short, interpolation, backend

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.size is not None:
            return resize(image, *self.size, self.interpolation, self.backend)
        assert self.short is not None
        height, width = image.shape[:2]
        factor = self.short / min(width, height)
        return resize(image, round(width * factor), round(height * factor), self.interpolation, self.backend)


class CropImage:
    """The middle, `size` as side or [width, height]; smaller pictures are enlarged first."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.width, self.height = pair(size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = _at_least(image, self.width, self.height)
        top, left = (image.shape[0] - self.height) // 2, (image.shape[1] - self.width) // 2
        return image[top : top + self.height, left : left + self.width]


class RandCropImage:
    """A random part of `scale` of the area and `ratio` of width to height, resized to `size` (Szegedy et al. 2015)."""

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] | None = None,
        ratio: Sequence[float] | None = None,
        interpolation: str | None = None,
        backend: str = "cv2",
    ) -> None:
        self.size = pair(size)
        self.scale_low, self.scale_high = scale or (0.08, 1.0)
        self.ratio_low, self.ratio_high = ratio or (3 / 4, 4 / 3)
        self.interpolation, self.backend = interpolation, backend

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        aspect = math.sqrt(rng.uniform(self.ratio_low, self.ratio_high))
        # The largest part of this aspect that the picture can hold bounds the area.
        bound = min(width / height / aspect**2, height / width * aspect**2)
        area = width * height * rng.uniform(min(self.scale_low, bound), min(self.scale_high, bound))
        wide = min(width, max(1, int(math.sqrt(area) * aspect)))
        high = min(height, max(1, int(math.sqrt(area) / aspect)))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        part = image[top : top + high, left : left + wide]
        return resize(part, *self.size, self.interpolation, self.backend)


class RandCropImageV2:
    """A random part of exactly `size`; smaller pictures are enlarged first."""

    def __init__(self, size: int | Sequence[int]) -> None:
        self.width, self.height = pair(size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = _at_least(image, self.width, self.height)
        top = int(rng.integers(0, image.shape[0] - self.height + 1))
        left = int(rng.integers(0, image.shape[1] - self.width + 1))
        return image[top : top + self.height, left : left + self.width]


class RandFlipImage:
    """Mirror every second picture: 1 left and right, 0 top and bottom, -1 both."""

    def __init__(self, flip_code: int = 1) -> None:
        if flip_code not in (-1, 0, 1):
            raise ValueError(f"flip_code {flip_code} is not one of -1, 0, 1")
        self.code = flip_code

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.flip(image, self.code) if rng.random() < 0.5 else image


class Pad:
    """A border of `padding` pixels on all sides ([left, top, right, bottom] or [horizontal, vertical] too)."""

    def __init__(
        self,
        padding: int | Sequence[int],
        padding_mode: str = "constant",
        fill: int | Sequence[int] = 0,
        backend: str = "cv2",
    ) -> None:
        modes = {"constant": cv2.BORDER_CONSTANT, "edge": cv2.BORDER_REPLICATE}
        modes |= {"reflect": cv2.BORDER_REFLECT_101, "symmetric": cv2.BORDER_REFLECT}
        if padding_mode not in modes:
            raise ValueError(f"padding_mode {padding_mode!r} is not one of {', '.join(modes)}")
        sides = [padding] * 4 if isinstance(padding, int) else list(padding)
        self.left, self.top, self.right, self.bottom = sides * 2 if len(sides) == 2 else sides
        self.mode = modes[padding_mode]
        self.fill = [fill] * 3 if isinstance(fill, int) else list(fill)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.copyMakeBorder(image, self.top, self.bottom, self.left, self.right, self.mode, value=self.fill)


class RandomErasing:
    """Overwrite a random rectangle with `mean` or noise (Zhong et al. 2017, arXiv:1708.04896), with chance EPSILON."""

    def __init__(
        self,
        EPSILON: float = 0.5,
        sl: float = 0.02,
        sh: float = 0.4,
        r1: float = 0.3,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        attempt: int = 100,
        use_log_aspect: bool = False,
        mode: str = "const",
    ) -> None:
        if mode not in ("const", "pixel"):
            raise ValueError(f"mode {mode!r} is not one of const, pixel")
        self.chance, self.area, self.aspect, self.attempts = float(EPSILON), (sl, sh), (r1, 1 / r1), attempt
        self.mean, self.log_aspect, self.mode = np.asarray(mean, np.float32), use_log_aspect, mode

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """On [H, W, 3]; a changed picture is a copy."""
        if rng.random() >= self.chance:
            return image
        height, width = image.shape[:2]
        for _ in range(self.attempts):
            area = rng.uniform(*self.area) * height * width
            aspect = rng.uniform(*self.aspect)
            if self.log_aspect:
                aspect = math.exp(rng.uniform(math.log(self.aspect[0]), math.log(self.aspect[1])))
            high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < high < height and 0 < wide < width:
                top, left = int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1))
                image = image.copy()
                fill = self.mean if self.mode == "const" else rng.standard_normal((high, wide, 3))
                image[top : top + high, left : left + wide] = fill
                return image
        return image


class NormalizeImage:
    """(pixel * scale - mean) / std; `scale` is a number or a fraction such as 1.0/255.0."""

    def __init__(
        self,
        scale: float | str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        order: str = "chw",
        output_fp16: bool = False,
        channel_num: int = 3,
    ) -> None:
        if output_fp16 or channel_num != 3:
            raise ValueError("output_fp16 and channel_num other than 3 are not supported")
        value = 1 / 255 if scale is None else fraction(scale)
        three = [
            tuple(float(v) for v in item) for item in (mean or (0.485, 0.456, 0.406), std or (0.229, 0.224, 0.225))
        ]
        if any(len(item) != 3 for item in three) or 0.0 in three[1]:
            raise ValueError("mean and std need three numbers each, std none of them 0")
        self.values = Normalization(three[0], three[1], value)  # type: ignore[arg-type]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        factor, shift = self.values.affine()
        return image * factor + shift


class Normalize(NormalizeImage):
    """(pixel / 255 - mean) / std, as it follows ToTensor."""

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        data_format: str = "CHW",
        to_rgb: bool = False,
    ) -> None:
        super().__init__(1 / 255, mean, std)


class ToTensor:
    """Stands for the scaling to 0 … 1 that Normalize does, and the change of layout."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


class ToCHWImage:
    """Stands for the change of layout that happens when the batch is made."""

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


def fraction(value: float | str) -> float:
    """A number, or text such as "1.0/255.0"; ValueError otherwise."""
    if not isinstance(value, str):
        return float(value)
    numerator, slash, denominator = value.partition("/")
    return float(numerator) / (float(denominator) if slash else 1.0)


def _at_least(image: np.ndarray, width: int, height: int) -> np.ndarray:
    factor = max(width / image.shape[1], height / image.shape[0])
    if factor <= 1:
        return image
    size = (max(width, round(image.shape[1] * factor)), max(height, round(image.shape[0] * factor)))
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


TRANSFORMS: dict[str, Callable[..., Op]] = {
    made.__name__: made
    for made in (
        *(DecodeImage, ResizeImage, CropImage, RandCropImage, RandCropImageV2, RandFlipImage, Pad, RandomErasing),
        *(RandomRotation, ColorJitter, RandAugment, AugMix, NormalizeImage, Normalize, ToTensor, ToCHWImage),
    )
}


AMPLE = 1.5  # times the side that the network sees: finer detail is lost to resizing, or to a crop's variety


class Transform:
    """A list of operations. `normalize` is what the batch still needs, None when pictures leave as float32.

    `enough` is the short side from which on decoding may leave pixels out, None where it may not.
    """

    def __init__(self, ops: Sequence[Op]) -> None:
        at = next((n for n, op in enumerate(ops) if isinstance(op, NormalizeImage)), len(ops))
        self.before = [op for op in ops[:at] if not isinstance(op, (DecodeImage, ToTensor, ToCHWImage))]
        self.after = [op for op in ops[at + 1 :] if not isinstance(op, ToCHWImage)]
        self.enough = _enough(ops)
        self._normalize = ops[at] if at < len(ops) else None
        self.normalize: Normalization | None = None
        if isinstance(self._normalize, NormalizeImage) and not self.after:
            self.normalize = self._normalize.values

    @property
    def output_size(self) -> tuple[int, int] | None:
        """(height, width) that every picture leaves with, None when it depends on the picture."""
        for op in reversed(self.before):
            if isinstance(op, (ResizeImage, RandCropImage)):
                return None if op.size is None else (op.size[1], op.size[0])
            if isinstance(op, (CropImage, RandCropImageV2)):
                return op.height, op.width
            if isinstance(op, Pad):
                return None
        return None

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for op in self.before:
            image = op(image, rng)
        if self._normalize is None or not self.after:
            return image
        image = self._normalize(image, rng)
        for op in self.after:
            image = op(image, rng)
        return np.ascontiguousarray(image.transpose(2, 0, 1))


def _enough(ops: Sequence[Op]) -> int | None:
    if not any(isinstance(op, DecodeImage) and op.reduced for op in ops):
        return None
    # The first operation that depends on the size decides; others than these count in pixels of the whole picture.
    sizing = (ResizeImage, RandCropImage, RandCropImageV2, CropImage, Pad)
    first = next((op for op in ops if isinstance(op, sizing)), None)
    if isinstance(first, ResizeImage):
        return math.ceil(AMPLE * (first.short or max(first.size or ())))
    return math.ceil(AMPLE * max(first.size)) if isinstance(first, RandCropImage) else None


def build_transforms(ops: Sequence[Component], where: str = "transform_ops") -> Transform:
    """The operations of a config; ConfigError with all that do not fit."""
    made: list[Op] = []
    problems = []
    for number, op in enumerate(ops):
        known = TRANSFORMS.get(op.name)
        try:
            if known is None:
                raise ValueError(f"not one of {', '.join(TRANSFORMS)}")
            made.append(known(**_checked(known, op.args)))
        except (TypeError, ValueError) as error:
            problems.append(f"{where}.{number}.{op.name}: {error}")
    if problems:
        raise ConfigError(f"{where}: {counted(len(problems), 'operation')} cannot be made", details=problems)
    return Transform(made)


def _checked(maker: Callable[..., Op], args: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(args) - set(inspect.signature(maker).parameters))
    if unknown:
        raise ValueError(f"has no argument {', '.join(unknown)}")
    return args
