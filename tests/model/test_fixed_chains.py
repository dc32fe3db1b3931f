"""Chains of convolutions with fixed norms as one operator, against Paddle's own operators one after the other."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import paddle
import pytest

from shitu_cli.model import build_rec_model, kernels
from shitu_cli.model.backbones.blocks import BatchNormAct, SameConv2D, chain
from shitu_cli.model.layers import Conv2D, ConvBNAct

pytestmark = pytest.mark.skipif(not kernels.available(), reason="numba or writable DLPack is missing")
Links = list[tuple[Conv2D, BatchNormAct]]


class Layer(NamedTuple):
    kernel: int
    stride: int
    out: int  # 0: depthwise
    act: str | None


INVERTED = [Layer(1, 1, 12, "relu6"), Layer(3, 1, 0, "relu6"), Layer(1, 1, 6, None)]
CHAINS = {
    "inverted": INVERTED,
    "inverted, kernel 5, stride 2": [Layer(1, 1, 12, "relu"), Layer(5, 2, 0, "relu"), Layer(1, 1, 8, None)],
    "depthwise first": [Layer(5, 1, 0, None), Layer(1, 1, 12, "relu"), Layer(7, 2, 0, "relu"), Layer(1, 1, 6, "relu")],
    "dense": [Layer(3, 2, 12, "relu6"), Layer(3, 1, 8, "relu"), Layer(1, 2, 6, None)],
    "dense, large windows": [Layer(7, 2, 4, "relu")],
    "dense, in several parts": [Layer(3, 1, 40, "relu"), Layer(3, 2, 7, None)],
}


def links(layers: list[Layer], same: bool = False, channels: int = 6) -> Links:
    random, made = np.random.default_rng(1), []
    for kernel, stride, out, act in layers:
        groups, out = (channels, channels) if out == 0 else (1, out)
        if same:
            conv: Conv2D = SameConv2D(channels, out, kernel, stride, groups)
        else:
            conv = Conv2D(channels, out, kernel, stride, groups, bias_attr=False)
        norm = BatchNormAct(out, act)
        norm._use_global_stats = True
        for tensor, least, most in (
            (norm.weight, 0.5, 2),
            (norm.bias, -1, 1),
            (norm._mean, -2, 2),
            (norm._variance, 0.5, 3),
        ):
            tensor.set_value(random.uniform(least, most, out).astype("float32"))
        made.append((conv, norm))
        channels = out
    return made


def parameters(made: Links) -> list[paddle.Tensor]:
    return [tensor for conv, norm in made for tensor in (conv.weight, norm.weight, norm.bias)]


def values(x: np.ndarray, made: Links, shortcut: bool = False) -> list[np.ndarray]:
    """Output and gradients of sum(chain * random)."""
    tensor = paddle.to_tensor(x, stop_gradient=False)
    for parameter in parameters(made):
        parameter.clear_gradient(False)
    y = chain(tensor, made, shortcut)
    (y * paddle.to_tensor(np.random.default_rng(2).standard_normal(y.shape).astype("float32"))).sum().backward()
    return [y.numpy(), tensor.grad.numpy(), *(parameter.grad.numpy() for parameter in parameters(made))]


def assert_close(got: list[np.ndarray], want: list[np.ndarray], tolerance: float = 2e-5) -> None:
    for index, (a, b) in enumerate(zip(got, want, strict=True)):
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-3), index


def draw(count: int, height: int, width: int) -> np.ndarray:
    return 2 * np.random.default_rng(3).standard_normal((count, 6, height, width)).astype("float32")


@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize(
    ("count", "height", "width"), [(1, 16, 16), (3, 7, 7), (17, 5, 4), (5, 9, 12), (2, 2, 3), (1, 1, 1)]
)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_paddles(name: str, count: int, height: int, width: int, same: bool, monkeypatch: Any) -> None:
    x, made, shortcut = draw(count, height, width), links(CHAINS[name], same), name == "inverted"
    assert kernels.chainable([kernels.Link(conv, norm, norm.act) for conv, norm in made], paddle.to_tensor(x))
    got = values(x, made, shortcut)
    monkeypatch.setattr(kernels, "available", lambda: False)
    assert_close(got, values(x, made, shortcut))


def test_the_same_bits_every_time() -> None:
    x, made = draw(19, 10, 10), links(INVERTED)
    assert all(np.array_equal(a, b) for a, b in zip(values(x, made, True), values(x, made, True), strict=True))


@pytest.mark.parametrize("trained", range(9))
def test_only_what_is_trained_gets_gradients(trained: int) -> None:
    """The other layers stay as they are, those before it cost no backward pass, and images need no gradient."""
    x, made = draw(3, 8, 8), links(INVERTED)
    want = values(x, made)[2 + trained]
    for number, parameter in enumerate(parameters(made)):
        parameter.clear_gradient(False)
        parameter.stop_gradient = number != trained
    y = chain(paddle.to_tensor(x), made)
    (y * paddle.to_tensor(np.random.default_rng(2).standard_normal(y.shape).astype("float32"))).sum().backward()
    assert np.array_equal(parameters(made)[trained].grad.numpy(), want)
    assert sum(parameter.grad is not None for parameter in parameters(made)) == 1


def test_nothing_is_kept_where_nothing_is_trained() -> None:
    x, made = paddle.to_tensor(draw(3, 8, 8)), links(INVERTED)
    want = chain(x, made).numpy()
    with paddle.no_grad():
        assert np.array_equal(chain(x, made).numpy(), want)
    for parameter in parameters(made):
        parameter.stop_gradient = True
    assert chain(x, made).stop_gradient and np.array_equal(chain(x, made).numpy(), want)


def test_a_norm_with_gamma_zero_has_its_gradient() -> None:
    x, made = draw(2, 6, 6), links(INVERTED)
    made[0][1].weight.set_value(np.zeros(12, "float32"))
    got = values(x, made)
    made[0][1].forward = lambda y: paddle.nn.functional.relu6(paddle.nn.BatchNorm2D.forward(made[0][1], y))
    made[0][1].act = "another"  # so that the links run one by one
    assert_close(got, values(x, made))


def test_not_a_number_comes_through() -> None:
    x = draw(2, 6, 6)
    x[0, 0, 0, 0] = np.nan
    assert np.isnan(chain(paddle.to_tensor(x), links(INVERTED)).numpy()).any()


def test_wider_strides_are_left_to_paddle() -> None:
    for same in (False, True):
        chained = [kernels.Link(conv, norm, norm.act) for conv, norm in links([Layer(5, 3, 4, "relu")], same)]
        assert not kernels.chainable(chained, paddle.to_tensor(draw(2, 11, 3)))


def test_a_shortcut_past_an_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="shortcut"):
        chain(paddle.to_tensor(draw(1, 6, 6)), links([Layer(1, 1, 6, "relu")]), shortcut=True)


def test_norms_that_learn_statistics_run_apart() -> None:
    block, x = ConvBNAct(6, 6, 3, act="relu"), paddle.to_tensor(draw(2, 6, 6))
    link = kernels.Link(block.conv, block.bn, block.act)
    assert not kernels.chainable([link], x)
    block.bn._use_global_stats = True
    assert kernels.chainable([link], x)
    block.bn.synced = True
    assert not kernels.chainable([link], x)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv4_conv_small", "ResNet18"])
def test_a_network_that_is_tuned_gets_paddles_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without activations: a sum that rounds to the other side of a ReLU's kink would change whole gradients."""
    paddle.seed(0)
    stop = {"BackboneStopLayer": {"name": "flatten"}} if name == "ResNet18" else {}
    model = build_rec_model({"Backbone": {"name": name}, **stop})
    model.train()
    for layer in model.sublayers():
        if isinstance(getattr(layer, "act", None), str):
            layer.act = None
    x = paddle.to_tensor(np.random.default_rng(4).standard_normal((4, 3, 64, 64)).astype("float32"))
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    for norm in norms:
        norm._momentum = 0.0
    with paddle.no_grad():
        model(x)
    for norm in norms:
        norm._use_global_stats = True

    def gradients() -> dict[str, np.ndarray]:
        model.clear_gradients()
        features = model(x)["features"]
        (features / paddle.norm(features, axis=1, keepdim=True))[:, :9].sum().backward()
        return {
            parameter: tensor.grad.numpy() for parameter, tensor in model.named_parameters() if tensor.grad is not None
        }

    got = gradients()
    monkeypatch.setattr(kernels, "available", lambda: False)
    wanted = gradients()
    assert len(wanted) == len(got) > 50
    for name, want in wanted.items():
        assert np.linalg.norm(got[name] - want) <= 1e-3 * np.linalg.norm(want), name
