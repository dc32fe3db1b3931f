"""The CPU kernels of transformers against Paddle's own operators: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from shitu_cli.model import build_rec_model, kernels

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba or writable DLPack is missing")
Function = Callable[..., paddle.Tensor]


def draw(*shape: int, scale: float = 2.0) -> np.ndarray:
    return (scale * np.random.default_rng(sum(shape)).standard_normal(shape)).astype("float32")


def values(function: Function, *arrays: np.ndarray) -> list[np.ndarray]:
    """Output and gradients of sum(function(arrays) * random)."""
    tensors = [paddle.to_tensor(array, stop_gradient=False) for array in arrays]
    y = function(*tensors)
    (y * paddle.to_tensor(np.random.default_rng(1).standard_normal(y.shape).astype("float32"))).sum().backward()
    return [y.numpy(), *(tensor.grad.numpy() for tensor in tensors)]


def assert_same(own: Function, paddles: Function, *arrays: np.ndarray) -> None:
    for index, (got, want) in enumerate(zip(values(own, *arrays), values(paddles, *arrays), strict=True)):
        assert np.abs(got - want).max() <= 2e-5 * max(np.abs(want).max(), 1e-3), index


def attention(qkv: paddle.Tensor, heads: int) -> paddle.Tensor:
    """Compute attention with Paddle's operators."""
    tokens, width = qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.reshape([0, tokens, 3, heads, width // heads]).transpose([2, 0, 3, 1, 4])
    weights = F.softmax(q @ k.transpose([0, 1, 3, 2]) * (width // heads) ** -0.5, axis=-1)
    return (weights @ v).transpose([0, 2, 1, 3]).reshape([0, tokens, width])


@pytest.mark.parametrize(("count", "tokens", "width", "heads"), [(1, 1, 4, 1), (3, 7, 24, 3), (2, 50, 64, 2)])
def test_attention_is_paddles(count: int, tokens: int, width: int, heads: int) -> None:
    qkv = draw(count, tokens, 3 * width)
    assert_same(lambda x: kernels.attention(x, heads), lambda x: attention(x, heads), qkv)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_gelu_is_paddles(scale: float) -> None:
    assert_same(kernels.gelu, F.gelu, draw(3, 5, 41, scale=scale))


def test_layer_norm_is_paddles() -> None:
    def own(x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor) -> paddle.Tensor:
        return kernels.layer_norm(x, SimpleNamespace(weight=gamma, bias=beta, _epsilon=1e-6))

    arrays = draw(3, 7, 24) + 5, draw(24), draw(24)
    assert_same(own, lambda x, gamma, beta: F.layer_norm(x, [24], gamma, beta, 1e-6), *arrays)


def test_linear_with_bias_and_scale_are_paddles() -> None:
    assert_same(kernels.linear, lambda x, w, b: x @ w + b, draw(9, 5), draw(5, 12), draw(12))
    assert_same(kernels.scale, lambda x, gamma: x * gamma, draw(2, 9, 5), draw(5))


@pytest.mark.parametrize("function", [kernels.gelu, lambda x: kernels.attention(x, 1)])
def test_not_a_number_comes_through(function: Function) -> None:
    x = draw(1, 4, 12)
    x[0, 1, 2] = np.nan
    assert np.isnan(function(paddle.to_tensor(x)).numpy()).any()


def test_a_transformer_that_is_tuned_gets_paddles_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block is not trained, so that some layers have no gradients to give."""
    paddle.seed(1)
    model = build_rec_model({"Backbone": {"name": "vit_tiny_patch16_224", "img_size": 32}})
    model.train()
    for parameter in [*model.backbone.patch_embed.parameters(), *model.backbone.blocks[0].parameters()]:
        parameter.stop_gradient = True
    x = paddle.to_tensor(draw(3, 3, 32, 32))

    def gradients() -> dict[str, np.ndarray]:
        model.clear_gradients()
        model(x)["features"][:, :9].sum().backward()
        return {name: tensor.grad.numpy() for name, tensor in model.named_parameters() if tensor.grad is not None}

    got = gradients()
    monkeypatch.setattr(kernels, "available", lambda: False)
    wanted = gradients()
    assert got.keys() == wanted.keys() and len(wanted) > 100
    for name, want in wanted.items():
        # The gradient of the keys' bias is 0, but for rounding.
        assert np.abs(got[name] - want).max() <= 1e-3 * np.abs(want).max() + 1e-5, name
