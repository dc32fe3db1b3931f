"""Random changes of colour and geometry: rotation, jitter, RandAugment, AugMix; uint8 RGB [H, W, 3] in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from shitu_cli.config.parts import transforms as parts

GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601 luma


class RandomRotation:
    """Rotate by up to `degrees` about the centre with probability `prob`.

    The corners are black, or with `padding_mode: reflect` the image mirrored at its border.
    """

    def __init__(self, part: parts.RandomRotation) -> None:
        self.border = cv2.BORDER_REFLECT_101 if part.padding_mode == "reflect" else cv2.BORDER_CONSTANT
        self.prob = part.prob
        degrees = part.degrees if isinstance(part.degrees, tuple) else (-part.degrees, part.degrees)
        self.low, self.high = degrees
        self.method = cv2.INTER_NEAREST if part.interpolation == "nearest" else cv2.INTER_LINEAR

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        height, width = image.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), rng.uniform(self.low, self.high), 1.0)
        return cv2.warpAffine(image, turn, (width, height), flags=self.method, borderMode=self.border)


class ColorJitter:
    """Brightness, contrast, saturation and hue changed by up to the given shares, in random order."""

    def __init__(self, part: parts.ColorJitter) -> None:
        self.prob = part.prob
        changes = [(_brightness, part.brightness), (_contrast, part.contrast), (_color, part.saturation)]
        self.changes: list[tuple[Callable[[np.ndarray, float], np.ndarray], float, float]] = [
            (change, max(0.0, 1 - by), 1 + by) for change, by in changes if by
        ]
        if part.hue:
            self.changes.append((_hue, -part.hue, part.hue))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        for number in rng.permutation(len(self.changes)):
            change, low, high = self.changes[number]
            image = change(image, rng.uniform(low, high))
        return image


def _blend(image: np.ndarray, other: np.ndarray | float, factor: float) -> np.ndarray:
    """Return `other` at factor 0, the image at 1, and an extrapolation above 1."""
    blend = other + (image.astype(np.float32) - other) * np.float32(factor)
    return np.clip(np.rint(blend), 0, 255).astype(np.uint8)


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=factor, beta=0)


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(image, float((image.reshape(-1, 3).mean(0) * GREY).sum()), factor)


def _color(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(image, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None].astype(np.float32), factor)


def _hue(image: np.ndarray, turn: float) -> np.ndarray:
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[:, :, 0] += np.uint8(round(turn * 255) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def _sharpness(image: np.ndarray, factor: float) -> np.ndarray:
    return _blend(image, cv2.blur(image, (3, 3)).astype(np.float32), factor)


def _autocontrast(image: np.ndarray, _: float) -> np.ndarray:
    low = image.min((0, 1)).astype(np.float32)
    span = np.maximum(image.max((0, 1)) - low, 1)
    return np.clip(np.rint((image - low) * (255 / span)), 0, 255).astype(np.uint8)


def _equalize(image: np.ndarray, _: float) -> np.ndarray:
    return np.stack([cv2.equalizeHist(np.ascontiguousarray(image[:, :, c])) for c in range(3)], axis=2)


def _posterize(image: np.ndarray, bits: float) -> np.ndarray:
    return image & np.uint8(256 - (1 << (8 - int(np.clip(round(bits), 1, 8)))))


def _solarize(image: np.ndarray, threshold: float) -> np.ndarray:
    return np.where(image < threshold, image, 255 - image)


def _invert(image: np.ndarray, _: float) -> np.ndarray:
    return 255 - image


def _affine(image: np.ndarray, matrix: Sequence[Sequence[float]], fill: Sequence[int]) -> np.ndarray:
    height, width = image.shape[:2]
    return cv2.warpAffine(image, np.asarray(matrix, np.float32), (width, height), borderValue=tuple(fill))


class RandAugment:
    """`num_layers` of fourteen changes at `magnitude` of 10 (Cubuk et al. 2019, arXiv:1909.13719)."""

    def __init__(self, part: parts.RandAugment) -> None:
        self.layers, self.level, self.fill = part.num_layers, part.magnitude / 10, part.fillcolor

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        for number in rng.integers(0, len(CHANGES), self.layers):
            image = apply_change(int(number), image, self.level, rng, self.fill)
        return image


def apply_change(
    number: int, image: np.ndarray, level: float, rng: np.random.Generator, fill: Sequence[int] = (128, 128, 128)
) -> np.ndarray:
    """Apply change `number` of CHANGES at `level` 0 to 1, in a random direction."""
    sign = 1.0 if rng.random() < 0.5 else -1.0
    return CHANGES[number](image, level, sign, fill)


_Change = Callable[[np.ndarray, float, float, Sequence[int]], np.ndarray]
CHANGES: list[_Change] = [
    lambda image, level, sign, fill: _affine(image, [[1, sign * 0.3 * level, 0], [0, 1, 0]], fill),
    lambda image, level, sign, fill: _affine(image, [[1, 0, 0], [sign * 0.3 * level, 1, 0]], fill),
    lambda image, level, sign, fill: _affine(image, [[1, 0, sign * level * image.shape[1] * 0.33], [0, 1, 0]], fill),
    lambda image, level, sign, fill: _affine(image, [[1, 0, 0], [0, 1, sign * level * image.shape[0] * 0.33]], fill),
    lambda image, level, sign, fill: _affine(
        image, cv2.getRotationMatrix2D((image.shape[1] / 2, image.shape[0] / 2), sign * 30 * level, 1.0).tolist(), fill
    ),
    lambda image, level, sign, fill: _color(image, 1 + sign * 0.9 * level),
    lambda image, level, sign, fill: _contrast(image, 1 + sign * 0.9 * level),
    lambda image, level, sign, fill: _brightness(image, 1 + sign * 0.9 * level),
    lambda image, level, sign, fill: _sharpness(image, 1 + sign * 0.9 * level),
    lambda image, level, sign, fill: _posterize(image, 8 - 4 * level),
    lambda image, level, sign, fill: _solarize(image, 256 * (1 - level)),
    lambda image, level, sign, fill: _autocontrast(image, 0),
    lambda image, level, sign, fill: _equalize(image, 0),
    lambda image, level, sign, fill: _invert(image, 0),
]
MIXABLE = (0, 1, 2, 3, 4, 9, 10, 11, 12)  # AugMix leaves out what its test corruptions contain


class AugMix:
    """A random mixture of chains of changes with the image (Hendrycks et al. 2019, arXiv:1912.02781)."""

    def __init__(self, part: parts.AugMix) -> None:
        self.prob, self.coeff, self.severity = part.prob, part.aug_prob_coeff, part.aug_severity
        self.width, self.depth = part.mixture_width, part.mixture_depth

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= self.prob:
            return image
        shares = rng.dirichlet([max(self.coeff, 1e-3)] * self.width).astype(np.float32)
        keep = np.float32(rng.beta(max(self.coeff, 1e-3), max(self.coeff, 1e-3)))
        mixture = np.zeros(image.shape, np.float32)
        for share in shares:
            chain = image
            depth = self.depth if self.depth > 0 else int(rng.integers(1, 4))
            for number in rng.choice(MIXABLE, depth):
                chain = apply_change(int(number), chain, rng.uniform(0.1, max(0.11, self.severity / 10)), rng)
            mixture += share * chain
        return np.clip(np.rint(keep * image + (1 - keep) * mixture), 0, 255).astype(np.uint8)
