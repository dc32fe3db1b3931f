"""Heads: from a feature to class logits. The margin heads compare directions (cosines) with class centres.

With labels and in training mode a head applies its margin to the target logit and scales; otherwise the plain
cosines come out. Weights have shape [feature, class], as published.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, nn

from shitu_cli.model.cosine import cosine_logits


class FC(nn.Layer):
    """A plain linear classifier."""

    def __init__(self, embedding_size: int, class_num: int, bias_attr: bool = True) -> None:
        super().__init__()
        self.in_size, self.class_num = embedding_size, class_num
        weight = ParamAttr(initializer=nn.initializer.XavierNormal())
        self.fc = nn.Linear(embedding_size, class_num, weight_attr=weight, bias_attr=None if bias_attr else False)

    def forward(self, x: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        return self.fc(x)


class MarginHead(nn.Layer):
    """Cosines of feature [N, D] and centres [D, C]; subclasses change them for training."""

    def __init__(self, embedding_size: int, class_num: int, scale: float) -> None:
        super().__init__()
        self.in_size, self.class_num, self.scale = embedding_size, class_num, float(scale)
        self.weight = self.create_parameter(
            [embedding_size, class_num], default_initializer=nn.initializer.XavierNormal()
        )

    def cosines(self, x: paddle.Tensor) -> paddle.Tensor:
        return cosine_logits(x, self.weight)

    def forward(self, x: paddle.Tensor, labels: paddle.Tensor | None = None) -> paddle.Tensor:
        cosines = self.cosines(x)
        if not self.training or labels is None:
            return cosines
        return self.margin_logits(cosines, labels.reshape([-1, 1]))

    def margin_logits(self, cosines: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Scaled logits [N, C] with the target's cosine replaced by `target(cosine)`; labels are [N, 1]."""
        target = paddle.take_along_axis(cosines, labels, 1)
        return paddle.put_along_axis(cosines, labels, self.target(target), 1) * self.scale

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        """What training sees in place of the target's cosine, [N, 1] → [N, 1]."""
        raise NotImplementedError


class ArcMargin(MarginHead):
    """Additive angular margin: cos(θ + m) (Deng et al. 2019, arXiv:1801.07698)."""

    def __init__(
        self,
        embedding_size: int,
        class_num: int,
        margin: float = 0.5,
        scale: float = 80.0,
        easy_margin: bool = False,
    ) -> None:
        super().__init__(embedding_size, class_num, scale)
        self.margin, self.easy_margin = float(margin), easy_margin

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        m = self.margin
        sine = paddle.sqrt(1.0 - paddle.square(cosine) + 1e-6)
        shifted = cosine * math.cos(m) - sine * math.sin(m)
        if self.easy_margin:
            return paddle.where(cosine > 0, shifted, cosine)
        return paddle.where(cosine > math.cos(math.pi - m), shifted, cosine - math.sin(m) * m)


class CosMargin(MarginHead):
    """Additive cosine margin: cos θ - m (Wang et al. 2018, arXiv:1801.09414); m = 0 is the plain cosine softmax."""

    def __init__(self, embedding_size: int, class_num: int, margin: float = 0.35, scale: float = 64.0) -> None:
        super().__init__(embedding_size, class_num, scale)
        self.margin = float(margin)

    def target(self, cosine: paddle.Tensor) -> paddle.Tensor:
        return cosine - self.margin


class CircleMargin(MarginHead):
    """Circle loss with class centres (Sun et al. 2020, arXiv:2002.10857): every cosine is weighted by its error."""

    def __init__(self, embedding_size: int, class_num: int, margin: float, scale: float) -> None:
        super().__init__(embedding_size, class_num, scale)
        self.margin = float(margin)

    def margin_logits(self, cosines: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        m = self.margin
        negative = F.relu(cosines.detach() + m) * (cosines - m)
        target = paddle.take_along_axis(cosines, labels, 1)
        positive = F.relu(1.0 + m - target.detach()) * (target - (1.0 - m))
        return paddle.put_along_axis(negative, labels, positive, 1) * self.scale


HEADS: dict[str, Callable[..., nn.Layer]] = {
    "FC": FC,
    "ArcMargin": ArcMargin,
    "CosMargin": CosMargin,
    "CircleMargin": CircleMargin,
}
