"""Transforms: what happens to an image before the network sees it, in the order of the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import FRACTION, LOW_HIGH, PAIR, Count, Length, Natural, Portion, Positive, Range, Rate
from shitu_cli.config.kinds import Share as _Share
from shitu_cli.config.parts.base import Part

_FILE, _AUGMENT = "shitu_cli.data.transforms", "shitu_cli.data.augment"
Size = Annotated[int | tuple[Count, ...], Range(1), PAIR, "side in pixels, or width and height"]
Interpolation = Annotated[
    Literal["nearest", "bilinear", "bicubic", "area", "lanczos", None], "how pixels are computed; null: bilinear"
]
Backend = Annotated[Literal["cv2", "pil"], "library whose resizing to follow; pil smooths when shrinking"]
Chance = Annotated[_Share, "probability that it is applied"]
Color = Annotated[tuple[float, ...], Length(3), "red, green and blue"]


@dataclass(frozen=True)
class Transform(Part):
    """One operation on an image."""


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
    interpolation: Annotated[Literal["nearest", "bilinear"], "how pixels are computed"] = "bilinear"
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
class RandAugment(Transform, built_by=_AUGMENT):
    """Several random changes of colour and form (arXiv:1909.13719)."""

    num_layers: Annotated[Count, "changes of each image"] = 2
    magnitude: Annotated[float, Range(0, 10), "how strong they are"] = 5.0
    fillcolor: Annotated[tuple[int, ...], Range(0, 255), Length(3), "colour of new areas"] = (128, 128, 128)


@dataclass(frozen=True)
class AugMix(Transform, built_by=_AUGMENT):
    """A mixture of the image and of chains of changes (arXiv:1912.02781)."""

    prob: Chance = 0.5
    aug_prob_coeff: Annotated[Positive, "evenness of the mixture"] = 0.1
    mixture_width: Annotated[Count, "chains"] = 3
    mixture_depth: Annotated[int, Range(-1), "changes of a chain; -1: one to three"] = -1
    aug_severity: Annotated[float, Range(0, 10), "how strong they are"] = 1.0


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


NOT_SUPPORTED = ("TimmAutoAugment", "AutoAugment", "RandAugmentV2", "RandAugmentV3", "Cutout", "HideAndSeek")
