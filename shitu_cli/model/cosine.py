"""Cosines between features and class centres, the costly part of a margin head."""

from __future__ import annotations

import paddle


def cosine_logits(x: paddle.Tensor, weight: paddle.Tensor) -> paddle.Tensor:
    """cos(x_i, w_j) as [N, C] for x [N, D] and weight [D, C]."""
    unit = x / paddle.sqrt((x * x).sum(1, keepdim=True))
    return paddle.matmul(unit, weight) / paddle.sqrt((weight * weight).sum(0, keepdim=True))
