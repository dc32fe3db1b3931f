"""Which layers of a backbone a run trains, and how fast."""

from __future__ import annotations

from typing import Any

import numpy as np
import paddle
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.model import build_rec_model
from shitu_cli.training.layer_rates import parameter_groups, set_layer_rates

NETWORKS = ["tf_efficientnet_lite0", "PPLCNet_x0_25", "PPLCNetV2_small", "resnet18", "mobilenetv4_conv_small",
            "MobileNetV3_small_x0_35", "vit_tiny_patch16_224"]  # fmt: skip


def network(name: str = "PPLCNet_x0_25", **keys: Any) -> Any:
    from shitu_cli.config.load import parse_arch

    stop = {"BackboneStopLayer": {"name": "flatten"}} if name[0].isupper() else {}
    arch = parse_arch({"Backbone": {"name": name, **keys}, **stop})
    model = build_rec_model(arch)
    set_layer_rates(model.backbone, arch.backbone)
    model.train()
    return model


def step(model: Any) -> dict[str, float]:
    """One step of training; how far each parameter has moved."""
    before = {name: p.numpy() for name, p in model.named_parameters()}
    trained = [p for p in model.parameters() if not p.stop_gradient]
    optimizer = paddle.optimizer.Momentum(0.1, parameters=trained)
    paddle.seed(0)
    model(paddle.randn([4, 3, 64, 64]))["features"].sum().backward()
    optimizer.step()
    return {name: float(np.abs(p.numpy() - before[name]).max()) for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_is_in_one_layer(name: str) -> None:
    backbone = network(name).backbone
    groups = parameter_groups(backbone)
    places = [id(parameter) for group in groups for parameter in group]
    assert len(places) == len(set(places)) == len(list(backbone.named_parameters()))
    assert len(groups) >= 6 and all(groups)


def test_the_first_layers_stay_as_they_are_and_cost_no_backward_pass() -> None:
    model = network(freeze_at=4)
    moved = step(model)
    fixed = [name for name in moved if name.startswith(("backbone.conv1", "backbone.blocks2", "backbone.blocks3"))]
    assert len(fixed) > 20 and all(moved[name] == 0 for name in fixed)
    assert moved["backbone.blocks4.0.dw_conv.conv.weight"] > 0
    first = model.backbone.blocks4[0].dw_conv.conv
    inputs: list[paddle.Tensor] = []
    first.register_forward_pre_hook(lambda layer, args: inputs.append(args[0]))
    model(paddle.randn([2, 3, 64, 64]))
    assert inputs[0].stop_gradient


def test_statistics_of_norms_stay_where_the_config_says_so() -> None:
    for keys, kept in (({}, False), ({"freeze_norm": True}, True)):
        moved = step(network(**keys))
        means = [value for name, value in moved.items() if name.endswith("_mean")]
        assert means and (max(means) == 0) is kept
        assert moved["backbone.last_conv.weight"] > 0


def test_rates_fall_from_the_last_layer_to_the_first() -> None:
    model = network(lr_mult=0.5, layer_decay=0.8)
    rates = [group[0].optimize_attr["learning_rate"] for group in parameter_groups(model.backbone)]
    assert rates == pytest.approx([0.5 * 0.8**n for n in reversed(range(len(rates)))])


def test_too_many_fixed_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match="freeze_at: got 99, but PPLCNet_x0_25 has only 15 layers"):
        network(freeze_at=99)
