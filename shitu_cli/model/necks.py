"""Necks: from the backbone's output to the feature that is compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle
from paddle import ParamAttr, nn

from shitu_cli.errors import ConfigError
from shitu_cli.model.layers import parameter_attr

Attr = Mapping[str, Any] | bool | None


class FC(nn.Layer):
    """A linear layer, `embedding_size` in, `class_num` out (the published name for the size of the feature)."""

    def __init__(self, embedding_size: int, class_num: int, weight_attr: Attr = None, bias_attr: Attr = True) -> None:
        super().__init__()
        self.in_size, self.feature_size = embedding_size, class_num
        weight = parameter_attr("Arch.Neck.weight_attr", weight_attr, nn.initializer.XavierNormal())
        self.fc = nn.Linear(embedding_size, class_num, weight, parameter_attr("Arch.Neck.bias_attr", bias_attr))

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.fc(x)


class BNNeck(nn.Layer):
    """Batch norm on the feature (Luo et al. 2019, arXiv:1903.07071)."""

    def __init__(self, num_features: int, weight_attr: Attr = None, bias_attr: Attr = None) -> None:
        super().__init__()
        self.in_size = self.feature_size = num_features
        self.feat_bn = nn.BatchNorm1D(
            num_features,
            weight_attr=parameter_attr("Arch.Neck.weight_attr", weight_attr),
            bias_attr=parameter_attr("Arch.Neck.bias_attr", bias_attr),
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.feat_bn(x)


class VehicleNeck(nn.Layer):
    """A 1x1 convolution on the pooled map, flattened."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_size, self.feature_size = in_channels, out_channels
        self.conv = nn.Conv2D(in_channels, out_channels, 1)
        self.flatten = nn.Flatten()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.flatten(self.conv(x))


class FCBN(nn.Layer):
    """A linear layer without bias and batch norm on its output: steadier features for small data."""

    def __init__(self, embedding_size: int, class_num: int) -> None:
        super().__init__()
        self.in_size, self.feature_size = embedding_size, class_num
        weight = ParamAttr(initializer=nn.initializer.XavierNormal())
        self.fc = nn.Linear(embedding_size, class_num, weight_attr=weight, bias_attr=False)
        self.feat_bn = nn.BatchNorm1D(class_num)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.feat_bn(self.fc(x))


class Identity(nn.Layer):
    """The feature as the backbone gives it."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


NECKS: dict[str, Callable[..., nn.Layer]] = {
    "FC": FC,
    "BNNeck": BNNeck,
    "VehicleNeck": VehicleNeck,
    "FCBN": FCBN,
    "Identity": Identity,
}


def check_size(key: str, wanted: int, got: int) -> None:
    """Raise ConfigError when a layer at config key `key` takes `wanted` values and receives `got`."""
    if wanted != got:
        raise ConfigError(f"{key}: got {wanted}, but what comes before it gives {got} values", hint=f"set {key}: {got}")
