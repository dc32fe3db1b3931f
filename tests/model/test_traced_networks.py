"""Networks as exported programs: the same features, checked and run as strangers' models are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.backbones import alexnet  # noqa: E402
from tests.engines import assert_every_engine_agrees  # noqa: E402

NETWORKS = {
    "tf_efficientnet_lite0": ({}, 33),
    "mobilenetv4_conv_small": ({}, 32),
    "vit_tiny_patch16_224": ({"img_size": 32}, 32),
    "vit_small_patch14_reg4_dinov2": ({"img_size": 28}, 28),
    "vit_base_patch16_siglip_224": ({"img_size": 32}, 32),
    "ResNet50_adaptive_max_pool2d": ({}, 32),
}


@pytest.mark.parametrize("form", ["pdmodel", "pir"])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if "small_patch14" in name or "base" in name or "50" in name
        else name
        for name in NETWORKS
    ],
)
def test_the_exported_program_gives_the_networks_features(name: str, form: str, tmp_path: Path) -> None:
    arguments, side = NETWORKS[name]
    paddle.seed(1)
    model = build_rec_model({"Backbone": {"name": name, **arguments}})
    model.eval()
    images = np.random.default_rng(0).standard_normal((3, 3, side, side)).astype(np.float32)
    assert_every_engine_agrees(model, images, tmp_path, form)


@pytest.mark.slow
def test_networks_with_linear_layers_on_maps_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alexnet, "HIDDEN", 16)
    model = build_rec_model({"Backbone": {"name": "AlexNet", "class_num": 8}, "Neck": {"name": "Tanh"}})
    model.eval()
    images = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    assert_every_engine_agrees(model, images, tmp_path, "pdmodel")
