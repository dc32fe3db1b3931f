"""Networks whose weights PyTorch users publish: their features against timm's, read from files with timm's names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402
from safetensors.numpy import save_file  # noqa: E402

from shitu_cli.errors import ConfigError, DataError  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.positions import resample_positions  # noqa: E402

NETWORKS = (
    "tf_efficientnet_lite0",
    "resnet50",
    "mobilenetv4_conv_small",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_dinov2@224<518",
    pytest.param("vit_base_patch32_clip_224", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def fill(golden_dir: Path) -> ModuleType:
    """The deterministic weights and images behind the reference outputs."""
    spec = importlib.util.spec_from_file_location("fill", golden_dir / "fill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(golden_dir: Path, fill: ModuleType) -> Callable[[str], dict[str, np.ndarray]]:
    networks = json.loads((golden_dir / "torch.json").read_text())

    def make(name: str) -> dict[str, np.ndarray]:
        return {key: fill.torch_weight(key, shape) for key, shape in networks[name]["state_dict"].items()}

    return make


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_those_of_timm(name: str, golden_dir: Path, fill: ModuleType, published, tmp_path: Path) -> None:
    save_file(published(name), tmp_path / "weights.safetensors")
    backbone = {"name": name.partition("@")[0], "pretrained": str(tmp_path / "weights.safetensors")}
    model = build_rec_model({"Backbone": backbone})
    model.eval()
    with paddle.no_grad():
        features = model(paddle.to_tensor(fill.images(2, 224)))["features"].numpy()
    expected = np.load(golden_dir / "torch_outputs.npz")[name]
    tolerance = 1e-3 if "@" in name else 1e-4
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() <= tolerance * np.abs(expected).max()


def test_a_missing_layer_of_a_published_file_is_named(published, tmp_path: Path) -> None:
    arrays = published("tf_efficientnet_lite0")
    del arrays["blocks.3.1.conv_dw.weight"]
    save_file(arrays, tmp_path / "cut.safetensors")
    with pytest.raises(DataError) as caught:
        build_rec_model(
            {"Backbone": {"name": "tf_efficientnet_lite0", "pretrained": str(tmp_path / "cut.safetensors")}}
        )
    assert any("blocks.3.1.conv_dw.weight" in detail for detail in caught.value.details)


def test_positions_of_a_constant_stay_constant_at_any_size() -> None:
    embedding = np.concatenate([np.full((1, 1, 3), 7.0), np.full((1, 37 * 37, 3), 0.25)], axis=1).astype(np.float32)
    small = resample_positions(embedding, 1 + 16 * 16, 1)
    assert small.shape == (1, 257, 3)
    assert np.allclose(small[:, 0], 7.0) and np.allclose(small[:, 1:], 0.25, atol=1e-6)


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_is_tensorflows_in_training_and_in_evaluation(size: int, kernel: int) -> None:
    from shitu_cli.model.backbones.blocks import SameConv2D

    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 4, size, size)).astype(np.float32)
    conv = SameConv2D(4, 4, kernel, 2, groups=4)
    out = -(-size // 2)
    before = ((out - 1) * 2 + kernel - size) // 2
    padded = np.zeros((2, 4, size + kernel, size + kernel), np.float32)
    padded[:, :, before : before + size, before : before + size] = image
    weight = conv.weight.numpy()[:, 0]
    expected = np.zeros((2, 4, out, out), np.float32)
    for row in range(out):
        for column in range(out):
            window = padded[:, :, 2 * row : 2 * row + kernel, 2 * column : 2 * column + kernel]
            expected[:, :, row, column] = (window * weight).sum((2, 3))
    for training in (False, True):
        conv.train() if training else conv.eval()
        assert np.allclose(conv(paddle.to_tensor(image)).numpy(), expected, atol=1e-5), training


def test_images_of_another_size_than_the_transformers_are_refused() -> None:
    model = build_rec_model({"Backbone": {"name": "vit_tiny_patch16_224", "img_size": 32}})
    with pytest.raises(ConfigError, match="32"):
        model(paddle.zeros([1, 3, 48, 48]))
    with pytest.raises(ConfigError, match="multiple of the patch size 16"):
        build_rec_model({"Backbone": {"name": "vit_tiny_patch16_224", "img_size": 40}})
