"""The networks against reference values of the published implementation, and how a wrong Arch is refused."""

import importlib.util
import json

import numpy as np
import pytest

from shitu_cli.errors import ConfigError
from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

import paddle  # noqa: E402

from shitu_cli.config.parts import KINDS  # noqa: E402
from shitu_cli.model import build_rec_model  # noqa: E402


@pytest.fixture(scope="module")
def golden(golden_dir):
    spec = importlib.util.spec_from_file_location("golden_fill", golden_dir / "fill.py")
    fill = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fill)
    arch = json.loads((golden_dir / "arch.json").read_text())
    return arch, np.load(golden_dir / "arch_outputs.npz"), fill


def small_arch(**changes):
    arch = {
        "Backbone": {"name": "PPLCNet_x0_25"},
        "BackboneStopLayer": {"name": "flatten"},
        "Neck": {"name": "FC", "embedding_size": 1280, "class_num": 32},
        "Head": {"name": "ArcMargin", "embedding_size": 32, "class_num": 5, "margin": 0.2, "scale": 30},
    }
    return {**arch, **changes}


WITH_OUTPUTS = [
    *(f"PPLCNet_x0_25-FC-{head}" for head in ("ArcMargin", "CircleMargin", "CosMargin", "FC")),
    *("PPLCNet_x1_0-FC-ArcMargin", "PPLCNet_x2_0-FC-ArcMargin", "PPLCNetV2_base_ShiTu-BNNeck-FC"),
    *("MobileNetV3_large_x1_0-FC-ArcMargin", "ResNet50_vd-FC-ArcMargin"),
]
WITH_NAMES_ALONE = [
    *(f"PPLCNet_x{width}-FC-ArcMargin" for width in ("0_35", "0_5", "0_75", "1_5", "2_5")),
    *("PPLCNetV2_base-FC-ArcMargin", "ResNet50-FC-ArcMargin", "ResNet50_last_stage_stride1-BNNeck-CircleMargin"),
]


@pytest.mark.parametrize("name", WITH_OUTPUTS + WITH_NAMES_ALONE)
def test_names_shapes_and_outputs_are_the_published_ones(golden, name):
    arch, outputs, fill = golden
    model = build_rec_model(arch[name]["arch"])
    assert {key: list(value.shape) for key, value in model.state_dict().items()} == arch[name]["state_dict"]
    if name in WITH_NAMES_ALONE:
        return
    for key, parameter in model.state_dict().items():
        parameter.set_value(fill.weight(key, list(parameter.shape)))
    model.eval()
    with paddle.no_grad():
        got = model(paddle.to_tensor(fill.images(2, arch[name]["input_size"])))
        model.head.train()
        got["train_logits"] = model.head(got["features"], paddle.to_tensor([1, 3]))
    for key in ("backbone", "features", "logits", "train_logits"):
        want = outputs[f"{name}/{key}"]
        assert np.abs(got[key].numpy() - want).max() <= 1e-4 * np.abs(want).max(), key


def test_without_neck_and_head_features_are_the_backbones():
    model = build_rec_model({"Backbone": {"name": "PPLCNet_x0_25"}, "BackboneStopLayer": {"name": "flatten"}})
    out = model(paddle.zeros([2, 3, 32, 32]))
    assert out["logits"] is None and model.class_num is None
    assert model.feature_size == 1280 and out["features"].shape == [2, 1280]


def test_sizes_that_do_not_fit_are_told_with_the_right_value():
    wrong = {"name": "ArcMargin", "embedding_size": 33, "class_num": 5}
    with pytest.raises(ConfigError, match=r"Arch\.Head\.embedding_size: got 33") as caught:
        build_rec_model(small_arch(Head=wrong))
    assert caught.value.hint == "set Arch.Head.embedding_size: 32"


def test_unknown_names_and_arguments_are_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="did you mean PPLCNet_x0_25"):
        build_rec_model(small_arch(Backbone={"name": "PPLCnet_x0_25"}))
    with pytest.raises(ConfigError, match=r"unknown key \(did you mean margin\?\)"):
        build_rec_model(small_arch(Head={"name": "ArcMargin", "embedding_size": 32, "class_num": 5, "margn": 1}))
    with pytest.raises(ConfigError, match="no layer flaten to stop at"):
        build_rec_model(small_arch(BackboneStopLayer={"name": "flaten"}))
    with pytest.raises(ConfigError, match="expected a list of 5 whole numbers"):
        build_rec_model(small_arch(Backbone={"name": "PPLCNet_x0_25", "stride_list": [2, 2, 2, 1]}))


def test_strides_widths_and_learning_rates_follow_the_arguments():
    backbone = {
        "name": "PPLCNet_x0_25",
        "stride_list": [1, 2, 2, 2, 2],
        "class_expand": 64,
        "lr_mult_list": [0, 1, 1, 1, 1, 2],
    }
    model = build_rec_model(
        {"Backbone": backbone, "BackboneStopLayer": {"name": "blocks6"}},
    )
    assert model(paddle.zeros([1, 3, 32, 32]))["backbone"].shape == [1, 128, 2, 2]
    assert model.backbone.conv1.conv.weight.optimize_attr["learning_rate"] == 0
    assert model.backbone.blocks6[1].pw_conv.bn.weight.optimize_attr["learning_rate"] == 2


def test_parameter_names_do_not_depend_on_what_was_built_before():
    first = [p.name for p in build_rec_model(small_arch()).parameters()]
    second = [p.name for p in build_rec_model(small_arch()).parameters()]
    assert first == second and len(set(first)) == len(first)


HEAVY = (
    *("ResNet101", "ResNet152", "ResNet34", "resnet", "tf_efficientnet_lite4", "vit_base", "PPLCNetV2_large"),
    *("AdaFace_IR_34", "AdaFace_IR_50", "AdaFace_IR_101"),
    *("VGG", "CLIP_vit"),  # of fixed size: test_paddleclas_networks has them
)
SIDES = {"AlexNet": 224, "AdaFace_IR_18": 112}  # networks of fixed size


@pytest.mark.parametrize("name", [n for n in KINDS["backbone"].names() if not n.startswith(HEAVY)])
def test_every_backbone_runs_and_trains(name):
    side, arch = SIDES.get(name, 32), {"Backbone": {"name": name}}
    if name.startswith("vit"):
        side = 28 if "patch14" in name else 32
        arch["Backbone"]["img_size"] = side
    elif not name.startswith("AdaFace"):
        arch["BackboneStopLayer"] = {"name": "flatten"}
    model = build_rec_model(arch)
    out = model(paddle.randn([2, 3, side, side]))["features"]
    assert out.shape == [2, model.feature_size]
    (out * out).mean().backward()
    assert all(p.grad is not None for p in model.parameters() if not p.stop_gradient)


def test_merged_branches_equal_the_branches():
    paddle.seed(1)
    model = build_rec_model({"Backbone": {"name": "PPLCNetV2_base_ShiTu"}, "BackboneStopLayer": {"name": "flatten"}})
    model(paddle.randn([4, 3, 32, 32]))  # moves the running statistics
    model.eval()
    model.reparameterize()
    block = model.backbone.stages[2][1]
    x = paddle.randn([2, 512, 4, 4])
    merged, branches = paddle.nn.functional.relu(block.dw_conv(x)), block.depthwise(x)
    assert np.abs((merged - branches).numpy()).max() < 1e-4


def test_published_attributes_of_necks_and_heads_are_applied():
    model = build_rec_model(
        {
            "Backbone": {"name": "PPLCNet_x0_25"},
            "BackboneStopLayer": {"name": "flatten_0"},
            "Neck": {
                "name": "BNNeck",
                "num_features": 1280,
                "weight_attr": {"initializer": {"name": "Constant", "value": 2.0}},
                "bias_attr": {"initializer": {"name": "Constant", "value": 0.0}, "learning_rate": 1.0e-20},
            },
            "Head": {"name": "FC", "embedding_size": 1280, "class_num": 3, "bias_attr": False},
        }
    )
    assert model.neck.feat_bn.weight.numpy().tolist() == [2.0] * 1280
    assert model.neck.feat_bn.bias.optimize_attr["learning_rate"] == 1.0e-20
    assert model.head.fc.bias is None


def test_vehicle_neck_takes_the_pooled_map():
    arch = {
        "Backbone": {"name": "PPLCNet_x0_25"},
        "BackboneStopLayer": {"name": "adaptive_avg_pool2d_0"},
        "Neck": {"name": "VehicleNeck", "in_channels": 128, "out_channels": 16},
    }
    model = build_rec_model(arch)
    assert model(paddle.zeros([2, 3, 32, 32]))["features"].shape == [2, 16]
    with pytest.raises(ConfigError, match=r"in_channels: got 64"):
        build_rec_model({**arch, "Neck": {"name": "VehicleNeck", "in_channels": 64, "out_channels": 16}})


def test_a_wrong_attribute_is_refused():
    head = {"name": "FC", "embedding_size": 32, "class_num": 5, "weight_attr": {"initialiser": 1}}
    with pytest.raises(ConfigError, match=r"Arch\.Head\.weight_attr\.initialiser: unknown key"):
        build_rec_model(small_arch(Head=head))
