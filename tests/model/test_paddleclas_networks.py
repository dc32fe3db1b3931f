"""PaddleClas's networks for its recipes: sizes, names of the published weights, and first values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.parts.backbones import ViTShape  # noqa: E402
from shitu_cli.config.reader import make_part  # noqa: E402
from shitu_cli.errors import ConfigError  # noqa: E402
from shitu_cli.model.backbones import alexnet, build_backbone, vgg  # noqa: E402
from shitu_cli.model.backbones.clip_vit import CLIPViT  # noqa: E402


@pytest.mark.parametrize(
    ("name", "parameters", "names"),
    [
        ("MobileNetV1", 4_231_976, ("conv.conv.weight", "blocks.12.pointwise_conv.bn._mean", "fc.bias")),
        ("ResNet18", 11_693_736, ("blocks.0.short.conv.weight", "blocks.0.short.bn._mean", "fc.weight")),
        ("AlexNet", 61_100_840, ("_conv1._conv.weight", "_conv3.bias", "_fc8.weight")),
    ],
)
def test_networks_have_the_published_size_and_names(name: str, parameters: int, names: tuple[str, ...]) -> None:
    network = build_backbone(name)
    assert sum(int(p.size) for p in network.parameters() if not p.stop_gradient) == parameters
    assert set(names) <= network.state_dict().keys()
    assert network.feature_size == 1000


def test_layers_begin_with_the_spread_that_paddleclas_gives_them() -> None:
    resnet = build_backbone("ResNet18", class_num=100)
    assert np.abs(resnet.fc.weight.numpy()).max() == pytest.approx(512**-0.5, rel=1e-3)  # uniform
    convolution = resnet.blocks[0].short.conv.weight.numpy()  # normal, by the inputs of a value
    assert convolution.std() == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    sizes = {"embedding_size": 300, "class_num": 100}
    for head in ("FC", "ArcMargin", "CosMargin", "CircleMargin"):
        more = {"margin": 0.3, "scale": 30.0} if head == "CircleMargin" else {}
        layer = make_part("head", head, **sizes, **more).build()
        weights = max(layer.parameters(), key=lambda parameter: parameter.size).numpy()
        assert weights.std() == pytest.approx((2 / 400) ** 0.5, rel=0.03), head  # Xavier, normal


@pytest.mark.parametrize(("name", "side", "maps"), [("AlexNet", 192, "5x5"), ("VGG11", 64, "2x2")])
def test_images_of_another_size_are_refused(name: str, side: int, maps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by an error of numpy about a product: the linear layers take maps of one size."""
    for module in (alexnet, vgg):
        monkeypatch.setattr(module, "HIDDEN", 8)
    network = build_backbone(name, class_num=4)
    with pytest.raises(ConfigError, match=f"leave maps of {maps}.* made for images of 224x224 pixels") as caught:
        network(paddle.zeros([1, 3, side, side]))
    assert "Global.image_shape" in str(caught.value.hint)


def test_vgg_ends_in_a_code() -> None:
    network = build_backbone("VGG11", class_num=48)
    assert sum(int(p.size) for p in network.parameters()) == 128_960_240  # its convolutions have no bias
    assert {"conv_block_1.conv1.weight", "conv_block_5.conv2.weight", "fc3.bias"} <= network.state_dict().keys()
    assert [name for name, _ in network.steps()][-4:] == ["flatten", "fc1", "fc2", "fc3"]
    hidden = paddle.randn([5, 4096]) * 100
    network.sigmoid = make_part("backbone", "VGG19Sigmoid").sigmoid
    codes = network._fc3(hidden).numpy()
    assert codes.shape == (5, 48) and codes.min() >= 0 and codes.max() <= 1 and codes.std() > 0.3


def test_max_pooling_is_at_the_end_of_its_resnet() -> None:
    network = build_backbone("ResNet50_adaptive_max_pool2d")
    network.stop_after("avg_pool")
    maps = paddle.to_tensor(np.random.default_rng(0).standard_normal((1, 4, 3, 3)).astype("float32"))
    np.testing.assert_array_equal(network.avg_pool(maps).numpy().reshape(-1), maps.numpy().max((2, 3)).reshape(-1))


@pytest.mark.parametrize("patches_only", [False, True])
def test_clip_averages_the_projected_tokens(patches_only: bool) -> None:
    """The class token counts in all but the base network of patch 16."""
    shape = ViTShape(8, 32, 2, depth=2, pre_norm=True, epsilon=1e-5, projected=16, patches_only=patches_only)
    network = CLIPViT(SimpleNamespace(shape=shape, side=32))
    names = network.state_dict().keys()
    assert {"ln_pre.weight", "proj", "cls_token", "pos_embed", "blocks.1.attn.qkv.bias", "norm.bias"} <= names
    assert "patch_embed.proj.bias" not in names and network.proj.shape == [32, 16]
    network.eval()
    images = paddle.randn([2, 3, 32, 32])
    with paddle.no_grad():
        tokens = network.norm(network.blocks(network.ln_pre(network._embed(images))))
        expected = paddle.matmul(tokens[:, 1:] if patches_only else tokens, network.proj).mean(1).numpy()
        got = network(images).numpy()
    assert tokens.shape == [2, 17, 32]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert float(network.blocks[0].mlp.fc1.weight.std()) == pytest.approx(0.02, abs=0.002)
    assert float(network.blocks[0].mlp.fc1.bias.abs().max()) == 0


def test_which_clip_leaves_its_class_token_out() -> None:
    for name, patches_only in (("CLIP_vit_base_patch16_224", True), ("CLIP_vit_large_patch14_224", False)):
        part = make_part("backbone", name, return_embed=True, return_mean_embed=True)
        assert (part.shape.patches_only, part.shape.projected) == (patches_only, 512)


def test_branches_of_the_second_lcnet_begin_as_its_other_convolutions() -> None:
    network = build_backbone("PPLCNetV2_small")
    for name, parameter in network.named_parameters():
        if "dw_conv_list" in name and name.endswith("conv.weight"):
            fan_in = parameter.shape[1] * parameter.shape[2] * parameter.shape[3]
            assert float(parameter.std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.25), name
