"""Losses over all pairs of a batch."""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.memory import MemoryMixin
from shitu_cli.model.losses.pairs import (
    PairLoss,
    largest,
    masked_logsumexp,
    masked_sum,
    masks,
    row_mean,
    smallest,
    squared_distances,
)


class ContrastiveLoss(PairLoss):
    """Σ (1 - cos) over positives and Σ cos over negatives above `margin`, per anchor, averaged.

    Pairs closer than `epsilon` count as the same image.
    """

    part: parts.ContrastiveLoss

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return self.against(x, x, *masks(labels))

    def against(
        self, x: paddle.Tensor, others: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> paddle.Tensor:
        """Return the loss of anchors x [N, D] paired with `others` [M, D] where the masks [N, M] are true."""
        cosine = paddle.matmul(x, others, transpose_y=True)
        pull = masked_sum(1.0 - cosine, positive & (cosine < 1.0 - self.part.epsilon))
        return (pull + masked_sum(cosine, negative & (cosine > self.part.margin))).mean()


class ContrastiveLoss_XBM(MemoryMixin, ContrastiveLoss):
    """ContrastiveLoss that also compares with features of the latest `xbm_size` samples."""

    part: parts.ContrastiveLoss_XBM

    def __init__(self, part: parts.ContrastiveLoss_XBM) -> None:
        super().__init__(part)
        self.init_memory(part.embedding_size)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        loss = super().compute(x, labels)
        if not self.remember(x, labels):
            return loss
        return loss + self.against(x, *self.recall(labels)) * self.part.xbm_weight


class SupConLoss(PairLoss):
    """Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362), mean over anchors that have a positive.

    Every sample is an anchor.
    """

    part: parts.SupConLoss

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        logits = paddle.matmul(x, x, transpose_y=True) / self.part.temperature
        log_p = logits - masked_logsumexp(logits, positive | negative).reshape([-1, 1])
        count = positive.astype("float32").sum(axis=1)
        mean = masked_sum(log_p, positive) / paddle.clip(count, min=1.0)
        return row_mean(-mean * (self.part.temperature / self.part.base_temperature), count > 0)


class PairwiseCosface(PairLoss):
    """softplus(logsumexp(-γ s_p) + logsumexp(γ (s_n + m))), circle loss on pairs (arXiv:2002.10857)."""

    part: parts.PairwiseCosface

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        cosine = paddle.matmul(x, x, transpose_y=True)
        pull = masked_logsumexp(-self.part.gamma * cosine, positive)
        push = masked_logsumexp(self.part.gamma * (cosine + self.part.margin), negative)
        return row_mean(F.softplus(pull + push), positive.any(axis=1) & negative.any(axis=1))


class MultiSimilarity(PairLoss):
    """Multi-similarity loss with its pair mining (Wang et al. 2019, arXiv:1904.06627)."""

    part: parts.MultiSimilarity

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        part, (positive, negative) = self.part, masks(labels)
        cosine = paddle.matmul(x, x, transpose_y=True)
        fixed = cosine.detach()
        hardest_negative = largest(fixed, negative).reshape([-1, 1])
        hardest_positive = smallest(fixed, positive).reshape([-1, 1])
        positive = positive & (fixed - part.epsilon < hardest_negative)
        negative = negative & (fixed + part.epsilon > hardest_positive)
        pull = F.softplus(masked_logsumexp(-part.alpha * (cosine - part.base), positive)) / part.alpha
        push = F.softplus(masked_logsumexp(part.beta * (cosine - part.base), negative)) / part.beta
        return row_mean(pull + push, positive.any(axis=1) & negative.any(axis=1))


class EmlLoss(PairLoss):
    """Ensemble metric learning (Huang et al. 2012, arXiv:1212.6094), on features of any length.

    log(1 + β · mean_p,n exp(d_p - d_n)) / log(1 + β) with squared distances. Computed with logarithms, so that nothing
    overflows.
    """

    normalize_feature = False
    BETA = 100000.0

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        distance = squared_distances(x, x)
        n_positive = paddle.clip(positive.astype("float32").sum(axis=1), min=1.0)
        n_negative = paddle.clip(negative.astype("float32").sum(axis=1), min=1.0)
        spread = masked_logsumexp(distance, positive) + masked_logsumexp(-distance, negative)
        exponent = spread - paddle.log(n_positive) - paddle.log(n_negative)
        return row_mean(
            F.softplus(exponent + math.log(self.BETA)) / math.log(1 + self.BETA),
            positive.any(axis=1) & negative.any(axis=1),
        )


class NpairsLoss(PairLoss):
    """N-pair loss (Sohn 2016): the first two samples of a class are anchor and positive, others' positives negatives.

    `reg_lambda` weighs half the mean squared length of the features.
    """

    part: parts.NpairsLoss
    normalize_feature = False

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        first, second = _couples(labels)
        penalty = 0.5 * self.part.reg_lambda * (x * x).sum(axis=1).mean()
        if not first:
            return penalty
        anchors = paddle.gather(x, paddle.to_tensor(first))
        positives = paddle.gather(x, paddle.to_tensor(second))
        logits = paddle.matmul(anchors, positives, transpose_y=True)
        return F.cross_entropy(logits, paddle.arange(len(first)).reshape([-1, 1])) + penalty


def _couples(labels: paddle.Tensor) -> tuple[list[int], list[int]]:
    """Return disjoint couples of equal labels, in order of appearance."""
    waiting: dict[int, int] = {}
    first, second = [], []
    for index, label in enumerate(labels.numpy().tolist()):
        if label in waiting:
            first.append(waiting.pop(label))
            second.append(index)
        else:
            waiting[label] = index
    return first, second
