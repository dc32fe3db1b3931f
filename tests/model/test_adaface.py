"""AdaFace: its network, block by block against numpy, and as an exported program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.load import parse_arch  # noqa: E402
from shitu_cli.errors import ConfigError  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.backbones.adaface import ResidualBlock  # noqa: E402
from shitu_cli.model.weights import load_backbone  # noqa: E402
from tests.engines import assert_every_engine_agrees  # noqa: E402


@pytest.fixture(scope="module")
def model() -> paddle.nn.Layer:
    paddle.seed(0)
    network = build_rec_model({"Backbone": {"name": "AdaFace_IR_18", "input_size": [112, 112]}})
    network.eval()
    return network


def test_its_parameters_have_the_published_names_and_shapes(model: paddle.nn.Layer) -> None:
    shapes = {name: list(tensor.shape) for name, tensor in model.backbone.state_dict().items()}
    norm = ("weight", "bias", "_mean", "_variance")
    expected = {"input_layer.0.weight": [64, 3, 3, 3], "input_layer.2._weight": [64]}
    expected |= {f"input_layer.1.{key}": [64] for key in norm}
    channels = 64
    for number in range(8):
        width, block = 64 << number // 2, f"body.{number}"
        if channels != width:
            expected[f"{block}.shortcut_layer.0.weight"] = [width, channels, 1, 1]
            expected |= {f"{block}.shortcut_layer.1.{key}": [width] for key in norm}
        expected[f"{block}.res_layer.1.weight"] = [width, channels, 3, 3]
        expected[f"{block}.res_layer.3._weight"] = [width]
        expected[f"{block}.res_layer.4.weight"] = [width, width, 3, 3]
        expected |= {f"{block}.res_layer.0.{key}": [channels] for key in norm}
        expected |= {f"{block}.res_layer.{place}.{key}": [width] for place in (2, 5) for key in norm}
        channels = width
    expected |= {f"output_layer.0.{key}": [512] for key in norm} | {f"output_layer.4.{key}": [512] for key in norm[2:]}
    expected |= {"output_layer.3.weight": [512 * 49, 512], "output_layer.3.bias": [512]}
    assert shapes == expected


def test_files_of_paddle_2_hold_two_constants_more(model: paddle.nn.Layer, tmp_path: Path) -> None:
    state = dict(model.backbone.state_dict())
    state |= {"output_layer.4.weight": paddle.ones([512]), "output_layer.4.bias": paddle.zeros([512])}
    paddle.save(state, str(tmp_path / "old.pdparams"))
    assert load_backbone(model.backbone, tmp_path / "old.pdparams") == []


def convolve(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Convolve [C, H, W] with [O, C, k, k] and 'same' padding."""
    k = weight.shape[2]
    padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
    places = range(0, x.shape[1], stride)
    return np.array([[[(padded[:, i : i + k, j : j + k] * w).sum() for j in places] for i in places] for w in weight])


@pytest.mark.parametrize(("out", "stride"), [(3, 2), (3, 1), (5, 2)])
def test_a_block_is_what_its_formula_says(out: int, stride: int) -> None:
    rng, block = np.random.default_rng(2), ResidualBlock(3, out, stride)
    for tensor in block.state_dict().values():
        tensor.set_value(rng.uniform(0.2, 1.0, tensor.shape).astype("float32"))
    block.eval()
    state = {name: tensor.numpy().astype(float) for name, tensor in block.state_dict().items()}
    image = rng.standard_normal((3, 6, 6))

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        weight, bias, mean, variance = (
            state[f"{name}.{key}"][:, None, None] for key in ("weight", "bias", "_mean", "_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias

    x = norm(convolve(norm(image, "res_layer.0"), state["res_layer.1.weight"], 1), "res_layer.2")
    x = np.where(x > 0, x, x * state["res_layer.3._weight"][:, None, None])
    expected = norm(convolve(x, state["res_layer.4.weight"], stride), "res_layer.5")
    if out == 3:
        expected += image[:, ::stride, ::stride]
    else:
        expected += norm(convolve(image, state["shortcut_layer.0.weight"], stride), "shortcut_layer.1")
    assert np.allclose(block(paddle.to_tensor(image[None].astype("float32"))).numpy()[0], expected, rtol=1e-4)


def test_images_of_another_size_are_refused_by_the_config_and_by_the_network(model: paddle.nn.Layer) -> None:
    with pytest.raises(ConfigError, match="made for 112"):
        model(paddle.zeros([1, 3, 96, 96]))
    with pytest.raises(ConfigError, match=r"input_size: got \[100, 100\], expected \[112, 112\] or \[224, 224\]"):
        parse_arch({"Backbone": {"name": "AdaFace_IR_50", "input_size": [100, 100]}})


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pdmodel", "pir"])
def test_the_exported_program_gives_its_features(model: paddle.nn.Layer, form: str, tmp_path: Path) -> None:
    images = np.random.default_rng(3).standard_normal((2, 3, 112, 112)).astype("float32")
    assert_every_engine_agrees(model, images, tmp_path, form)
