"""Losses that learn a point for each class."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.pairs import FAR, PairLoss, unit


class CenterLoss(PairLoss):
    """Mean squared distance of a feature to its class centre (Wen et al. 2016); the centres are trained."""

    normalize_feature = False

    def __init__(self, part: parts.CenterLoss) -> None:
        super().__init__(part)
        self.centers = self.create_parameter(
            [part.num_classes, part.feat_dim], default_initializer=nn.initializer.Normal()
        )

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        difference = x - F.embedding(labels, self.centers)
        return (difference * difference).sum(axis=1).mean()


class ProxyAnchor(PairLoss):
    """Proxy anchor loss (Kim et al. 2020, arXiv:2003.13911): every class has a trained proxy that is the anchor."""

    part: parts.ProxyAnchor

    def __init__(self, part: parts.ProxyAnchor) -> None:
        super().__init__(part)
        self.proxies = self.create_parameter(
            [part.num_classes, part.feat_dim], default_initializer=nn.initializer.KaimingNormal()
        )

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        margin, alpha, classes = self.part.margin, self.part.alpha, self.part.num_classes
        cosine = paddle.matmul(unit(self.proxies), x, transpose_y=True)  # [C, N]
        own = paddle.arange(classes).reshape([-1, 1]) == labels.reshape([1, -1])
        far = paddle.full_like(cosine, -FAR)
        pull = F.softplus(paddle.logsumexp(paddle.where(own, -alpha * (cosine - margin), far), axis=1))
        push = F.softplus(paddle.logsumexp(paddle.where(own, far, alpha * (cosine + margin)), axis=1))
        present = own.any(axis=1).astype("float32").sum()
        return pull.sum() / paddle.clip(present, min=1.0) + push.sum() / classes
