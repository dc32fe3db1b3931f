"""Policies of random changes, with Pillow: RandAugment, AugMix and timm's RandAugment; uint8 RGB [H, W, 3] in and out.

Strengths are those of PaddleClas (AugMix: of the authors' program; TimmAutoAugment: of timm), value by value.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from shitu_cli.config.parts import augmentations as parts

Random = np.random.Generator
Colour = tuple[int, int, int]
BILINEAR, BICUBIC, NEAREST = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.NEAREST
BLACK: Colour = (0, 0, 0)


def _signed(value: float, rng: Random) -> float:
    return value if rng.random() < 0.5 else -value


def _image(array: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(array))


def _array(image: Image.Image) -> np.ndarray:
    return np.array(image, np.uint8)  # a copy: Pillow's own memory is read-only


def _affine(image: Image.Image, matrix: tuple[float, ...], fill: Colour, method: Image.Resampling) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, method, fillcolor=fill)


def _shear(image: Image.Image, x: float, y: float, fill: Colour, method: Image.Resampling) -> Image.Image:
    return _affine(image, (1, x, 0, y, 1, 0), fill, method)


def _move(image: Image.Image, x: float, y: float, fill: Colour, method: Image.Resampling) -> Image.Image:
    return _affine(image, (1, 0, x, 0, 1, y), fill, method)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """Keep the first `bits` of each value; none at all leaves black."""
    return image if bits >= 8 else ImageOps.posterize(image, bits)


def _solarize_add(image: Image.Image, add: int) -> Image.Image:
    """Brighten the dark half of the values."""
    return image.point([min(255, value + add) if value < 128 else value for value in range(256)] * 3)


# ---------------------------------------------------------------------------------------------- RandAugment


class RandAugment:
    """`num_layers` of fourteen changes, each at `magnitude` of 10 (Cubuk et al. 2019, arXiv:1909.13719)."""

    def __init__(self, part: parts.RandAugment) -> None:
        self.layers, self.level = part.num_layers, part.magnitude / 10
        red, green, blue = part.fillcolor
        self.fill = (red, green, blue)

    def __call__(self, image: np.ndarray, rng: Random) -> np.ndarray:
        changed = _image(image)
        for number in rng.integers(0, len(RAND_CHANGES), self.layers):
            changed = RAND_CHANGES[number](changed, self.level, self.fill, rng)
        return _array(changed)


_MOVED = 150 / 331  # share of the side at full strength
RandChange = Callable[[Image.Image, float, Colour, Random], Image.Image]
RAND_CHANGES: tuple[RandChange, ...] = (
    lambda image, level, fill, rng: _shear(image, _signed(0.3 * level, rng), 0, fill, BICUBIC),
    lambda image, level, fill, rng: _shear(image, 0, _signed(0.3 * level, rng), fill, BICUBIC),
    lambda image, level, fill, rng: _move(image, _signed(_MOVED * level * image.width, rng), 0, fill, NEAREST),
    lambda image, level, fill, rng: _move(image, 0, _signed(_MOVED * level * image.height, rng), fill, NEAREST),
    lambda image, level, fill, rng: image.rotate(30 * level, fillcolor=(128, 128, 128)),  # always the same way
    lambda image, level, fill, rng: ImageEnhance.Color(image).enhance(1 + _signed(0.9 * level, rng)),
    lambda image, level, fill, rng: _posterize(image, int(4 * level)),
    lambda image, level, fill, rng: ImageOps.solarize(image, math.ceil(256 * level)),
    lambda image, level, fill, rng: ImageEnhance.Contrast(image).enhance(1 + _signed(0.9 * level, rng)),
    lambda image, level, fill, rng: ImageEnhance.Sharpness(image).enhance(1 + _signed(0.9 * level, rng)),
    lambda image, level, fill, rng: ImageEnhance.Brightness(image).enhance(1 + _signed(0.9 * level, rng)),
    lambda image, level, fill, rng: ImageOps.autocontrast(image),
    lambda image, level, fill, rng: ImageOps.equalize(image),
    lambda image, level, fill, rng: ImageOps.invert(image),
)


# ---------------------------------------------------------------------------------------------- AugMix


class AugMix:
    """A random mixture of chains of changes with the image (Hendrycks et al. 2019, arXiv:1912.02781)."""

    def __init__(self, part: parts.AugMix) -> None:
        self.prob, self.coeff, self.severity = part.prob, part.aug_prob_coeff, part.aug_severity
        self.width, self.depth = part.mixture_width, part.mixture_depth

    def __call__(self, image: np.ndarray, rng: Random) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        shares = rng.dirichlet([self.coeff] * self.width).astype(np.float32)
        mixed = np.float32(rng.beta(self.coeff, self.coeff))
        mixture = np.zeros(image.shape, np.float32)
        for share in shares:
            chain = _image(image)
            depth = self.depth if self.depth > 0 else int(rng.integers(1, 4))
            for number in rng.integers(0, len(MIX_CHANGES), depth):
                # Drawn between 0.1 and the severity, whichever is larger.
                level = rng.uniform(min(0.1, self.severity), max(0.1, self.severity)) / 10
                chain = MIX_CHANGES[number](chain, level, rng)
            mixture += share * np.asarray(chain, np.float32)
        return ((1 - mixed) * image + mixed * mixture).astype(np.uint8)


MixChange = Callable[[Image.Image, float, Random], Image.Image]
# All that the corruptions of ImageNet-C do not contain; `level` is from 0 to 1.
MIX_CHANGES: tuple[MixChange, ...] = (
    lambda image, level, rng: ImageOps.autocontrast(image),
    lambda image, level, rng: ImageOps.equalize(image),
    lambda image, level, rng: _posterize(image, 4 - int(4 * level)),
    lambda image, level, rng: image.rotate(_signed(int(30 * level), rng), resample=BILINEAR),
    lambda image, level, rng: ImageOps.solarize(image, 256 - int(256 * level)),
    lambda image, level, rng: _shear(image, _signed(0.3 * level, rng), 0, BLACK, BILINEAR),
    lambda image, level, rng: _shear(image, 0, _signed(0.3 * level, rng), BLACK, BILINEAR),
    lambda image, level, rng: _move(image, _signed(int(level * image.width / 3), rng), 0, BLACK, BILINEAR),
    lambda image, level, rng: _move(image, 0, _signed(int(level * image.height / 3), rng), BLACK, BILINEAR),
)


# ---------------------------------------------------------------------------------------------- TimmAutoAugment


class TimmAutoAugment:
    """`n` of fifteen changes of timm, each with probability 0.5 and a strength around `m` of 10."""

    def __init__(self, part: parts.TimmAutoAugment) -> None:
        settings = parts.timm_settings(part.config_str)
        self.prob, self.layers = part.prob, int(settings["n"])
        self.strength, self.spread, self.increasing = settings["m"], settings["mstd"], bool(settings["inc"])
        red, green, blue = (min(255, round(255 * value)) for value in part.mean)
        self.fill = (red, green, blue)
        self.methods = {"bilinear": (BILINEAR,), "bicubic": (BICUBIC,), "random": (BILINEAR, BICUBIC)}[
            part.interpolation
        ]

    def __call__(self, image: np.ndarray, rng: Random) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        changed = _image(image)
        for number in rng.integers(0, len(TIMM_CHANGES), self.layers):
            if rng.random() < 0.5:
                level = self.strength + (rng.normal(0, self.spread) if self.spread else 0)
                level = min(10.0, max(0.0, level)) / 10
                method = self.methods[int(rng.integers(len(self.methods)))]
                changed = TIMM_CHANGES[number](changed, level, self, method, rng)
        return _array(changed)

    def factor(self, level: float, rng: Random) -> float:
        """Return by how much a colour is enhanced: 1 changes nothing."""
        return 1 + _signed(0.9 * level, rng) if self.increasing else 0.1 + 1.8 * level

    def bits(self, level: float) -> int:
        """Return how many bits of a value posterising keeps."""
        return 4 - int(4 * level) if self.increasing else int(4 * level)

    def threshold(self, level: float) -> int:
        """Return the value from which solarising inverts."""
        return 256 - int(256 * level) if self.increasing else int(256 * level)


TimmChange = Callable[[Image.Image, float, TimmAutoAugment, Image.Resampling, Random], Image.Image]
TIMM_CHANGES: tuple[TimmChange, ...] = (
    lambda image, level, policy, method, rng: ImageOps.autocontrast(image),
    lambda image, level, policy, method, rng: ImageOps.equalize(image),
    lambda image, level, policy, method, rng: ImageOps.invert(image),
    lambda image, level, policy, method, rng: image.rotate(_signed(30 * level, rng), method, fillcolor=policy.fill),
    lambda image, level, policy, method, rng: _posterize(image, policy.bits(level)),
    lambda image, level, policy, method, rng: ImageOps.solarize(image, policy.threshold(level)),
    lambda image, level, policy, method, rng: _solarize_add(image, int(110 * level)),
    lambda image, level, policy, method, rng: ImageEnhance.Color(image).enhance(policy.factor(level, rng)),
    lambda image, level, policy, method, rng: ImageEnhance.Contrast(image).enhance(policy.factor(level, rng)),
    lambda image, level, policy, method, rng: ImageEnhance.Brightness(image).enhance(policy.factor(level, rng)),
    lambda image, level, policy, method, rng: ImageEnhance.Sharpness(image).enhance(policy.factor(level, rng)),
    lambda image, level, policy, method, rng: _shear(image, _signed(0.3 * level, rng), 0, policy.fill, method),
    lambda image, level, policy, method, rng: _shear(image, 0, _signed(0.3 * level, rng), policy.fill, method),
    lambda image, level, policy, method, rng: _move(
        image, _signed(0.45 * level * image.width, rng), 0, policy.fill, method
    ),
    lambda image, level, policy, method, rng: _move(
        image, 0, _signed(0.45 * level * image.height, rng), policy.fill, method
    ),
)
