"""Sizes that `shitu models` shows, against published ones."""

import itertools
from pathlib import Path

import pytest

from shitu_cli.cli.models import command_for
from shitu_cli.config.load import load_config
from shitu_cli.errors import UsageError
from shitu_cli.model.backbones import build_backbone
from shitu_cli.model.catalogue import describe_backbones, other_parts
from shitu_cli.templates import read_template


def test_sizes_are_the_published_ones():
    (info,) = describe_backbones("PPLCNet_x1_0", 224)
    # 2.96 M parameters and 161 M MACs with the classifier of 1280 x 1000
    assert info.parameters + 1280 * 1000 + 1000 == pytest.approx(2.96e6, rel=0.01)
    assert info.macs + 1280 * 1000 == pytest.approx(161e6, rel=0.05)  # which counts norms and activations too
    assert info.feature_size == 1280


def test_an_unknown_name_is_refused():
    with pytest.raises(UsageError, match="no network has resnext"):
        describe_backbones("resnext", 64)


def test_other_parts_are_listed():
    parts = other_parts()
    assert "BNNeck" in parts["necks"] and "ArcMargin" in parts["heads"] and "CELoss" in parts["losses"]


@pytest.mark.parametrize(
    "network", ["PPLCNet_x0_25", "PPLCNetV2_base", "ResNet18", "MobileNetV1_x0_25", "vit_small_patch16_224"]
)
def test_the_command_that_the_list_of_networks_proposes_is_one_that_trains(network: str, tmp_path: Path) -> None:
    """Arguments of the config's own network must not stay: others do not know them."""
    (row,) = [row for row in describe_backbones(network, 224) if row.name == network]
    words = command_for(row).words
    overrides = [value for name, value in itertools.pairwise(words) if name == "-o"]
    (tmp_path / "shitu.yaml").write_text(read_template("general_v2"))
    config = load_config(tmp_path / "shitu.yaml", overrides)
    assert config.Arch.backbone.name == network


def test_branches_of_pplcnetv2_begin_as_wide_as_theirs() -> None:
    """PaddleClas draws them by Kaiming's rule, far wider than Paddle's default for convolutions."""
    network = build_backbone("PPLCNetV2_base")
    for name, parameter in network.named_parameters():
        if name.endswith("conv.weight") and parameter.shape[0] * parameter.shape[1] > 4096:
            fan = parameter.shape[1] * parameter.shape[2] * parameter.shape[3]
            assert float(parameter.std()) == pytest.approx((2 / fan) ** 0.5, rel=0.15), name
