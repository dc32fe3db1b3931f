"""Sizes that `shitu models` shows, against published ones."""

import pytest

from shitu_cli.errors import UsageError
from shitu_cli.model.catalogue import describe_backbones, other_parts


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
