"""Triplet losses: the hardest positive of each anchor against its hardest negative, inside the batch."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.memory import MemoryMixin
from shitu_cli.model.losses.pairs import FAR, PairLoss, largest, masks, row_mean, smallest, squared_distances


class TripletLossV2(PairLoss):
    """max(0, d(a, p) - d(a, n) + margin) with Euclidean distances (Hermans et al. 2017, arXiv:1703.07737)."""

    part: parts.TripletLossV2 | parts.TripletLoss | parts.TriHardLoss

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = self.distances(x)
        near, far = smallest(distance, negative), largest(distance, positive)
        return row_mean(F.relu(far - near + self.part.margin), (near < FAR / 2) & (far > -FAR / 2))

    def distances(self, x: paddle.Tensor) -> paddle.Tensor:
        """Return those between all features, [N, N]."""
        return paddle.sqrt(squared_distances(x, x) + 1e-12)


class TripletLoss(TripletLossV2):
    """TripletLossV2 on features of any length."""

    normalize_feature = False


class TriHardLoss(TripletLossV2):
    """As TripletLossV2 with squared distances of unit features."""

    def distances(self, x: paddle.Tensor) -> paddle.Tensor:
        return squared_distances(x, x)


class MSMLoss(PairLoss):
    """Margin sample mining (Xiao et al. 2017, arXiv:1710.00478): the hardest pair of the whole batch."""

    part: parts.MSMLoss

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = squared_distances(x, x)
        far, near = largest(distance, positive).max(), smallest(distance, negative).min()
        usable = (near < FAR / 2) & (far > -FAR / 2)
        return row_mean(F.relu(far - near + self.part.margin).reshape([1]), usable.reshape([1]))


class TripletAngularMarginLoss(PairLoss):
    """max(0, cos(a, n) - cos(a, p) + margin) of the hardest pairs; PP-ShiTuV2's metric loss.

    `add_absolute` adds `absolute_loss_weight` times the mean shortfalls max(0, ap_value - cos(a, p)) and
    max(0, cos(a, n) - an_value). `reduction` is mean or sum.
    """

    part: parts.TripletAngularMarginLoss

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return self.against(x, labels, x, *masks(labels))

    def against(
        self, x: paddle.Tensor, labels: paddle.Tensor, others: paddle.Tensor, positive: paddle.Tensor,
        negative: paddle.Tensor,
    ) -> paddle.Tensor:  # fmt: skip
        """Return the loss of anchors x [N, D] paired with `others` [M, D] where the masks [N, M] are true."""
        part, cosine = self.part, paddle.matmul(x, others, transpose_y=True)
        worst, closest = smallest(cosine, positive), largest(cosine, negative)
        rows = (worst < FAR / 2) & (closest > -FAR / 2)
        count = rows.astype("float32").sum() if part.reduction == "sum" else 1.0
        loss = row_mean(F.relu(closest - worst + part.margin), rows) * count
        if part.add_absolute:
            absolute = row_mean(F.relu(part.ap_value - worst), rows) + row_mean(F.relu(closest - part.an_value), rows)
            loss = loss + absolute * part.absolute_loss_weight
        return loss


class TripletAngularMarginLoss_XBM(MemoryMixin, TripletAngularMarginLoss):
    """TripletAngularMarginLoss that also compares with features of the latest `xbm_size` samples."""

    part: parts.TripletAngularMarginLoss_XBM

    def __init__(self, part: parts.TripletAngularMarginLoss_XBM) -> None:
        super().__init__(part)
        self.init_memory(part.feat_dim)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        loss = super().compute(x, labels)
        if not self.remember(x, labels):
            return loss
        others, positive, negative = self.recall(labels)
        return loss + self.against(x, labels, others, positive, negative) * self.part.xbm_weight
