"""Freeze the first layers of a backbone, and set the learning rates of the others.

Trained weights already detect edges, colours and textures; what new images need is in the later layers. Frozen layers
need no backward pass, as nothing before them is trained either.
"""

from __future__ import annotations

import paddle
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.errors import Command, ConfigError
from shitu_cli.model.backbones import Backbone

_NORMS = nn.layer.norm._BatchNormBase


def set_layer_rates(backbone: Backbone, part: parts.Backbone) -> None:
    """Freeze norms and layers of a backbone and set the learning rates of the others, as its part says.

    Raises ConfigError if all layers would be frozen.
    """
    if part.freeze_norm:
        for layer in backbone.sublayers():
            if isinstance(layer, _NORMS):
                layer._use_global_stats = True
    if (part.freeze_at, part.lr_mult, part.layer_decay) == (0, 1.0, 1.0):
        return
    groups = parameter_groups(backbone)
    if part.freeze_at >= len(groups):
        raise ConfigError(
            f"Arch.Backbone.freeze_at: got {part.freeze_at}, but {part.name} has only {len(groups)} layers",
            hint=["to train none and learn a projection instead: ", Command("train", "--frozen")],
        )
    for number, group in enumerate(groups):
        rate = part.lr_mult * part.layer_decay ** (len(groups) - 1 - number)
        for parameter in group:
            if number < part.freeze_at:
                parameter.stop_gradient = True
            else:
                parameter.optimize_attr["learning_rate"] *= rate
    _fix_statistics(backbone, groups[: part.freeze_at])


def parameter_groups(backbone: Backbone) -> list[list[paddle.Tensor]]:
    """Return the parameters layer by layer: those before the first block, then each block's, then what follows.

    A norm belongs to the layer that it follows. Positions and tokens belong to the first layer.
    """
    layers, parameters = dict(backbone.named_sublayers()), list(backbone.named_parameters())
    prefixes: list[list[str]] = []
    for name, step in backbone.steps():
        blocks = [child for child, _ in step.named_children()] if isinstance(step, nn.Sequential) else []
        for prefix in [f"{name}.{block}" for block in blocks] or [name]:
            if prefixes and isinstance(layers.get(prefix), (_NORMS, nn.LayerNorm)):
                prefixes[-1].append(f"{prefix}.")
            elif any(parameter.startswith(f"{prefix}.") for parameter, _ in parameters):
                prefixes.append([f"{prefix}."])
    groups: list[list[paddle.Tensor]] = [[] for _ in prefixes]
    for name, parameter in parameters:
        usual = len(prefixes) - 1 if name in backbone.last_parameters else 0
        place = next((n for n, group in enumerate(prefixes) if name.startswith(tuple(group))), usual)
        groups[place].append(parameter)
    return groups


def _fix_statistics(backbone: Backbone, fixed: list[list[paddle.Tensor]]) -> None:
    """Freeze the statistics of norms in frozen layers, too."""
    untrained = {id(parameter) for group in fixed for parameter in group}
    for layer in backbone.sublayers():
        if isinstance(layer, _NORMS) and id(layer.weight) in untrained:
            layer._use_global_stats = True
