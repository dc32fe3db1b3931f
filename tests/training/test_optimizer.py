"""Scopes of optimisers, which weights decay, and how gradients are clipped."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import paddle
import pytest

from shitu_cli.config.reader import make_part
from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.optimizer import OptimizerStep, build_scope, is_in_scope

RATE, DECAY = 0.5, 0.1


def test_scopes_are_losses_or_patterns_of_whole_layer_names() -> None:
    losses = ["CELoss", "CenterLoss"]
    assert is_in_scope("CenterLoss", "loss.parts.1.centers", losses)
    assert not is_in_scope("CenterLoss", "loss.parts.0.centers", losses)
    name = "backbone.blocks.0.conv1.conv.weight"
    assert all(is_in_scope(scope, name, losses) for scope in ("backbone", "backbone.blocks.0", ".*(conv|bn)"))
    assert not any(is_in_scope(scope, name, losses) for scope in ("back", "head", "conv1", "weight"))


def after_a_step(optimizer: str, gradients: Mapping[str, np.ndarray], **args: Any) -> dict[str, np.ndarray]:
    """Return what parameters full of ones are after a step with these gradients."""
    parameters = []
    for name, gradient in gradients.items():
        parameter = paddle.create_parameter(list(gradient.shape), "float32")
        parameter.set_value(np.ones(gradient.shape, np.float32))
        (parameter * paddle.to_tensor(gradient.astype("float32"))).sum().backward()
        parameters.append((name, parameter))
    part = make_part("optimizer", optimizer, lr={"name": "Constant", "learning_rate": RATE}, **args)
    OptimizerStep([build_scope(part, parameters, epochs=1, steps_per_epoch=1, ranks=Ranks())]).step(0)
    return {name: parameter.numpy() for name, parameter in parameters}


@pytest.mark.parametrize(
    ("key", "shares"),
    [("clip_norm", [2 / 5, 1]), ("clip_global_norm", [2 / math.sqrt(26), 2 / math.sqrt(26)])],
)
def test_gradients_are_clipped_each_for_itself_or_together(key: str, shares: list[float]) -> None:
    """As PaddleClas's keys do: `clip_norm` is Paddle's ClipGradByNorm, `clip_global_norm` its ClipGradByGlobalNorm."""
    gradients = {"conv.weight": np.array([3.0, 4.0]), "fc.weight": np.array([0.6, 0.8])}  # of the lengths 5 and 1
    after = after_a_step("SGD", gradients, **{key: 2.0})
    for share, (name, gradient) in zip(shares, gradients.items(), strict=True):
        np.testing.assert_allclose(after[name], 1 - RATE * share * gradient, rtol=1e-5)


SHAPES = {
    "backbone.conv.weight": (2, 3),
    "backbone.pos_embed": (1, 2, 3),
    "backbone.bn.weight": (3,),
    "backbone.bn.bias": (3,),
    "head.fc.weight": (3, 4),
    "head.fc.bias": (4,),
}


@pytest.mark.parametrize(
    ("args", "decays"),
    [
        ({}, [*SHAPES]),
        ({"one_dim_param_no_weight_decay": True}, ["backbone.conv.weight", "backbone.pos_embed", "head.fc.weight"]),
        (
            {"no_weight_decay_name": "pos_embed fc"},
            ["backbone.conv.weight", "backbone.bn.weight", "backbone.bn.bias"],
        ),
        ({"no_weight_decay_name": "pos_embed fc", "one_dim_param_no_weight_decay": True}, ["backbone.conv.weight"]),
    ],
)
@pytest.mark.parametrize(
    ("optimizer", "decayed"),
    # Without a gradient, decay alone moves a weight: Adam by the whole rate, as it divides by the size of what it gets.
    [("SGD", 1 - RATE * DECAY), ("Momentum", 1 - RATE * DECAY), ("AdamW", 1 - RATE * DECAY), ("Adam", 1 - RATE)],
)
def test_the_keys_say_which_weights_do_not_decay(
    optimizer: str, decayed: float, args: dict[str, Any], decays: list[str]
) -> None:
    decay = {"weight_decay": DECAY} if optimizer == "AdamW" else {"regularizer": {"name": "L2", "coeff": DECAY}}
    after = after_a_step(optimizer, {name: np.zeros(shape) for name, shape in SHAPES.items()}, **decay, **args)
    for name, values in after.items():
        np.testing.assert_allclose(values, decayed if name in decays else 1.0, rtol=1e-5, err_msg=name)


def test_norms_decay_where_paddleclas_decays_them() -> None:
    """In its ResNets and MobileNetV1 they do like all other weights, in its other networks they do not."""
    from shitu_cli.model.backbones import build_backbone

    for network, decays in (
        ("ResNet18", True),
        ("MobileNetV1_x0_25", True),
        ("PPLCNet_x0_25", False),
        ("resnet18", False),
    ):
        norms = [p for name, p in build_backbone(network).named_parameters() if ".bn." in name and not p.stop_gradient]
        assert norms and all((p.regularizer is None) == decays for p in norms), network
