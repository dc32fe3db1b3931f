"""The CPU kernels of transformers against Paddle's own operators: values and gradients."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from shitu_cli.config.parts.backbones import ViTShape
from shitu_cli.model import build_rec_model, kernels
from shitu_cli.model.backbones.vit import TransformerBlock
from shitu_cli.model.kernels import branches

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba or writable DLPack is missing")
Function = Callable[..., paddle.Tensor]
EPSILON = 1e-6


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


def parameters(width: int, heads: int, *, scaled: bool) -> list[np.ndarray]:
    """Slope, shift, two linear layers and perhaps the scale of a branch."""
    hidden, inner = (3 * width, width) if heads else (4 * width, 4 * width)
    arrays = [draw(width), draw(width), draw(width, hidden, scale=0.3), draw(hidden)]
    arrays += [draw(inner, width, scale=0.3), draw(width)]
    return [*arrays, draw(width)] if scaled else arrays


def branch(heads: int, x: paddle.Tensor, *tensors: paddle.Tensor) -> paddle.Tensor:
    norm, first, last = (SimpleNamespace(weight=tensors[n], bias=tensors[n + 1], _epsilon=EPSILON) for n in (0, 2, 4))
    return kernels.branch(x, kernels.Branch(norm, first, last, tensors[6] if len(tensors) > 6 else None, heads))


def paddles_branch(heads: int, x: paddle.Tensor, *tensors: paddle.Tensor) -> paddle.Tensor:
    gamma, beta, first, first_bias, last, last_bias, *scale = tensors
    hidden = F.layer_norm(x, [x.shape[2]], gamma, beta, EPSILON) @ first + first_bias
    y = (attention(hidden, heads) if heads else F.gelu(hidden)) @ last + last_bias
    return x + (y * scale[0] if scale else y)


def attention(qkv: paddle.Tensor, heads: int) -> paddle.Tensor:
    tokens, width = qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.reshape([0, tokens, 3, heads, width // heads]).transpose([2, 0, 3, 1, 4])
    weights = F.softmax(q @ k.transpose([0, 1, 3, 2]) * (width // heads) ** -0.5, axis=-1)
    return (weights @ v).transpose([0, 2, 1, 3]).reshape([0, tokens, width])


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("count", "tokens", "width", "heads"), [(1, 1, 4, 1), (3, 7, 24, 3), (5, 50, 64, 2), (3, 9, 8, 0)]
)
def test_branch_is_paddles(
    count: int, tokens: int, width: int, heads: int, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(branches, "ROWS", 2 * tokens)  # so that the last group is smaller than the others
    arrays = draw(count, tokens, width) + 5, *parameters(width, heads, scaled=scaled)
    assert_same(lambda *a: branch(heads, *a), lambda *a: paddles_branch(heads, *a), *arrays)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_gelu_is_paddles(scale: float) -> None:
    x, d, gelu = draw(3, 5, 41, scale=scale), draw(3, 41, 5).reshape(3, 5, 41), branches.Gelu()
    y, again, dx = (np.empty_like(x) for _ in range(3))
    gelu.forward(x, y)
    gelu.backward(x, d, dx, again)
    tensor = paddle.to_tensor(x, stop_gradient=False)
    wanted = F.gelu(tensor)
    wanted.backward(paddle.to_tensor(d))
    for got, want in ((y, wanted), (again, wanted), (dx, tensor.grad)):
        assert np.abs(got - want.numpy()).max() <= 2e-5 * max(np.abs(want.numpy()).max(), 1e-3)


def test_layer_norm_is_paddles() -> None:
    def own(x: paddle.Tensor, gamma: paddle.Tensor, beta: paddle.Tensor) -> paddle.Tensor:
        return kernels.layer_norm(x, SimpleNamespace(weight=gamma, bias=beta, _epsilon=1e-6))

    arrays = draw(3, 7, 24) + 5, draw(24), draw(24)
    assert_same(own, lambda x, gamma, beta: F.layer_norm(x, [24], gamma, beta, 1e-6), *arrays)


def test_linear_with_bias_is_paddles() -> None:
    assert_same(kernels.linear, lambda x, w, b: x @ w + b, draw(9, 5), draw(5, 12), draw(12))


@pytest.mark.parametrize("heads", [0, 1])
def test_not_a_number_comes_through(heads: int) -> None:
    x = draw(1, 4, 12)
    x[0, 1, 2] = np.nan
    tensors = [paddle.to_tensor(array) for array in (x, *parameters(12, heads, scaled=False))]
    assert np.isnan(branch(heads, *tensors).numpy()[0, 1]).all()


def test_a_branch_without_gradients_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [paddle.to_tensor(array) for array in (draw(2, 5, 12), *parameters(12, 3, scaled=True))]
    wanted = paddles_branch(3, *tensors).numpy()
    monkeypatch.delattr(branches._Half, "kept")
    y = branch(3, *tensors)
    assert y.stop_gradient
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("training", [False, True])
def test_only_the_first_token_leaves_a_pooled_block(training: bool) -> None:
    paddle.seed(1)
    block = TransformerBlock(ViTShape(width=24, heads=3, depth=1, patch=4), pooled=True)
    (block.train if training else block.eval)()
    x = paddle.to_tensor(draw(3, 7, 24))
    y = block(x)
    block.pooled = False
    assert y.shape == [3, 1, 24]
    np.testing.assert_allclose(y.numpy(), block(x)[:, :1].numpy(), rtol=1e-5, atol=1e-5)


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
