"""What every backbone is: a chain of named steps that can stop after any of them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
import paddle
from paddle import nn

from shitu_cli.config.reader import guess
from shitu_cli.errors import ConfigError
from shitu_cli.model.backbones.blocks import BatchNormAct, chain
from shitu_cli.model.layers import Conv2D

Step = tuple[str, Callable[[paddle.Tensor], paddle.Tensor]]


class Level(NamedTuple):
    """The last map of one stage: `layer` (a step, or `step.index` within one), its channels and its stride."""

    layer: str
    channels: int
    stride: int


SIZE_HINT = "set that size in the transforms and in Global.image_shape"

# Names that older published configs use for the same layers.
ALIASES = {"flatten_0": "flatten", "adaptive_avg_pool2d_0": "avg_pool"}


class Backbone(nn.Layer):
    """A network as a chain of steps; `stop_after(name)` drops what follows, its parameters too.

    `feature_size` is the number of channels that leave the chain. `dropped` are the parameter prefixes that were
    cut off, which published classification weights still contain. `levels` are the stages from fine to coarse.
    """

    feature_size: int
    levels: list[Level]
    classifiers: tuple[str, ...] = ()  # prefixes of a published classifier, which a network without one leaves out
    last_parameters: tuple[str, ...] = ()  # names of those that belong to no layer and are used last
    may_stay_new: tuple[str, ...] = ()  # prefixes of layers that published weights of its kind may not have

    def __init__(self) -> None:
        super().__init__()
        self.last_step: str | None = None
        self.input_size: int | None = None  # side of the images, if the network is made for one size only
        self.dropped: tuple[str, ...] = ()
        self.network = ""  # its name in configs
        self.left_new: list[str] = []  # parameters that loaded weights did not have
        self.start_remarks: list[str] = []  # what to tell the user about weights loaded when it was built

    def steps(self) -> list[Step]:
        """Return the chain of layers in order, by the names that the published weights use."""
        raise NotImplementedError

    def sizes(self) -> dict[str, int]:
        """Return the channels after each step at which a recognition model may stop."""
        raise NotImplementedError

    def steps_of(self, *names: str) -> list[Step]:
        """Return the layers with these names that exist: some have no classifier, and `stop_after` removes others."""
        return [(name, self._sub_layers[name]) for name in names if name in self._sub_layers]

    def stop_after(self, name: str) -> None:
        """Make step `name` the last one; raises ConfigError when it does not exist or gives no feature."""
        sizes = self.sizes()
        name = ALIASES.get(name, name)
        if name not in sizes:
            raise ConfigError(
                f"Arch.BackboneStopLayer.name: {no_such_layer(name, sizes)}",
                hint="possible: " + ", ".join(sizes),
            )
        names = [step for step, _ in self.steps()]
        cut = names[names.index(name) + 1 :]
        self.dropped = tuple(f"{step}." for step in cut if step in self._sub_layers)
        for step in cut:
            self._sub_layers.pop(step, None)
        self.last_step = name
        self.feature_size = sizes[name]

    def adapted(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return published arrays as this network takes them; for networks whose shapes depend on the image size."""
        return state

    def require_size(self, images: paddle.Tensor, hint: str = "") -> None:
        """Raise ConfigError for images of another side than `input_size`; with a hint of its own or a general one."""
        if list(images.shape[2:]) != [self.input_size, self.input_size]:
            raise ConfigError(
                f"images of {images.shape[2]}x{images.shape[3]} pixels, but the network was made for {self.input_size}",
                hint=hint or SIZE_HINT,
            )

    def flattened(self, maps: paddle.Tensor, side: int) -> paddle.Tensor:
        """Return maps [N, C, side, side] as [N, C * side * side]; raise ConfigError for images that leave others."""
        if list(maps.shape[2:]) != [side, side]:
            raise ConfigError(
                f"images of this size leave maps of {maps.shape[2]}x{maps.shape[3]}, where the network's linear layers "
                f"take {side}x{side}: it was made for images of {self.input_size}x{self.input_size} pixels",
                hint=SIZE_HINT,
            )
        return maps.flatten(1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.forward_maps(x, ())[0]

    def forward_maps(self, x: paddle.Tensor, layers: Collection[str]) -> tuple[paddle.Tensor, list[paddle.Tensor]]:
        """Return the output, and the outputs of `layers` (by their names in `levels`) on the way, in order."""
        maps = {}
        for name, step, norm in self._plan():
            if norm is not None:
                x = maps[name] = chain(x, [(step, norm)])
            elif any(layer.startswith(f"{name}.") for layer in layers):
                for index, part in enumerate(step):
                    x = maps[f"{name}.{index}"] = part(x)
            else:
                x = maps[name] = step(x)
        return x, [maps[layer] for layer in layers]

    def _plan(self) -> list[tuple[str, Any, Any]]:
        """Return the steps up to the last one by name; a convolution comes with the norm after it, under its name."""
        plan: list[tuple[str, Any, Any]] = []
        conv: Any = None  # waits for the norm that follows: together they are faster
        steps = self.steps()
        for (name, step), (_, after) in zip(steps, [*steps[1:], ("", None)], strict=True):
            if name != self.last_step and _are_pair(step, after):
                conv = step
                continue
            plan.append((name, step, None) if conv is None else (name, conv, step))
            conv = None
            if name == self.last_step:
                break
        return plan


def no_such_layer(name: str, layers: Collection[str]) -> str:
    """Return what is wrong with a layer to stop at that is not among those where a network may stop."""
    return f"no layer {name} to stop at{guess(name, layers)}"


def _are_pair(conv: object, norm: object) -> bool:
    return isinstance(conv, Conv2D) and isinstance(norm, BatchNormAct)
