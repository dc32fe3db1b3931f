"""Describe the networks, necks, heads and losses that can be built, and their sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from shitu_cli.config.parts import KINDS
from shitu_cli.config.reader import guess
from shitu_cli.errors import ARGUMENTS, Command, UsageError
from shitu_cli.runtime.setup import setup_paddle


@dataclass(frozen=True)
class BackboneInfo:
    """A backbone with its `parameters` and `macs` (multiply-adds of convolutions and linear layers for one image).

    Both count the layers up to the feature; `stop_layer` is the last of them.
    """

    name: str
    parameters: int
    macs: int
    feature_size: int
    stop_layer: str = "flatten"


def describe_backbones(pattern: str, size: int) -> list[BackboneInfo]:
    """Return every backbone whose name contains `pattern`, measured on one image of `size` pixels.

    Raises UsageError if there is none.
    """
    setup_paddle("cpu")
    all_names = KINDS["backbone"].names()
    names = [name for name in all_names if pattern.lower() in name.lower()]
    if not names:
        near = guess(pattern, all_names)
        raise UsageError(f"no network has {pattern} in its name{near}", hint=Command("models", without=(ARGUMENTS,)))
    return [_describe(name, size) for name in names]


def other_parts() -> dict[str, list[str]]:
    """Return kind → names of the necks, heads and losses."""
    return {kind.plural: kind.names() for kind in map(KINDS.__getitem__, ("neck", "head", "loss"))}


def _describe(name: str, size: int) -> BackboneInfo:
    """Return the sizes of a network from its graph; nothing is computed, so large networks take no longer."""
    import paddle
    from paddle import nn

    from shitu_cli.model.backbones import build_backbone
    from shitu_cli.model.shapes import drawing

    macs = 0

    def count(layer: nn.Layer, inputs: tuple[paddle.Tensor, ...], output: paddle.Tensor) -> None:
        nonlocal macs
        places = output.shape[2:] if isinstance(layer, nn.Conv2D) else output.shape[1:-1]  # of a map, or tokens
        macs += math.prod(layer.weight.shape) * math.prod(places)

    with drawing():
        model = build_backbone(name)
        stop_layer = "flatten" if "flatten" in model.sizes() else list(model.sizes())[-1]
        model.stop_after(stop_layer)
        model.eval()
        for layer in model.sublayers():
            if isinstance(layer, (nn.Conv2D, nn.Linear)):
                layer.register_forward_post_hook(count)  # type: ignore[arg-type]
        side = model.input_size or size  # some take images of one size only
        model(paddle.static.data("images", [1, 3, side, side]))
        parameters = sum(math.prod(p.shape) for p in model.parameters() if not p.stop_gradient)
    return BackboneInfo(name, parameters, macs, model.feature_size, stop_layer)
