"""Masks, distances and reductions that all pair losses use, valid for any composition of a batch.

No loss requires a number of samples per class. A row (anchor) without a positive or a negative is ignored, and a
batch without any usable row gives a loss of zero that still has a gradient (of zero).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import paddle
from paddle import nn

from shitu_cli.config.parts import losses as parts

Outputs = Mapping[str, paddle.Tensor]
FAR = 1e9  # larger than any distance between features


def masks(labels: paddle.Tensor, others: paddle.Tensor | None = None) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return (same label, other label) as boolean [N, M]; without `others`, a sample and itself are neither."""
    partners = labels if others is None else others
    same = labels.reshape([-1, 1]) == partners.reshape([1, -1])
    different = paddle.logical_not(same)
    if others is None:
        same = paddle.logical_and(same, paddle.eye(labels.shape[0], dtype="int32") == 0)
    return same, different


def unit(features: paddle.Tensor) -> paddle.Tensor:
    """Return the rows scaled to length 1."""
    return features / paddle.sqrt((features * features).sum(1, keepdim=True) + 1e-12)


def squared_distances(a: paddle.Tensor, b: paddle.Tensor) -> paddle.Tensor:
    """Return |a_i - b_j|², [N, M], never negative."""
    squares = (a * a).sum(1, keepdim=True) + (b * b).sum(1).reshape([1, -1])
    return paddle.clip(squares - 2.0 * paddle.matmul(a, b, transpose_y=True), min=0.0)


def largest(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the row maximum over `mask`, [N]; rows without an entry give -FAR."""
    return paddle.where(mask, values, paddle.full_like(values, -FAR)).max(axis=1)


def smallest(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the row minimum over `mask`, [N]; rows without an entry give FAR."""
    return paddle.where(mask, values, paddle.full_like(values, FAR)).min(axis=1)


def row_mean(values: paddle.Tensor, rows: paddle.Tensor) -> paddle.Tensor:
    """Return the mean of values [N] over the rows where `rows` [N] is true; 0 (with gradient 0) if there are none."""
    kept = paddle.where(rows, values, paddle.zeros_like(values))
    return kept.sum() / paddle.clip(rows.astype(values.dtype).sum(), min=1.0)


def masked_sum(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the row sums over `mask`, [N]."""
    return paddle.where(mask, values, paddle.zeros_like(values)).sum(axis=1)


def masked_logsumexp(values: paddle.Tensor, mask: paddle.Tensor) -> paddle.Tensor:
    """Return the row log-sum-exp over `mask`, [N]; very negative for rows without an entry."""
    return paddle.logsumexp(paddle.where(mask, values, paddle.full_like(values, -FAR)), axis=1)


class PairLoss(nn.Layer):
    """A loss on features and labels, with the settings of its `part`."""

    part: parts.PairLoss
    normalize_feature: ClassVar[bool] = True  # to length one; a part may have this as a setting

    def __init__(self, part: parts.PairLoss) -> None:
        super().__init__()
        self.part = part

    def features(self, outputs: Outputs) -> paddle.Tensor:
        x = outputs[self.part.feature_from]
        x = x.reshape([x.shape[0], -1])
        return unit(x) if getattr(self.part, "normalize_feature", self.normalize_feature) else x

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        return self.compute(self.features(outputs), labels.reshape([-1]))

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return the loss of features [N, D] with labels [N], a scalar."""
        raise NotImplementedError
