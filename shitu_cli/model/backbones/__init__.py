"""The backbones by their published names; their arguments are in `config/parts/backbones.py`."""

from __future__ import annotations

from shitu_cli.config.reader import make_part
from shitu_cli.model.backbones.base import Backbone

__all__ = ["Backbone", "build_backbone"]


def build_backbone(name: str, **args: object) -> Backbone:
    """Build the complete network of a published name; ConfigError for arguments that it does not have."""
    backbone: Backbone = make_part("backbone", name, **args).build()
    return backbone
