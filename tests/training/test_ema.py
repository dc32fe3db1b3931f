"""The running mean of the weights, by its formula."""

from __future__ import annotations

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.training.ema import ExponentialMovingAverage  # noqa: E402


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_the_mean_keeps_its_share_and_forgets_its_start_in_a_short_run(decay: float) -> None:
    """PaddleClas keeps `decay` from the first step on; here the share grows to it: docs/paddleclas.md."""
    layer = paddle.nn.Linear(3, 2)
    mean = ExponentialMovingAverage(layer, decay)
    expected = layer.weight.numpy().astype(np.float64)
    for step in range(12):
        weights = np.full([3, 2], float(step), np.float32)
        layer.weight.set_value(weights)
        mean.update(step)
        share = min(decay, (1 + step) / (10 + step))
        expected = share * expected + (1 - share) * weights
    np.testing.assert_allclose(mean.tensors["weight"].numpy(), expected, rtol=1e-5)
    with mean.applied():
        np.testing.assert_allclose(layer.weight.numpy(), expected, rtol=1e-5)
    assert (layer.weight.numpy() == 11).all()
