"""PP-LCNet (Cui et al. 2021, arXiv:2109.15099): depthwise separable blocks with hardswish, 5x5 and SE at the end."""

from __future__ import annotations

import paddle
from paddle import ParamAttr, nn

from shitu_cli.config.parts import backbones as parts
from shitu_cli.model.backbones.base import Backbone, Level, Step
from shitu_cli.model.layers import Conv2D, ConvBNAct, DownscaleDropout, Linear, SqueezeExcite, make_divisible, tanh

# Per stage: (kernel, channels out at scale 1, squeeze-excite) of each block; the first block of stages 3-6 strides.
STAGES: dict[str, list[tuple[int, int, bool]]] = {
    "blocks2": [(3, 32, False)],
    "blocks3": [(3, 64, False), (3, 64, False)],
    "blocks4": [(3, 128, False), (3, 128, False)],
    "blocks5": [(3, 256, False)] + [(5, 256, False)] * 5,
    "blocks6": [(5, 512, True), (5, 512, True)],
}
CLASSES = 1000  # of ImageNet


class DepthwiseSeparable(nn.Layer):
    """Depthwise convolution, optional squeeze-excite, pointwise convolution."""

    def __init__(
        self, channels: int, out_channels: int, kernel: int, stride: int, use_se: bool, lr_mult: float
    ) -> None:
        super().__init__()
        init = nn.initializer.KaimingNormal()
        self.dw_conv = ConvBNAct(channels, channels, kernel, stride, groups=channels, lr_mult=lr_mult, init=init)
        self.se = SqueezeExcite(channels, lr_mult=lr_mult) if use_se else None
        self.pw_conv = ConvBNAct(channels, out_channels, 1, lr_mult=lr_mult, init=init)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.dw_conv(x)
        if self.se is not None:
            x = self.se(x)
        return self.pw_conv(x)


class PPLCNet(Backbone):
    """PP-LCNet of one width."""

    classifiers = ("fc.",)

    def __init__(self, part: parts.PPLCNet) -> None:
        super().__init__()
        scale, stride_list, lr_mult_list = part.scale, part.stride_list, part.lr_mult_list
        strides = dict(zip(["blocks3", "blocks4", "blocks5", "blocks6"], stride_list[1:], strict=True))
        channels = make_divisible(16 * scale)
        init = nn.initializer.KaimingNormal()
        self.conv1 = ConvBNAct(3, channels, 3, stride_list[0], lr_mult=lr_mult_list[0], init=init)
        self.levels, reach = [], stride_list[0]
        for (stage, blocks), lr_mult in zip(STAGES.items(), lr_mult_list[1:], strict=True):
            layers = []
            for index, (kernel, width, use_se) in enumerate(blocks):
                out = make_divisible(width * scale)
                stride = strides.get(stage, 1) if index == 0 else 1
                layers.append(DepthwiseSeparable(channels, out, kernel, stride, use_se, lr_mult))
                channels = out
            setattr(self, stage, nn.Sequential(*layers))
            reach *= strides.get(stage, 1)
            self.levels.append(Level(stage, channels, reach))
        self.map_channels = channels
        self.avg_pool = nn.AdaptiveAvgPool2D(1)
        self.use_last_conv = part.use_last_conv
        if part.use_last_conv:
            self.last_conv = Conv2D(channels, part.class_expand, 1, bias_attr=False)
            self.hardswish = nn.Hardswish()
            self.dropout = DownscaleDropout(part.dropout_prob)
            channels = part.class_expand
        self.flatten = nn.Flatten()
        self.fc = Linear(channels, part.class_num, weight_attr=ParamAttr(), bias_attr=ParamAttr())
        self.flat_channels = channels
        self.feature_size = part.class_num
        if part.class_num != CLASSES:
            self.may_stay_new = ("fc.",)  # published weights have the classifier of ImageNet there
        self.binary = part.tanh

    def steps(self) -> list[Step]:
        last = ("last_conv", "hardswish", "dropout", "flatten", "fc")
        steps = self.steps_of("conv1", *STAGES, "avg_pool", *last)
        return [*steps, ("tanh", tanh)] if self.binary and "fc" in self._sub_layers else steps

    def sizes(self) -> dict[str, int]:
        head = dict.fromkeys(["last_conv", "hardswish", "dropout"], self.flat_channels) if self.use_last_conv else {}
        return {"blocks6": self.map_channels, "avg_pool": self.map_channels, **head, "flatten": self.flat_channels}
