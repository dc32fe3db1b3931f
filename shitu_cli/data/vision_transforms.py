"""The operations of paddle.vision.transforms that PaddleClas's configs name, with Pillow's arithmetic.

Sizes are height and width, unlike those of PaddleClas's own operations. `fixed_size` is the (height, width) of
every output, None if it depends on the image.
"""

from __future__ import annotations

import math

import numpy as np

from shitu_cli.config.parts import augmentations
from shitu_cli.config.parts import transforms as parts
from shitu_cli.data.transforms import pil_resize, sides

ATTEMPTS = 10  # to find a part that fits into the image


class Resize:
    """Resizes the shorter side to a number, keeping the aspect ratio, or the image to height and width."""

    def __init__(self, part: parts.Resize) -> None:
        self.short = part.size if isinstance(part.size, int) else None
        self.fixed_size = None if self.short is not None else sides(part.size)
        self.interpolation = part.interpolation

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = image.shape[:2]
        if self.fixed_size is not None:
            return pil_resize(image, self.fixed_size[1], self.fixed_size[0], self.interpolation)
        assert self.short is not None
        if min(height, width) == self.short:
            return image
        # The longer side is cut off, not rounded.
        wide, high = (self.short, int(self.short * height / width)) if width < height else (0, self.short)
        wide = wide or int(self.short * width / height)
        return pil_resize(image, wide, high, self.interpolation)


class CenterCrop:
    """Cuts out the centre; a smaller image gets a black border, as Pillow crops."""

    def __init__(self, part: parts.CenterCrop) -> None:
        self.fixed_size = sides(part.size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        high, wide = self.fixed_size
        top, left = round((image.shape[0] - high) / 2), round((image.shape[1] - wide) / 2)
        if top >= 0 and left >= 0:
            return image[top : top + high, left : left + wide]
        black = np.zeros((high, wide, 3), image.dtype)
        part = image[max(top, 0) : top + high, max(left, 0) : left + wide]
        y, x = max(-top, 0), max(-left, 0)
        black[y : y + part.shape[0], x : x + part.shape[1]] = part
        return black


class RandomResizedCrop:
    """Cuts out a random part and resizes it; the middle of the image if ten tries do not fit."""

    def __init__(self, part: augmentations.RandomResizedCrop) -> None:
        self.fixed_size = sides(part.size)
        self.scale, self.ratio, self.interpolation = part.scale, part.ratio, part.interpolation

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        top, left, high, wide = self._part(image.shape[0], image.shape[1], rng)
        part = image[top : top + high, left : left + wide]
        return pil_resize(part, self.fixed_size[1], self.fixed_size[0], self.interpolation)

    def _part(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Return top, left, height and width of the part."""
        low, high_ratio = self.ratio
        for _ in range(ATTEMPTS):
            area = height * width * rng.uniform(self.scale[0], self.scale[1])
            aspect = math.exp(rng.uniform(math.log(low), math.log(high_ratio)))
            wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < wide <= width and 0 < high <= height:
                return int(rng.integers(0, height - high + 1)), int(rng.integers(0, width - wide + 1)), high, wide
        wide, high = width, height
        if width / height < low:
            high = round(width / low)
        elif width / height > high_ratio:
            wide = round(height * high_ratio)
        return (height - high) // 2, (width - wide) // 2, high, wide


class RandomHorizontalFlip:
    """Mirrors left and right with probability `prob`."""

    def __init__(self, part: augmentations.RandomHorizontalFlip) -> None:
        self.prob = part.prob

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.ascontiguousarray(image[:, ::-1]) if rng.random() < self.prob else image
