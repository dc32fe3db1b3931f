"""Random changes of colour and geometry with OpenCV: rotation and jitter; uint8 RGB [H, W, 3] in and out."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from shitu_cli.config.parts import augmentations as parts

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
        methods = {"nearest": cv2.INTER_NEAREST, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
        self.method = methods[part.interpolation]

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
