"""The synchronised norm is Paddle's own when there is one process."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.sync_norm import synchronize_norms


class _Two(Ranks):
    """Two processes with the same batch: every sum doubles."""

    world = 2

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        return value * 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2D(5),
        lambda: nn.BatchNorm1D(5),
        lambda: nn.BatchNorm1D(5, weight_attr=False, bias_attr=False),  # as AdaFace's networks have one
        lambda: nn.BatchNorm1D(5, use_global_stats=True),  # as BNNeck may have one
    ],
)
def test_values_gradients_and_statistics(make: object) -> None:
    rng = np.random.default_rng(0)
    shape = (6, 5, 3, 4) if isinstance(make(), nn.BatchNorm2D) else (6, 5)  # type: ignore[operator]
    data, weights = rng.standard_normal(shape).astype("float32"), rng.standard_normal(shape).astype("float32")
    results = []
    for synced in (False, True):
        model = nn.Sequential(make())  # type: ignore[operator]
        if model[0].weight is not None:
            model[0].weight.set_value(np.linspace(0.5, 2, 5).astype("float32"))
        model.train()
        if synced:
            model = synchronize_norms(model, _Two(), "cpu")
        x = paddle.to_tensor(data, stop_gradient=False)
        y = model(x)
        (y * paddle.to_tensor(weights)).sum().backward()
        norm = model[0]
        values = [y, x.grad, norm._mean, norm._variance]
        values += [norm.weight.grad, norm.bias.grad] if norm.weight is not None else []
        results.append([value.numpy() for value in values])
        model.eval()
        results[-1].append(model(x).numpy())
    for ours, paddles in zip(results[1], results[0], strict=True):
        assert np.allclose(ours, paddles, atol=2e-5)
