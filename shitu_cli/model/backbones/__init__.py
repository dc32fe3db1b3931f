"""The backbones by their published names."""

from __future__ import annotations

from collections.abc import Callable

from shitu_cli.model.backbones import (
    efficientnet_lite,
    mobilenetv3,
    mobilenetv4,
    pplcnet,
    pplcnetv2,
    resnet,
    vit,
)
from shitu_cli.model.backbones.base import Backbone

BACKBONES: dict[str, Callable[..., Backbone]] = {
    **pplcnet.variants(),
    **pplcnetv2.variants(),
    **resnet.variants(),
    **mobilenetv3.variants(),
    **mobilenetv4.variants(),
    **efficientnet_lite.variants(),
    **vit.variants(),
}

__all__ = ["BACKBONES", "Backbone"]
