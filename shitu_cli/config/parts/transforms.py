"""Transforms: what happens to an image before the network sees it, in the order of the list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import FRACTION, LOW_HIGH, PAIR, Count, Length, Natural, Portion, Positive, Range, Rate
from shitu_cli.config.kinds import Share as _Share
from shitu_cli.config.parts.base import Part

_FILE, _AUGMENT = "shitu_cli.data.transforms", "shitu_cli.data.augment"
_VISION, _POLICIES = "shitu_cli.data.vision_transforms", "shitu_cli.data.policies"
Size = Annotated[int | tuple[Count, ...], Range(1), PAIR, "side in pixels, or width and height"]
Interpolation = Annotated[
    Literal["nearest", "bilinear", "bicubic", "area", "box", "hamming", "lanczos", None],
    "how pixels are computed; null: bilinear, with pil bicubic",
]
Backend = Annotated[Literal["cv2", "pil"], "library that resizes; pil (Pillow) smooths when shrinking"]
Chance = Annotated[_Share, "probability that it is applied"]
Color = Annotated[tuple[float, ...], Length(3), "red, green and blue"]


@dataclass(frozen=True)
class Transform(Part):
    """One operation on an image."""


def _backend_problems(part: ResizeImage | RandCropImage) -> Iterator[tuple[str, str]]:
    only = {"cv2": ("area",), "pil": ("box", "hamming")}
    other = "pil" if part.backend == "cv2" else "cv2"
    if part.interpolation in only[other]:
        yield "interpolation", f"got {part.interpolation}, which is for backend: {other}"


@dataclass(frozen=True)
class DecodeImage(Transform, built_by=_FILE):
    """Decodes the image as RGB; the loader has already done it."""

    ignored: ClassVar[tuple[str, ...]] = ("to_np", "backend")
    to_rgb: Annotated[Literal[True], "images are RGB here"] = True
    channel_first: Annotated[Literal[False], "images are height x width x channels here"] = False
    reduced: Annotated[bool, "whether JPEGs much larger than needed are decoded at a fraction of their size"] = False


@dataclass(frozen=True)
class ResizeImage(Transform, built_by=_FILE):
    """The whole image in another size: either `size`, or `resize_short` for the shorter side."""

    ignored: ClassVar[tuple[str, ...]] = ("return_numpy",)
    size: Size | None = None
    resize_short: Annotated[Count | None, "the shorter side in pixels, the aspect is kept"] = None
    interpolation: Interpolation = None
    backend: Backend = "cv2"

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.size is None) == (self.resize_short is None):
            yield "", "needs either size or resize_short"
        yield from _backend_problems(self)


@dataclass(frozen=True)
class CropImage(Transform, built_by=_FILE):
    """The middle of the image; smaller ones are enlarged first."""

    size: Size


@dataclass(frozen=True)
class RandCropImage(Transform, built_by=_FILE):
    """A random part of the image, resized (arXiv:1409.4842)."""

    size: Size
    scale: Annotated[tuple[Portion, ...] | None, LOW_HIGH, "smallest and largest share of the area"] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, ...] | None, LOW_HIGH, "smallest and largest width / height"] = (3 / 4, 4 / 3)
    interpolation: Interpolation = None
    backend: Backend = "cv2"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _backend_problems(self)


@dataclass(frozen=True)
class RandCropImageV2(Transform, built_by=_FILE):
    """A random part of exactly this size; smaller images are enlarged first."""

    size: Size


@dataclass(frozen=True)
class RandFlipImage(Transform, built_by=_FILE):
    """Mirrors every second image."""

    flip_code: Annotated[Literal[1, 0, -1], "1: left and right, 0: top and bottom, -1: both"] = 1


@dataclass(frozen=True)
class Pad(Transform, built_by=_FILE):
    """A border around the image."""

    ignored: ClassVar[tuple[str, ...]] = ("backend",)
    padding: Annotated[int | tuple[Natural, ...], Range(0), "pixels: all sides, [x, y], or left, top, right, bottom"]
    padding_mode: Annotated[Literal["constant", "edge", "reflect", "symmetric"], "what the border shows"] = "constant"
    fill: Annotated[float | tuple[float, ...], Length(3), "colour of a constant border"] = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.padding, tuple) and len(self.padding) not in (2, 4):
            yield "padding", f"got {len(self.padding)} numbers, expected one, two or four"


@dataclass(frozen=True)
class RandomErasing(Transform, built_by=_FILE):
    """Paints over a random rectangle (arXiv:1708.04896)."""

    EPSILON: Chance = 0.5
    sl: Annotated[Portion, "smallest share of the area"] = 0.02
    sh: Annotated[Portion, "largest share of the area"] = 0.4
    r1: Annotated[Portion, "smallest height / width; the largest is 1 / r1"] = 0.3
    mean: Color = (0.0, 0.0, 0.0)
    attempt: Annotated[Count, "tries to find a rectangle that fits"] = 100
    use_log_aspect: Annotated[bool, "whether flat and tall rectangles are equally likely"] = False
    mode: Annotated[Literal["const", "pixel"], "paint with mean, or with noise"] = "const"

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.sl > self.sh:
            yield "sl", f"got {self.sl:g}, expected at most sh, which is {self.sh:g}"


@dataclass(frozen=True)
class RandomRotation(Transform, built_by=_AUGMENT):
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
class ColorJitter(Transform, built_by=_AUGMENT):
    """Changes colours at random, in random order."""

    prob: Chance = 1.0
    brightness: Annotated[Rate, "largest share of brightness changed"] = 0.0
    contrast: Annotated[Rate, "largest share of contrast changed"] = 0.0
    saturation: Annotated[Rate, "largest share of saturation changed"] = 0.0
    hue: Annotated[float, Range(0, 0.5), "largest turn of the hue"] = 0.0


@dataclass(frozen=True)
class RandAugment(Transform, built_by=_POLICIES):
    """Several random changes of colour and form (arXiv:1909.13719)."""

    num_layers: Annotated[Count, "changes of each image"] = 2
    magnitude: Annotated[float, Range(0, 10), "how strong they are"] = 5.0
    fillcolor: Annotated[tuple[int, ...], Range(0, 255), Length(3), "colour of new areas"] = (128, 128, 128)


@dataclass(frozen=True)
class TimmAutoAugment(Transform, built_by=_POLICIES):
    """Random changes by timm's short text (arXiv:1909.13719), such as `rand-m9-mstd0.5-inc1`."""

    prob: Chance = 1.0
    config_str: Annotated[
        str, "rand, then -m strength, -n changes, -mstd spread of the strength, -inc1: stronger means more"
    ] = "rand-m9-mstd0.5-inc1"
    interpolation: Annotated[Literal["bilinear", "bicubic", "random"], "how pixels are computed"] = "bicubic"
    img_size: Annotated[int | tuple[Count, ...], Range(1), PAIR, "side of the images"] = 224
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
    return settings


@dataclass(frozen=True)
class AugMix(Transform, built_by=_POLICIES):
    """A mixture of the image and of chains of changes (arXiv:1912.02781)."""

    prob: Chance = 0.5
    aug_prob_coeff: Annotated[Positive, "evenness of the mixture"] = 0.1
    mixture_width: Annotated[Count, "chains"] = 3
    mixture_depth: Annotated[int, Range(-1), "changes of a chain; -1: one to three"] = 1
    aug_severity: Annotated[float, Range(0, 10), "how strong they are"] = 1.0


@dataclass(frozen=True)
class Resize(Transform, built_by=_VISION):
    """Paddle's own Resize, with Pillow: the shorter side, or height and width."""

    size: Annotated[int | tuple[Count, ...], Range(1), PAIR, "shorter side in pixels, or height and width"]
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"], "how pixels are computed"
    ] = "bilinear"


@dataclass(frozen=True)
class CenterCrop(Transform, built_by=_VISION):
    """Paddle's own CenterCrop: the middle of the image."""

    size: Annotated[int | tuple[Count, ...], Range(1), PAIR, "side in pixels, or height and width"]


@dataclass(frozen=True)
class RandomResizedCrop(Transform, built_by=_VISION):
    """Paddle's own RandomResizedCrop: a random part of the image, resized with Pillow."""

    size: Annotated[int | tuple[Count, ...], Range(1), PAIR, "side in pixels, or height and width"]
    scale: Annotated[tuple[Portion, ...], LOW_HIGH, "smallest and largest share of the area"] = (0.08, 1.0)
    ratio: Annotated[tuple[Positive, ...], LOW_HIGH, "smallest and largest width / height"] = (3 / 4, 4 / 3)
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"], "how pixels are computed"
    ] = "bilinear"


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform, built_by=_VISION):
    """Paddle's own RandomHorizontalFlip: mirrors left and right."""

    prob: Chance = 0.5


@dataclass(frozen=True)
class NormalizeImage(Transform, built_by=_FILE):
    """(pixel x scale - mean) / std."""

    ignored: ClassVar[tuple[str, ...]] = ("order",)
    scale: Annotated[float | None, FRACTION, "factor on pixels; null: 1/255"] = None
    mean: Color | None = None
    std: Annotated[tuple[float, ...] | None, Length(3), "of red, green and blue; null: ImageNet's"] = None
    output_fp16: Annotated[Literal[False], "images are float32 here"] = False
    channel_num: Annotated[Literal[3], "images have three channels here"] = 3

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.std is not None and 0.0 in self.std:
            yield "std", f"got {list(self.std)}, expected no 0"


@dataclass(frozen=True)
class Normalize(Transform, built_by=f"{_FILE}:NormalizeImage"):
    """(pixel / 255 - mean) / std, as it follows ToTensor."""

    ignored: ClassVar[tuple[str, ...]] = ("data_format", "to_rgb")
    mean: Color | None = None
    std: Annotated[tuple[float, ...] | None, Length(3), "of red, green and blue; null: ImageNet's"] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.std is not None and 0.0 in self.std:
            yield "std", f"got {list(self.std)}, expected no 0"


@dataclass(frozen=True)
class ToTensor(Transform, built_by=f"{_FILE}:Unchanged"):
    """Stands for the change of layout and scale that Normalize does here."""


@dataclass(frozen=True)
class ToCHWImage(Transform, built_by=f"{_FILE}:Unchanged"):
    """Stands for the change of layout that happens when a batch is made."""
