"""The shapes of what passes between the layers of a network, from its graph: nothing is computed, no weights needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import paddle
from paddle import nn
from paddle.utils import unique_name

from shitu_cli.config.parts import backbones, necks
from shitu_cli.errors import ShituError
from shitu_cli.model.backbones.base import ALIASES

Shape = tuple[int, ...]  # for one image: (values,), or (channels, height, width) of a map


@contextmanager
def drawing() -> Iterator[None]:
    """Let Paddle build the graph of what is called instead of computing it; weights get no values either.

    Tensors must not be used after the context, not even for their shapes: Paddle crashes.
    """
    paddle.enable_static()
    try:
        with unique_name.guard(), paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
            yield
    finally:
        paddle.disable_static()


@dataclass(frozen=True)
class BackboneShapes:
    """What leaves a backbone: `after` each layer at which a network may stop, and after the `last` one of all.

    `levels` counts the stages that a feature pyramid may use; `input_size` is the side of the images, None for any.
    """

    after: dict[str, Shape]
    last: Shape
    levels: int
    input_size: int | None

    def at(self, stop_layer: str | None) -> Shape | None:
        """Return the shape after a layer (None: after all of them); None if a network cannot stop there."""
        return self.last if stop_layer is None else self.after.get(ALIASES.get(stop_layer, stop_layer))


# What was drawn: that takes up to a second, and a program may train the same network many times.
_drawn: dict[tuple[str, tuple[int, int]], BackboneShapes | None] = {}


def backbone_shapes(part: backbones.Backbone, size: tuple[int, int]) -> BackboneShapes | None:
    """Return the shapes of a backbone for images of `size` (height, width), or of its own if it is made for one.

    None if it has no graph: a network of another package may decide by the values that it computes.
    """
    key = repr(part), size
    if key not in _drawn:
        _drawn[key] = _draw(part, size)
    return _drawn[key]


def _draw(part: backbones.Backbone, size: tuple[int, int]) -> BackboneShapes | None:
    try:
        with drawing():
            backbone = part.build()
            side = backbone.input_size
            shapes = _run(backbone, (side, side) if side is not None else size)
            after = {name: shapes[name] for name in backbone.sizes()}
            return BackboneShapes(after, list(shapes.values())[-1], len(backbone.levels), side)
    except ShituError:
        raise
    except Exception:
        return None


def require_size(part: backbones.Backbone, size: tuple[int, int]) -> None:
    """Raise ConfigError if the network is not made for images of `size` (height, width)."""
    with drawing():
        _run(part.build(), size)


def _run(backbone: Any, size: tuple[int, int]) -> dict[str, Shape]:
    """Return the shape after each step of a backbone for images of `size`."""
    backbone.eval()
    x, shapes = paddle.static.data("images", [1, 3, *size]), dict[str, Shape]()
    for name, step in backbone.steps():
        x = step(x)
        shapes[name] = tuple(x.shape[1:])
    return shapes


@dataclass(frozen=True)
class NeckShape:
    """A neck: the `key` of its config that says the size of its input, `takes` and `gives` as many values as that says.

    None is for what a neck takes or gives in any size: as it comes. `takes_map`: its input is a map, not a row.
    """

    key: str
    takes: int | None
    gives: int | None
    takes_map: bool


def neck_shape(part: necks.Neck) -> NeckShape:
    """Return what a neck takes and gives."""
    with drawing():
        layer: nn.Layer = part.build()
        return NeckShape(
            getattr(layer, "size_key", "embedding_size"),
            getattr(layer, "in_size", None),
            getattr(layer, "feature_size", None),
            getattr(layer, "takes_map", False),
        )


def mapped(part: necks.Neck, shape: Shape) -> Shape:
    """Return what a neck that takes a map gives for one of this shape, whose channels fit."""
    with drawing():
        layer = part.build()
        layer.eval()
        return tuple(layer(paddle.static.data("map", [1, *shape])).shape[1:])
