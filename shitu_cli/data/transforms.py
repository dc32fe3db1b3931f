"""PaddleClas's image operations by name, on numpy and OpenCV, with the random generator passed in for reproducibility.

Images stay uint8 RGB [H, W, 3]; NormalizeImage is taken out of the list and applied to whole batches. Only if other
operations follow it, the image is normalised at once and returned as float32 [3, H, W].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from shitu_cli import MAX_PIXELS
from shitu_cli.config.parts import transforms as parts
from shitu_cli.errors import DataError

if TYPE_CHECKING:
    from shitu_cli.config.parts import augmentations

Op = Callable[[np.ndarray, "np.random.Generator"], np.ndarray]
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
        """Return the factor by which a pixel is multiplied and the shift that is added, float32 [3] each."""
        std = np.asarray(self.std, np.float64)
        return (self.scale / std).astype(np.float32), (-np.asarray(self.mean) / std).astype(np.float32)


def sides(size: int | tuple[int, ...]) -> tuple[int, int]:
    """Return both sides in pixels, in the order of the config; one number is a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def check_size(image: np.ndarray, width: int, height: int) -> None:
    """Raise DataError for an image that would become too large: of a long and thin one, the short side alone fits."""
    if width * height > MAX_PIXELS:
        high, wide = image.shape[:2]
        raise DataError(
            f"{wide:,} x {high:,} pixels would become {width:,} x {height:,} (at most {MAX_PIXELS:,} pixels)",
            hint="crop it to the object, or leave it out",
        )


def resize(image: np.ndarray, width: int, height: int, interpolation: str | None, backend: str = "cv2") -> np.ndarray:
    """Return the resized image, by OpenCV or by Pillow, whose default is bicubic."""
    check_size(image, width, height)
    if backend == "pil":
        return pil_resize(image, width, height, interpolation or "bicubic")
    return cv2.resize(image, (width, height), interpolation=INTERPOLATION[interpolation or "bilinear"])


def pil_resize(image: np.ndarray, width: int, height: int, interpolation: str) -> np.ndarray:
    """Return the image resized by Pillow, which averages over all pixels that a smaller one covers."""
    check_size(image, width, height)
    from PIL import Image  # a search whose config does not name it should not wait for it

    method = Image.Resampling[interpolation.upper()]
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((width, height), method)
    return np.array(resized)


class DecodeImage:
    """Does nothing, as the loader has decoded the image.

    `reduced` lets the loader decode JPEGs that are much larger than needed at a fraction of their size.
    """

    def __init__(self, part: parts.DecodeImage) -> None:
        self.reduced = part.reduced

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


class ResizeImage:
    """Resizes to `size` (side, or [width, height]), or the short side to `resize_short`, keeping the aspect ratio."""

    def __init__(self, part: parts.ResizeImage) -> None:
        self.size = None if part.size is None else sides(part.size)
        self.short, self.interpolation, self.backend = part.resize_short, part.interpolation, part.backend

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.size is not None:
            return resize(image, *self.size, self.interpolation, self.backend)
        assert self.short is not None
        height, width = image.shape[:2]
        factor = self.short / min(width, height)
        return resize(image, round(width * factor), round(height * factor), self.interpolation, self.backend)


class CropImage:
    """Cuts out the centre, `size` as side or [width, height]; smaller images are enlarged first."""

    def __init__(self, part: parts.CropImage) -> None:
        self.width, self.height = sides(part.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = _at_least(image, self.width, self.height)
        top, left = (image.shape[0] - self.height) // 2, (image.shape[1] - self.width) // 2
        return image[top : top + self.height, left : left + self.width]


class RandCropImage:
    """Cuts out a random part (Szegedy et al. 2015) of `scale` of the area and `ratio` of width to height."""

    def __init__(self, part: augmentations.RandCropImage) -> None:
        self.size = sides(part.size)
        self.scale_low, self.scale_high = part.scale or (0.08, 1.0)
        self.ratio_low, self.ratio_high = part.ratio or (3 / 4, 4 / 3)
        self.interpolation, self.backend = part.interpolation, part.backend

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        aspect = math.sqrt(rng.uniform(self.ratio_low, self.ratio_high))
        # The area is bounded by the largest part of this aspect ratio that fits into the image.
        bound = min(width / height / aspect**2, height / width * aspect**2)
        area = width * height * rng.uniform(min(self.scale_low, bound), min(self.scale_high, bound))
        wide = min(width, max(1, int(math.sqrt(area) * aspect)))
        high = min(height, max(1, int(math.sqrt(area) / aspect)))
        left, top = int(rng.integers(0, width - wide + 1)), int(rng.integers(0, height - high + 1))
        part = image[top : top + high, left : left + wide]
        return resize(part, *self.size, self.interpolation, self.backend)


class RandCropImageV2:
    """Cuts out a random part of exactly `size`; smaller images are enlarged first."""

    def __init__(self, part: augmentations.RandCropImageV2) -> None:
        self.width, self.height = sides(part.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        image = _at_least(image, self.width, self.height)
        top = int(rng.integers(0, image.shape[0] - self.height + 1))
        left = int(rng.integers(0, image.shape[1] - self.width + 1))
        return image[top : top + self.height, left : left + self.width]


class RandFlipImage:
    """Mirrors an image with probability 0.5: 1 left and right, 0 top and bottom, -1 both."""

    def __init__(self, part: augmentations.RandFlipImage) -> None:
        self.code = part.flip_code

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return cv2.flip(image, self.code) if rng.random() < 0.5 else image


class Pad:
    """Adds a border of `padding` pixels on all sides ([left, top, right, bottom] or [horizontal, vertical] too)."""

    def __init__(self, part: parts.Pad) -> None:
        modes = {"constant": cv2.BORDER_CONSTANT, "edge": cv2.BORDER_REPLICATE}
        modes |= {"reflect": cv2.BORDER_REFLECT_101, "symmetric": cv2.BORDER_REFLECT}
        sides = (part.padding,) * 4 if isinstance(part.padding, int) else part.padding
        self.left, self.top, self.right, self.bottom = sides * 2 if len(sides) == 2 else sides
        self.mode = modes[part.padding_mode]
        self.fill = part.fill if isinstance(part.fill, tuple) else (part.fill,) * 3

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        check_size(image, self.left + image.shape[1] + self.right, self.top + image.shape[0] + self.bottom)
        return cv2.copyMakeBorder(image, self.top, self.bottom, self.left, self.right, self.mode, value=self.fill)


class RandomErasing:
    """Overwrites a random rectangle with `mean` or noise with probability EPSILON (Zhong 2017, arXiv:1708.04896)."""

    def __init__(self, part: augmentations.RandomErasing) -> None:
        self.chance, self.area, self.attempts = part.EPSILON, (part.sl, part.sh), part.attempt
        self.aspect = (part.r1, 1 / part.r1)
        self.mean, self.log_aspect, self.mode = np.asarray(part.mean, np.float32), part.use_log_aspect, part.mode

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the image [H, W, 3], or a changed copy."""
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
                noise = (1, 1, 3) if self.mode == "rand" else (high, wide, 3)
                fill = self.mean if self.mode == "const" else rng.standard_normal(noise)
                image[top : top + high, left : left + wide] = fill
                return image
        return image


class NormalizeImage:
    """Computes (pixel * scale - mean) / std; Normalize is the same with the scale of ToTensor."""

    def __init__(self, part: parts.NormalizeImage | parts.Normalize) -> None:
        scale = part.scale if isinstance(part, parts.NormalizeImage) else None
        mean, std = part.mean or parts.IMAGENET_MEAN, part.std or parts.IMAGENET_STD
        self.values = Normalization(
            (mean[0], mean[1], mean[2]), (std[0], std[1], std[2]), 1 / 255 if scale is None else scale
        )

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        factor, shift = self.values.affine()
        return image * factor + shift


class Unchanged:
    """Does nothing: Normalize does the scaling of ToTensor, and the batch the layout of ToCHWImage."""

    def __init__(self, part: parts.Transform) -> None:
        pass

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return image


def _at_least(image: np.ndarray, width: int, height: int) -> np.ndarray:
    factor = max(width / image.shape[1], height / image.shape[0])
    if factor <= 1:
        return image
    return resize(image, max(width, round(image.shape[1] * factor)), max(height, round(image.shape[0] * factor)), None)


AMPLE = 1.5  # times the side of the network's input: resizing or random crops lose finer detail anyway


class Transform:
    """A list of operations. `normalize` remains to be applied to the batch, None if images come out as float32.

    `enough` is the short side that decoding must reach at least, None if it must decode all pixels.
    """

    def __init__(self, ops: Sequence[Op]) -> None:
        at = next((n for n, op in enumerate(ops) if isinstance(op, NormalizeImage)), len(ops))
        self.before = [op for op in ops[:at] if not isinstance(op, (DecodeImage, Unchanged))]
        self.after = [op for op in ops[at + 1 :] if not isinstance(op, Unchanged)]
        self.enough = _enough(ops)
        self._normalize = ops[at] if at < len(ops) else None
        self.normalize: Normalization | None = None
        if isinstance(self._normalize, NormalizeImage) and not self.after:
            self.normalize = self._normalize.values

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
    # The first operation that depends on the size decides; all but these count in pixels of the whole image.
    sizing = (ResizeImage, RandCropImage, RandCropImageV2, CropImage, Pad)
    first = next((op for op in ops if isinstance(op, sizing) or hasattr(op, "fixed_size")), None)
    if isinstance(first, ResizeImage):
        return math.ceil(AMPLE * (first.short or max(first.size or ())))
    return math.ceil(AMPLE * max(first.size)) if isinstance(first, RandCropImage) else None


def build_transforms(ops: Sequence[parts.Transform]) -> Transform:
    """Return the transform of a config's operations."""
    return Transform([op.build() for op in ops])
