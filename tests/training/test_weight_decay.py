"""Which weight decay a parameter has: its own, the regularizer of its optimiser, or weight_decay."""

from __future__ import annotations

import numpy as np

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.load import parse_arch  # noqa: E402
from shitu_cli.config.reader import make_part  # noqa: E402
from shitu_cli.processes.collectives import Ranks  # noqa: E402
from shitu_cli.training.optimizer import build_scope  # noqa: E402

RATE = {"name": "Constant", "learning_rate": 0.5}


def shrunk(layer: paddle.nn.Layer, name: str, **args: object) -> dict[str, float]:
    """Return by which factor one step with zero gradients changes each parameter."""
    parameters = [(key, value) for key, value in layer.named_parameters() if not value.stop_gradient]
    for _, parameter in parameters:
        parameter.set_value(np.ones(parameter.shape, np.float32))
    part = make_part("optimizer", name, lr=RATE, **args)
    scope = build_scope(part, parameters, epochs=1, steps_per_epoch=1, ranks=Ranks())
    (sum(parameter.sum() for _, parameter in parameters) * 0).backward()
    scope.optimizer.step()
    return {key: float(value.numpy().reshape(-1)[0]) for key, value in parameters}


def test_a_regularizer_replaces_weight_decay() -> None:
    decay = {"regularizer": {"name": "L2", "coeff": 0.2}, "weight_decay": 0.4}
    for name in ("AdamW", "SGD"):
        (factor, *_) = shrunk(paddle.nn.Linear(2, 2), name, **decay).values()
        np.testing.assert_allclose(factor, 0.9, rtol=1e-6)
    (factor, *_) = shrunk(paddle.nn.Linear(2, 2), "AdamW", weight_decay=0.4).values()
    np.testing.assert_allclose(factor, 0.8, rtol=1e-6)


def test_a_parameter_may_have_a_decay_of_its_own() -> None:
    """As in PaddleClas, `weight_attr.regularizer` counts in place of that of the optimiser."""
    neck = {
        "name": "FC",
        "embedding_size": 1280,
        "class_num": 4,
        "weight_attr": {"regularizer": {"name": "L2Decay", "coeff": 0.0}},
        "bias_attr": {"regularizer": {"name": "L1Decay", "coeff": 0.4}},
    }
    arch = parse_arch({"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": {"name": "flatten"}, "Neck": neck})
    decay = {"regularizer": {"name": "L2", "coeff": 0.2}}
    assert shrunk(arch.neck.build(), "SGD", **decay) == {"fc.weight": 1.0, "fc.bias": np.float32(0.8)}
