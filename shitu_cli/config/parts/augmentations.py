"""Augmentations: random changes of training images, in the order of the list of transforms."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from shitu_cli.config.kinds import FRACTION, LOW_HIGH, PAIR, Length, Portion, Positive, Range, Rate, Share
from shitu_cli.config.parts.transforms import (
    FILE,
    MOST,
    VISION,
    Backend,
    Color,
    Interpolation,
    Side,
    Size,
    Transform,
    backend_problems,
)

AUGMENT, POLICIES = "shitu_cli.data.augment", "shitu_cli.data.policies"
Chance = Annotated[Share, "probability that it is applied"]
Tries = Annotated[int, Range(1, 1000)]


@dataclass(frozen=True)
class RandCropImage(Transform, built_by=FILE):
    """A random part of the image, resized (arXiv:1409.4842)."""

    size: Size
    scale: Annotated[tuple[Portion, ...] | None, LOW_HIGH, "smallest and largest share of the area"] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, ...] | None, LOW_HIGH, "smallest and largest width / height"] = (3 / 4, 4 / 3)
    interpolation: Interpolation = None
    backend: Backend = "cv2"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from backend_problems(self.backend, self.interpolation)


@dataclass(frozen=True)
class RandCropImageV2(Transform, built_by=FILE):
    """A random part of exactly this size; smaller images are enlarged first."""

    size: Size


@dataclass(frozen=True)
class RandFlipImage(Transform, built_by=FILE):
    """Mirrors every second image."""

    flip_code: Annotated[Literal[1, 0, -1], "1: left and right, 0: top and bottom, -1: both"] = 1


@dataclass(frozen=True)
class RandomErasing(Transform, built_by=FILE):
    """Paints over a random rectangle (arXiv:1708.04896)."""

    EPSILON: Annotated[Chance, FRACTION] = 0.5
    sl: Annotated[Portion, FRACTION, "smallest share of the area"] = 0.02
    sh: Annotated[Portion, FRACTION, "largest share of the area"] = 0.4
    r1: Annotated[Portion, FRACTION, "smallest height / width; the largest is 1 / r1"] = 0.3
    mean: Color = (0.0, 0.0, 0.0)
    attempt: Annotated[Tries, "tries to find a rectangle that fits"] = 100
    use_log_aspect: Annotated[bool, "whether flat and tall rectangles are equally likely"] = False
    mode: Annotated[Literal["const", "rand", "pixel"], "paint with mean, with one random colour, or with noise"] = (
        "const"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.sl > self.sh:
            yield "sl", f"got {self.sl:g}, expected at most sh, which is {self.sh:g}"


@dataclass(frozen=True)
class RandomRotation(Transform, built_by=AUGMENT):
    """Turns the image about its middle."""

    prob: Chance = 0.5
    degrees: Annotated[
        float | tuple[float, ...], LOW_HIGH, "largest angle either way, or the smallest and the largest"
    ] = 90.0
    interpolation: Annotated[Literal["nearest", "bilinear", "bicubic"], "how pixels are computed"] = "bilinear"
    padding_mode: Annotated[Literal["constant", "reflect"], "what fills the corners: black, or the mirrored image"] = (
        "constant"
    )


@dataclass(frozen=True)
class ColorJitter(Transform, built_by=AUGMENT):
    """Changes colours at random, in random order."""

    prob: Chance = 1.0
    brightness: Annotated[Rate, "largest share of brightness changed"] = 0.0
    contrast: Annotated[Rate, "largest share of contrast changed"] = 0.0
    saturation: Annotated[Rate, "largest share of saturation changed"] = 0.0
    hue: Annotated[float, Range(0, 0.5), "largest turn of the hue"] = 0.0


@dataclass(frozen=True)
class RandAugment(Transform, built_by=POLICIES):
    """Several random changes of colour and form (arXiv:1909.13719)."""

    num_layers: Annotated[Tries, "changes of each image"] = 2
    magnitude: Annotated[float, Range(0, 10), "how strong they are"] = 5.0
    fillcolor: Annotated[tuple[int, ...], Range(0, 255), Length(3), "colour of new areas"] = (128, 128, 128)


@dataclass(frozen=True)
class TimmAutoAugment(Transform, built_by=POLICIES):
    """Random changes by timm's short text (arXiv:1909.13719), such as `rand-m9-mstd0.5-inc1`."""

    prob: Chance = 1.0
    config_str: Annotated[
        str, "rand, then -m strength, -n changes, -mstd spread of the strength, -inc1: stronger means more"
    ] = "rand-m9-mstd0.5-inc1"
    interpolation: Annotated[Literal["bilinear", "bicubic", "random"], "how pixels are computed"] = "bicubic"
    img_size: Annotated[int | tuple[Side, ...], Range(1, MOST), PAIR, "side of the images"] = 224
    mean: Annotated[tuple[float, ...], Length(3), "colour of new areas, from 0 to 1"] = (0.485, 0.456, 0.406)

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            timm_settings(self.config_str)
        except ValueError as problem:
            yield "config_str", f"got {self.config_str!r}: {problem}"


def timm_settings(text: str) -> dict[str, float]:
    """Return m, n, mstd and inc of a text such as rand-m9-mstd0.5-inc1; ValueError for what it cannot say."""
    kind, *sections = text.split("-")
    if kind != "rand":
        raise ValueError("only rand-… exists here, not AutoAugment's policies (v0, original) nor augmix: use AugMix")
    settings = {"m": 10.0, "n": 2.0, "mstd": 0.0, "inc": 0.0}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d*)?)", section)
        if match is None or match[1] not in settings:
            raise ValueError(f"{section!r} is not one of m9, n2, mstd0.5 and inc1")
        settings[match[1]] = float(match[2])
    if settings["n"] < 1 or settings["n"] != int(settings["n"]):
        raise ValueError("n is a whole number of at least 1")
    if "inc" in text and settings["inc"] != 1:
        raise ValueError("inc is 1 or left out: PaddleClas takes any number after it for 1")
    return settings


@dataclass(frozen=True)
class AugMix(Transform, built_by=POLICIES):
    """A mixture of the image and of chains of changes (arXiv:1912.02781)."""

    prob: Chance = 0.5
    aug_prob_coeff: Annotated[Positive, "evenness of the mixture"] = 0.1
    mixture_width: Annotated[Tries, "chains"] = 3
    mixture_depth: Annotated[int, Range(-1, 1000), "changes of a chain; -1: one to three"] = 1
    aug_severity: Annotated[float, Range(0, 10), "how strong they are"] = 1.0


@dataclass(frozen=True)
class RandomResizedCrop(Transform, built_by=VISION):
    """Paddle's own RandomResizedCrop: a random part of the image, resized with Pillow."""

    size: Annotated[int | tuple[Side, ...], Range(1, MOST), PAIR, "side in pixels, or height and width"]
    scale: Annotated[tuple[Portion, ...], LOW_HIGH, "smallest and largest share of the area"] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, ...], LOW_HIGH, "smallest and largest width / height"] = (3 / 4, 4 / 3)
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"], "how pixels are computed"
    ] = "bilinear"


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform, built_by=VISION):
    """Paddle's own RandomHorizontalFlip: mirrors left and right."""

    prob: Chance = 0.5
