"""Transforms: what happens to an image before the network sees it, in order; augmentations.py has the random ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from shitu_cli.config.kinds import FRACTION, PAIR, Length, Range
from shitu_cli.config.parts.base import Part

FILE, VISION = "shitu_cli.data.transforms", "shitu_cli.data.vision_transforms"
MOST = 4096  # pixels of a side: larger ones are mistakes, or a stranger's model that is to need all memory
Side = Annotated[int, Range(1, MOST)]
Size = Annotated[int | tuple[Side, ...], Range(1, MOST), PAIR, "side in pixels, or width and height"]
Border = Annotated[int, Range(0, MOST)]
Interpolation = Annotated[
    Literal["nearest", "bilinear", "bicubic", "area", "box", "hamming", "lanczos", None],
    "how pixels are computed; null: bilinear, with pil bicubic",
]
Backend = Annotated[Literal["cv2", "pil"], "library that resizes; pil (Pillow) smooths when shrinking"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Color = Annotated[tuple[float, ...], Length(3), "red, green and blue"]


@dataclass(frozen=True)
class Transform(Part):
    """One operation on an image."""


def backend_problems(backend: str, interpolation: str | None) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the interpolation of a part that has a backend."""
    only = {"cv2": ("area",), "pil": ("box", "hamming")}
    other = "pil" if backend == "cv2" else "cv2"
    if interpolation in only[other]:
        yield "interpolation", f"got {interpolation}, which is for backend: {other}"


@dataclass(frozen=True)
class DecodeImage(Transform, built_by=FILE):
    """Decodes the image as RGB; the loader has already done it."""

    ignored: ClassVar[tuple[str, ...]] = ("to_np", "backend")
    to_rgb: Annotated[Literal[True], "images are RGB here"] = True
    channel_first: Annotated[Literal[False], "images are height x width x channels here"] = False
    reduced: Annotated[bool, "whether JPEGs much larger than needed are decoded at a fraction of their size"] = False


@dataclass(frozen=True)
class ResizeImage(Transform, built_by=FILE):
    """The whole image in another size: either `size`, or `resize_short` for the shorter side."""

    ignored: ClassVar[tuple[str, ...]] = ("return_numpy",)
    size: Size | None = None
    resize_short: Annotated[Side | None, "the shorter side in pixels, the aspect is kept"] = None
    interpolation: Interpolation = None
    backend: Backend = "cv2"

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.size is None) == (self.resize_short is None):
            yield "", "needs either size or resize_short"
        yield from backend_problems(self.backend, self.interpolation)


@dataclass(frozen=True)
class CropImage(Transform, built_by=FILE):
    """The middle of the image; smaller ones are enlarged first."""

    size: Size


@dataclass(frozen=True)
class Pad(Transform, built_by=FILE):
    """A border around the image."""

    ignored: ClassVar[tuple[str, ...]] = ("backend",)
    padding: Annotated[
        int | tuple[Border, ...], Range(0, MOST), "pixels: all sides, [x, y], or left, top, right, bottom"
    ]
    padding_mode: Annotated[Literal["constant", "edge", "reflect", "symmetric"], "what the border shows"] = "constant"
    fill: Annotated[float | tuple[float, ...], Length(3), "colour of a constant border"] = 0

    def problems(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.padding, tuple) and len(self.padding) not in (2, 4):
            yield "padding", f"got {len(self.padding)} numbers, expected one, two or four"


@dataclass(frozen=True)
class Resize(Transform, built_by=VISION):
    """Paddle's own Resize, with Pillow: the shorter side, or height and width."""

    size: Annotated[int | tuple[Side, ...], Range(1, MOST), PAIR, "shorter side in pixels, or height and width"]
    interpolation: Annotated[
        Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"], "how pixels are computed"
    ] = "bilinear"


@dataclass(frozen=True)
class CenterCrop(Transform, built_by=VISION):
    """Paddle's own CenterCrop: the middle of the image."""

    size: Annotated[int | tuple[Side, ...], Range(1, MOST), PAIR, "side in pixels, or height and width"]


@dataclass(frozen=True)
class NormalizeImage(Transform, built_by=FILE):
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
class Normalize(Transform, built_by=f"{FILE}:NormalizeImage"):
    """(pixel / 255 - mean) / std, as it follows ToTensor."""

    ignored: ClassVar[tuple[str, ...]] = ("data_format", "to_rgb")
    mean: Color | None = None
    std: Annotated[tuple[float, ...] | None, Length(3), "of red, green and blue; null: ImageNet's"] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.std is not None and 0.0 in self.std:
            yield "std", f"got {list(self.std)}, expected no 0"


@dataclass(frozen=True)
class ToTensor(Transform, built_by=f"{FILE}:Unchanged"):
    """Stands for the change of layout and scale that Normalize does here."""


@dataclass(frozen=True)
class ToCHWImage(Transform, built_by=f"{FILE}:Unchanged"):
    """Stands for the change of layout that happens when a batch is made."""
