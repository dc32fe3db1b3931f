"""The backbones by their published names."""

from __future__ import annotations

from collections.abc import Callable

from shitu_cli.model.backbones import pplcnet
from shitu_cli.model.backbones.base import Backbone

BACKBONES: dict[str, Callable[..., Backbone]] = {**pplcnet.variants()}

__all__ = ["BACKBONES", "Backbone"]
