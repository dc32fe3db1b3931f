"""PP-LCNetV2 (arXiv:2109.15099, second version; github.com/PaddlePaddle/PaddleClas): parallel depthwise branches.

Blocks of the last two stages train branches of kernel 5, 3 and 1, which are merged into one 5x5 convolution
(`dw_conv`) for export. The ShiTu variant keeps the last stage's resolution and ends in a linear feature.
"""

from __future__ import annotations

from functools import partial

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import Conv2D, ConvBNAct, DownscaleDropout, Linear, SigmoidExcite, make_divisible

# Channels in, then the settings of the blocks: kernel, split pointwise, parallel branches, squeeze-excite, shortcut.
STAGES: list[tuple[int, tuple[int, bool, bool, bool, bool]]] = [
    (64, (3, False, False, False, False)),
    (128, (3, False, False, False, False)),
    (256, (5, True, True, True, False)),
    (512, (5, False, True, False, True)),
]


class RepDepthwiseSeparable(nn.Layer):
    """Depthwise convolution (one, or parallel branches), optional squeeze-excite, one or two pointwise ones."""

    def __init__(
        self,
        channels: int,
        out_channels: int,
        stride: int,
        kernel: int = 3,
        split_pw: bool = False,
        branches: bool = False,
        use_se: bool = False,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.branches, self.split_pw, self.kernel, self.merged = branches, split_pw, kernel, False
        self.shortcut = shortcut and stride == 1 and channels == out_channels
        conv = partial(ConvBNAct, act="relu", init=nn.initializer.KaimingNormal())
        if branches:
            sizes = [size for size in range(kernel, 0, -2) if size > 1 or stride == 1]
            self.dw_conv_list = nn.LayerList(
                [conv(channels, channels, size, stride, groups=channels, act=None) for size in sizes]
            )
            self.dw_conv: nn.Layer = nn.Conv2D(channels, channels, kernel, stride, padding=kernel // 2, groups=channels)
            for parameter in self.dw_conv.parameters():  # computed from the branches, never trained
                parameter.stop_gradient = True
        else:
            self.dw_conv = conv(channels, channels, kernel, stride, groups=channels)
        self.se = SigmoidExcite(channels) if use_se else None
        if split_pw:
            self.pw_conv_1 = conv(channels, out_channels // 2, 1)
            self.pw_conv_2 = conv(out_channels // 2, out_channels, 1)
        else:
            self.pw_conv = conv(channels, out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        y = self.depthwise(x)
        if self.se is not None:
            y = self.se(y)
        y = self.pw_conv_2(self.pw_conv_1(y)) if self.split_pw else self.pw_conv(y)
        return x + y if self.shortcut else y

    def depthwise(self, x: paddle.Tensor) -> paddle.Tensor:
        if not self.branches:
            return self.dw_conv(x)
        # Eager calls always go through the branches: a merged kernel would be stale after the next update.
        if self.merged and not self.training and not paddle.in_dynamic_mode():
            return F.relu(self.dw_conv(x))
        first, *others = self.dw_conv_list
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return F.relu(y)

    @paddle.no_grad()
    def reparameterize(self) -> None:
        """Store the sum of the branches, with the running statistics of their norms, in dw_conv."""
        if not self.branches:
            return
        weight, bias = paddle.zeros_like(self.dw_conv.weight), paddle.zeros_like(self.dw_conv.bias)
        for branch in self.dw_conv_list:
            bn = branch.bn
            factor = bn.weight / paddle.sqrt(bn._variance + bn._epsilon)
            pad = (self.kernel - branch.conv.weight.shape[-1]) // 2
            weight += F.pad(branch.conv.weight * factor.reshape([-1, 1, 1, 1]), [pad] * 4)
            bias += bn.bias - bn._mean * factor
        self.dw_conv.weight.set_value(weight)
        self.dw_conv.bias.set_value(bias)
        self.merged = True


class PPLCNetV2(Backbone):
    """PP-LCNetV2; `shitu` is the variant for recognition (no activation at the end, last stage stride 1)."""

    classifiers = ("fc.",)

    def __init__(self, part: parts.PPLCNetV2) -> None:
        super().__init__()
        shitu, depths = part.shitu, part.depths or part.variant_depths
        scale = part.variant_scale if part.scale is None else part.scale
        if shitu:  # published ImageNet weights are of the other variant and lack these
            self.may_stay_new = ("last_conv.", "stages.3.0.dw_conv_list.2.")
        width = make_divisible(32 * scale)
        init = nn.initializer.KaimingNormal()
        self.stem = nn.Sequential(
            ConvBNAct(3, width, 3, 2, act="relu", init=init),
            RepDepthwiseSeparable(width, make_divisible(64 * scale), 1),
        )
        stages, reach = [], 2
        self.levels = []
        for index, ((channels, settings), depth) in enumerate(zip(STAGES, depths, strict=True)):
            first, out = make_divisible(channels * scale), make_divisible(channels * 2 * scale)
            stride = 1 if shitu and index == len(STAGES) - 1 else 2
            blocks = [RepDepthwiseSeparable(first, out, stride, *settings)]
            blocks += [RepDepthwiseSeparable(out, out, 1, *settings) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            reach *= stride
            self.levels.append(Level(f"stages.{index}", out, reach))
        self.stages = nn.Sequential(*stages)
        self.map_channels, self.flat_channels = out, part.class_expand
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.last_conv = Conv2D(out, part.class_expand, 1, bias_attr=None if shitu else False)
        self.act = nn.Identity() if shitu else nn.ReLU()
        self.dropout = DownscaleDropout(part.dropout_prob)
        self.flatten = nn.Flatten()
        self.fc = Linear(part.class_expand, part.class_num)
        self.feature_size = part.class_num

    def steps(self) -> list[Step]:
        return self.steps_of("stem", "stages", "avg_pool", "last_conv", "act", "dropout", "flatten", "fc")

    def sizes(self) -> dict[str, int]:
        flat = dict.fromkeys(["last_conv", "act", "dropout", "flatten"], self.flat_channels)
        return {"stages": self.map_channels, "avg_pool": self.map_channels, **flat}

    def reparameterize(self) -> None:
        """Merge the branches of every block; only programs traced afterwards use the merged kernels."""
        for layer in self.sublayers():
            if isinstance(layer, RepDepthwiseSeparable):
                layer.reparameterize()
