"""Triplet losses: the hardest positive of each anchor against its hardest negative, inside the batch."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

from shitu_cli.errors import ConfigError
from shitu_cli.model.losses.memory import MemoryMixin
from shitu_cli.model.losses.pairs import FAR, PairLoss, largest, masks, row_mean, smallest, squared_distances


class TripletLossV2(PairLoss):
    """max(0, d(a, p) - d(a, n) + margin) with Euclidean distances (Hermans et al. 2017, arXiv:1703.07737)."""

    def __init__(self, margin: float = 0.5, normalize_feature: bool = True, feature_from: str = "features") -> None:
        super().__init__(feature_from, normalize_feature)
        self.margin = float(margin)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = paddle.sqrt(squared_distances(x, x) + 1e-12)
        near, far = smallest(distance, negative), largest(distance, positive)
        return row_mean(F.relu(far - near + self.margin), (near < FAR / 2) & (far > -FAR / 2))


class TripletLoss(TripletLossV2):
    """TripletLossV2 on features of any length."""

    def __init__(self, margin: float = 1.0, feature_from: str = "features") -> None:
        super().__init__(margin, False, feature_from)


class TriHardLoss(PairLoss):
    """As TripletLossV2 with squared distances of unit features.

    `batch_size` and `samples_each_class` are accepted because published configs give them; masks need neither.
    """

    def __init__(
        self,
        batch_size: int = 120,
        samples_each_class: int = 2,
        margin: float = 0.1,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from)
        self.margin = float(margin)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = squared_distances(x, x)
        near, far = smallest(distance, negative), largest(distance, positive)
        return row_mean(F.relu(far - near + self.margin), (near < FAR / 2) & (far > -FAR / 2))


class MSMLoss(PairLoss):
    """Margin sample mining (Xiao et al. 2017, arXiv:1710.00478): the hardest pair of the whole batch."""

    def __init__(
        self,
        batch_size: int = 120,
        samples_each_class: int = 2,
        margin: float = 0.1,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from)
        self.margin = float(margin)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = squared_distances(x, x)
        far, near = largest(distance, positive).max(), smallest(distance, negative).min()
        usable = (near < FAR / 2) & (far > -FAR / 2)
        return row_mean(F.relu(far - near + self.margin).reshape([1]), usable.reshape([1]))


class TripletAngularMarginLoss(PairLoss):
    """max(0, cos(a, n) - cos(a, p) + margin) of the hardest pairs; PP-ShiTuV2's metric loss.

    `add_absolute` adds `absolute_loss_weight` times the mean shortfalls max(0, ap_value - cos(a, p)) and
    max(0, cos(a, n) - an_value). `reduction` is mean or sum.
    """

    def __init__(
        self,
        margin: float = 0.5,
        normalize_feature: bool = True,
        reduction: str = "mean",
        add_absolute: bool = False,
        absolute_loss_weight: float = 1.0,
        ap_value: float = 0.9,
        an_value: float = 0.5,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from, normalize_feature)
        if reduction not in ("mean", "sum"):
            raise ConfigError(f"Loss.{type(self).__name__}.reduction: got {reduction}, expected mean or sum")
        self.margin, self.reduction = float(margin), reduction
        self.absolute_weight = float(absolute_loss_weight) if add_absolute else 0.0
        self.ap_value, self.an_value = float(ap_value), float(an_value)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return self.against(x, labels, x, *masks(labels))

    def against(
        self, x: paddle.Tensor, labels: paddle.Tensor, others: paddle.Tensor, positive: paddle.Tensor,
        negative: paddle.Tensor,
    ) -> paddle.Tensor:  # fmt: skip
        """The loss of anchors x with pairs among `others`, which the masks [N, M] choose."""
        cosine = paddle.matmul(x, others, transpose_y=True)
        worst, closest = smallest(cosine, positive), largest(cosine, negative)
        rows = (worst < FAR / 2) & (closest > -FAR / 2)
        count = rows.astype("float32").sum() if self.reduction == "sum" else 1.0
        loss = row_mean(F.relu(closest - worst + self.margin), rows) * count
        if self.absolute_weight:
            absolute = row_mean(F.relu(self.ap_value - worst), rows) + row_mean(F.relu(closest - self.an_value), rows)
            loss = loss + absolute * self.absolute_weight
        return loss


class TripletAngularMarginLoss_XBM(MemoryMixin, TripletAngularMarginLoss):
    """TripletAngularMarginLoss that also compares with features of the latest `xbm_size` samples."""

    def __init__(
        self,
        start_iter: int,
        xbm_size: int,
        xbm_weight: float,
        feat_dim: int,
        margin: float = 0.5,
        normalize_feature: bool = True,
        reduction: str = "mean",
        add_absolute: bool = False,
        absolute_loss_weight: float = 1.0,
        ap_value: float = 0.9,
        an_value: float = 0.5,
        feature_from: str = "features",
    ) -> None:
        super().__init__(
            margin, normalize_feature, reduction, add_absolute, absolute_loss_weight, ap_value, an_value, feature_from
        )
        self.init_memory(start_iter, xbm_size, xbm_weight, feat_dim)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        loss = super().compute(x, labels)
        if not self.remember(x, labels):
            return loss
        others, positive, negative = self.recall(labels)
        return loss + self.against(x, labels, others, positive, negative) * self.xbm_weight
