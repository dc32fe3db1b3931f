"""The pyramid neck against a plain twin, on every family of backbones, and through every exported format."""

import numpy as np
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402

from shitu_cli.deployment.onnx_model import write_onnx_model  # noqa: E402
from shitu_cli.features.backends import onnx_session, paddle_predictor  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.model.backbones import build_backbone  # noqa: E402
from shitu_cli.model.tracing import write_paddle_model  # noqa: E402

FAMILIES = [
    "PPLCNet_x0_25",
    "PPLCNetV2_base_ShiTu",
    "ResNet18",
    "ResNet50_last_stage_stride1",
    "MobileNetV3_small_x0_35",
]
ODD = [2, 3, 75, 112]  # 75 halves to 38, 19, 10, 5, 3: every enlarged map is cut


def pyramid_model(backbone="PPLCNet_x0_25", **neck):
    block = {"name": "FPN", "embedding_size": 1280, "class_num": 16, "channels": 8, **neck}
    head = {"name": "FC", "embedding_size": block["class_num"], "class_num": 3}
    stop = {"name": "flatten"}
    return build_rec_model({"Backbone": {"name": backbone}, "BackboneStopLayer": stop, "Neck": block, "Head": head})


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_say_what_the_stages_give(name):
    backbone = build_backbone(name)
    backbone.stop_after("flatten")
    backbone.eval()
    with paddle.no_grad():
        plain = backbone(paddle.ones([1, 3, 64, 96]))
        out, maps = backbone.forward_maps(paddle.ones([1, 3, 64, 96]), [level.layer for level in backbone.levels])
    assert (out == plain).all().item()
    assert len(backbone.levels) >= 4
    for level, got in zip(backbone.levels, maps, strict=True):
        assert got.shape == [1, level.channels, 64 // level.stride, 96 // level.stride]


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_equals_a_plain_twin(levels):
    model = pyramid_model(levels=levels)
    model.eval()
    neck, images = model.neck, paddle.randn(ODD)
    with paddle.no_grad():
        got = model(images)["features"]
        raw, maps = model.backbone.forward_maps(images, [f"blocks{n}" for n in range(2, 7)][-levels:])
        above, parts = None, []
        for place in range(levels - 1, -1, -1):
            lateral = neck.lateral[place](maps[place])
            if above is not None:
                doubled = above.numpy().repeat(2, axis=2).repeat(2, axis=3)
                lateral = lateral + paddle.to_tensor(doubled[:, :, : lateral.shape[2], : lateral.shape[3]])
            above = lateral
            parts.insert(0, neck.smooth[place](lateral).mean(axis=[2, 3]))
        want = F.linear(paddle.concat([raw, *parts], axis=1), neck.fc.weight, neck.fc.bias)
    assert got.shape == [2, 16] and float((got - want).abs().max()) < 1e-5


def test_every_parameter_learns():
    model = pyramid_model()
    model.train()
    model(paddle.randn(ODD), paddle.to_tensor([0, 1]))["logits"].square().sum().backward()
    idle = [name for name, p in model.named_parameters() if not p.stop_gradient and not float(p.grad.abs().max())]
    assert idle == []


@pytest.mark.parametrize("size", [None, (75, 112)])
@pytest.mark.parametrize("form", ["pdmodel", "pir"])
def test_exported_features_are_the_networks(tmp_path, form, size):
    model = pyramid_model()
    model.eval()
    images = paddle.randn(ODD)
    with paddle.no_grad():
        want = model(images)["features"].numpy()
    write_paddle_model(model, tmp_path / "inference", form=form, size=size)
    file = tmp_path / ("inference.pdmodel" if form == "pdmodel" else "inference.json")
    np.testing.assert_allclose(paddle_predictor(file, threads=1)(images.numpy()), want, atol=1e-5)
    if form == "pdmodel":
        write_onnx_model(file, tmp_path / "inference.onnx")
        np.testing.assert_allclose(onnx_session(tmp_path / "inference.onnx")(images.numpy()), want, atol=1e-5)


def test_a_norm_may_keep_its_statistics():
    block = {"name": "BNNeck", "num_features": 1280, "use_global_stats": True}
    stop = {"name": "flatten"}
    neck = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": stop, "Neck": block}).neck
    features = paddle.randn([4, 1280]) + 3
    neck.train()
    learning = neck(features).numpy()
    assert not neck.feat_bn._mean.numpy().any()
    neck.eval()
    np.testing.assert_allclose(learning, neck(features).numpy(), rtol=1e-6)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"Arch\.Neck\.levels: got 9, the backbone has 5 stages"):
        pyramid_model(levels=9)
    with pytest.raises(ConfigError, match=r"Arch\.Neck\.levels: got 1, expected a whole number of at least 2"):
        pyramid_model(levels=1)
    with pytest.raises(ConfigError, match=r"Arch\.Neck\.embedding_size: got 1280, but the layer before it returns 512"):
        pyramid_model("ResNet18")
