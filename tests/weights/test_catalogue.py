"""The catalogue: names as people type them, complete entries, and facts that the publishers' own programs state."""

from __future__ import annotations

import pytest

from shitu_cli.config.parts import KINDS
from shitu_cli.errors import UsageError
from shitu_cli.weights.catalogue import CATALOGUE, find_published, published_at, published_for


def test_names_are_found_by_what_people_type() -> None:
    assert find_published("PP-ShiTu-V2").network == "PPLCNetV2_base_ShiTu"
    assert find_published("vit_small_patch14_dinov2").name == "vit_small_patch14_dinov2.lvd142m"
    # Two networks whose names differ in their first letter only: timm's and PaddleClas's.
    assert find_published("resnet50").network == "resnet50" and find_published("ResNet50").network == "ResNet50"
    with pytest.raises(UsageError, match="did you mean") as caught:
        find_published("PPLCNet_x3_0")
    assert "./PPLCNet_x3_0" in str(caught.value.hint)
    assert [entry.name for entry in published_for("PPLCNet_x2_5")] == ["PPLCNet_x2_5"]
    assert [entry.name for entry in published_for("PPLCNet_x2_5", distilled=True)] == ["PPLCNet_x2_5_ssld"]
    assert published_for("PPLCNet_x0_35", distilled=True) == []
    assert [entry.name for entry in published_for("PPLCNetV2_base_ShiTu")] == ["pp-shitu-v2"]


def test_every_entry_is_complete() -> None:
    files = [entry.file_name for entry in CATALOGUE.values()]
    assert len(set(files)) == len(files)
    for entry in CATALOGUE.values():
        assert entry.network in KINDS["backbone"].parts, entry.name
        assert entry.addresses or entry.package, entry.name
        assert all(address.startswith("https://") for address in entry.addresses), entry.name
        assert all(published_at(address) == entry for address in entry.addresses), entry.name


def test_every_network_that_is_published_is_listed() -> None:
    """PaddleClas names no address for the weights of its AdaFace networks."""
    listed = {entry.network for entry in CATALOGUE.values()}
    missing = {name for name in KINDS["backbone"].parts if not any(name.startswith(known) for known in listed)}
    assert missing == {f"AdaFace_IR_{depth}" for depth in (18, 34, 50, 101)}


def test_addresses_as_their_publishers_give_them() -> None:
    legendary = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models"
    paddlex = "https://paddle-model-ecology.bj.bcebos.com/paddlex/official_pretrained_model"
    for name, addresses in {
        "PPLCNetV2_large": (
            f"{legendary}/PPLCNetV2_large_pretrained.pdparams",
            f"{paddlex}/PP-LCNetV2_large_pretrained.pdparams",
        ),
        "ResNet152_vd": (
            f"{legendary}/ResNet152_vd_pretrained.pdparams",
            f"{paddlex}/ResNet152_vd_pretrained.pdparams",
        ),
        "ResNet34_vd_ssld": (f"{legendary}/ResNet34_vd_ssld_pretrained.pdparams",),
        "pp-shitu-v2-clip-base": (
            "https://paddleclas.bj.bcebos.com/models/PP-ShiTu/PP-ShiTuV2_rec_CLIP_vit_base_pretrained.pdparams",
            f"{paddlex}/PP-ShiTuV2_rec_CLIP_vit_base_pretrained.pdparams",
        ),
        "resnet18.tv_in1k": ("https://download.pytorch.org/models/resnet18-f37072fd.pth",),
    }.items():
        assert CATALOGUE[name].addresses == addresses
    assert CATALOGUE["resnet18.tv_in1k"].sha256 == "f37072fd"
