"""What random changes draw, and how strong that makes them: with scripted draws, against PaddleClas's arithmetic."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from paddle.vision.transforms import functional_pil as paddles
from PIL import Image

from tests.parts import operation

NOISE = np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8)
SMOOTH = cv2.resize(np.random.default_rng(7).integers(0, 256, (6, 6, 3)).astype(np.uint8), (48, 40))


class Shares:
    """A generator whose draws lie at these shares of the way from the lower to the upper bound, one after the other."""

    def __init__(self, *shares: float) -> None:
        self.shares: Iterator[float] = iter(shares)

    def random(self) -> float:
        return next(self.shares)

    def uniform(self, low: float, high: float) -> float:
        return low + next(self.shares) * (high - low)

    def integers(self, low: int, high: int) -> int:
        return low + int(next(self.shares) * (high - low))

    def permutation(self, count: int) -> np.ndarray:
        return np.arange(count)


def changed(name: str, image: np.ndarray, shares: Sequence[float], **args: Any) -> np.ndarray:
    return operation(name, args).build()(image, Shares(*shares))


def cropped(
    image: np.ndarray, shares: Sequence[float], scale: tuple[float, float], ratio: tuple[float, float]
) -> np.ndarray:
    """A part whose width / height and share of the area are drawn, then its place; to 24 x 16 pixels."""
    height, width = image.shape[:2]
    aspect = math.sqrt(ratio[0] + shares[0] * (ratio[1] - ratio[0]))
    largest = min(width / height / aspect**2, height / width * aspect**2)
    low, high = (min(bound, largest) for bound in scale)
    side = math.sqrt(width * height * (low + shares[1] * (high - low)))
    wide, tall = int(side * aspect), int(side / aspect)
    left, top = int(shares[2] * (width - wide + 1)), int(shares[3] * (height - tall + 1))
    return cv2.resize(image[top : top + tall, left : left + wide], (24, 16), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("args", "scale", "ratio"),
    [
        ({}, (0.08, 1.0), (3 / 4, 4 / 3)),
        ({"scale": [0.2, 0.5], "ratio": [0.5, 2.0]}, (0.2, 0.5), (0.5, 2.0)),
        ({"scale": None, "ratio": None}, (0.08, 1.0), (3 / 4, 4 / 3)),
    ],
)
def test_the_part_that_is_cut_out(args: dict[str, Any], scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    for image in (NOISE, NOISE[:, :25], NOISE[:9]):
        for shares in itertools.product((0.0, 0.4, 0.999), repeat=4):
            part = changed("RandCropImage", image, shares, size=[24, 16], **args)
            np.testing.assert_array_equal(part, cropped(image, shares, scale, ratio), err_msg=str(shares))


def test_the_place_of_a_part_of_exact_size() -> None:
    for down, right in itertools.product((0.0, 0.4, 0.999), repeat=2):
        top, left = int(down * 17), int(right * 49)
        part = changed("RandCropImageV2", NOISE, [down, right], size=[12, 24])
        np.testing.assert_array_equal(part, NOISE[top : top + 24, left : left + 12])


@pytest.mark.parametrize(
    ("degrees", "share", "angle"),
    [(90, 0.0, -90), (90, 0.5, 0), (90, 0.999999, 90), ([90, 180], 0.0, 90), ([0, 180], 0.5, 90)],
)
def test_the_angle_of_a_turn(degrees: float | list[float], share: float, angle: int) -> None:
    """Up to `degrees` either way, against the clock where they are above 0."""
    square = NOISE[:, :40]
    turned = changed("RandomRotation", square, [0.49, share], degrees=degrees, interpolation="nearest")
    np.testing.assert_array_equal(turned, np.rot90(square, angle // 90))
    np.testing.assert_array_equal(changed("RandomRotation", square, [0.5], degrees=degrees), square)  # prob is 0.5


@pytest.mark.parametrize(("interpolation", "method"), [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")])
def test_a_turn_is_that_of_pillow(interpolation: str, method: str) -> None:
    inside = (slice(10, 30), slice(12, 36))  # away from the corners that turn in
    for share, angle in ((0.0, -30), (0.75, 15), (1.0, 30)):
        args = {"prob": 0.3, "degrees": 30, "interpolation": interpolation}
        turned = changed("RandomRotation", SMOOTH, [0.29, share], **args)
        expected = np.asarray(Image.fromarray(SMOOTH).rotate(angle, Image.Resampling[method]))
        assert np.abs(turned[inside].astype(int) - expected[inside]).max() <= 3, angle


@pytest.mark.parametrize(
    ("key", "adjust", "apart"),
    [
        ("brightness", paddles.adjust_brightness, 0.6),
        ("contrast", paddles.adjust_contrast, 0.6),
        ("saturation", paddles.adjust_saturation, 0.6),
        ("hue", paddles.adjust_hue, 0.9),  # Pillow rounds hues otherwise
    ],
)
def test_how_far_colours_change(key: str, adjust: Callable[[Image.Image, float], Image.Image], apart: float) -> None:
    """From 1 - x to 1 + x, hues from -x to x, as paddle.vision's ColorJitter, which is PaddleClas's."""
    middle = 0.0 if key == "hue" else 1.0
    for strength, share in itertools.product((0.15, 0.4), (0.0, 0.25, 1.0)):
        out = changed("ColorJitter", SMOOTH, [0.99, share], **{key: strength})
        expected = np.asarray(adjust(Image.fromarray(SMOOTH), middle + (2 * share - 1) * strength))
        assert np.abs(out.astype(int) - expected).mean() < apart, (strength, share)
    np.testing.assert_array_equal(changed("ColorJitter", SMOOTH, [0.2], prob=0.2, **{key: 0.4}), SMOOTH)


def test_a_strength_above_one_reaches_black_not_beyond() -> None:
    assert not changed("ColorJitter", SMOOTH, [0.0, 0.0], brightness=1.5).any()
    twice = np.minimum(SMOOTH * 2.5, 255)
    assert np.abs(changed("ColorJitter", SMOOTH, [0.0, 1.0], brightness=1.5) - twice).max() <= 1


def test_colours_change_in_the_order_that_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    strengths = {"brightness": 0.15, "contrast": 0.15, "saturation": 0.1, "hue": 0.1}
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        expected = SMOOTH
        for number in order:
            key = [*strengths][number]
            expected = changed("ColorJitter", expected, [0.0, 1.0], **{key: strengths[key]})
        with monkeypatch.context() as patch:
            patch.setattr(Shares, "permutation", lambda draws, count, order=order: np.array(order))
            np.testing.assert_array_equal(changed("ColorJitter", SMOOTH, [0.0, *[1.0] * 4], **strengths), expected)
