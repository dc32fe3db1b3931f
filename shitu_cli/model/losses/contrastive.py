"""Losses over all pairs of a batch."""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F

from shitu_cli.errors import ConfigError
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

    Pairs closer than `epsilon` count as the same image. `embedding_size` is accepted because published configs
    give it.
    """

    def __init__(
        self,
        margin: float = 0.5,
        embedding_size: int | None = None,
        normalize_feature: bool = True,
        epsilon: float = 1e-5,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from, normalize_feature)
        self.margin, self.epsilon = float(margin), float(epsilon)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return self.against(x, x, *masks(labels))

    def against(
        self, x: paddle.Tensor, others: paddle.Tensor, positive: paddle.Tensor, negative: paddle.Tensor
    ) -> paddle.Tensor:
        """The loss of anchors x with pairs among `others`, which the masks [N, M] choose."""
        cosine = paddle.matmul(x, others, transpose_y=True)
        pull = masked_sum(1.0 - cosine, positive & (cosine < 1.0 - self.epsilon))
        return (pull + masked_sum(cosine, negative & (cosine > self.margin))).mean()


class ContrastiveLoss_XBM(MemoryMixin, ContrastiveLoss):
    """ContrastiveLoss that also compares with features of the latest `xbm_size` samples."""

    def __init__(
        self,
        start_iter: int,
        xbm_size: int,
        xbm_weight: float,
        embedding_size: int,
        margin: float = 0.5,
        normalize_feature: bool = True,
        epsilon: float = 1e-5,
        feature_from: str = "features",
    ) -> None:
        super().__init__(margin, embedding_size, normalize_feature, epsilon, feature_from)
        self.init_memory(start_iter, xbm_size, xbm_weight, embedding_size)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        loss = super().compute(x, labels)
        if not self.remember(x, labels):
            return loss
        return loss + self.against(x, *self.recall(labels)) * self.xbm_weight


class SupConLoss(PairLoss):
    """Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362), mean over anchors that have a positive.

    `views` and `contrast_mode` are accepted because published configs give them; every sample is an anchor.
    """

    def __init__(
        self,
        views: int = 16,
        temperature: float = 0.07,
        contrast_mode: str = "all",
        base_temperature: float = 0.07,
        normalize_feature: bool = True,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from, normalize_feature)
        if contrast_mode != "all":
            raise ConfigError(f"Loss.SupConLoss.contrast_mode: got {contrast_mode}, only all is supported")
        self.temperature, self.base_temperature = float(temperature), float(base_temperature)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        logits = paddle.matmul(x, x, transpose_y=True) / self.temperature
        log_p = logits - masked_logsumexp(logits, positive | negative).reshape([-1, 1])
        count = positive.astype("float32").sum(axis=1)
        mean = masked_sum(log_p, positive) / paddle.clip(count, min=1.0)
        return row_mean(-mean * (self.temperature / self.base_temperature), count > 0)


class PairwiseCosface(PairLoss):
    """softplus(logsumexp(-γ s_p) + logsumexp(γ (s_n + m))), circle loss on pairs (arXiv:2002.10857)."""

    def __init__(self, margin: float, gamma: float, feature_from: str = "features") -> None:
        super().__init__(feature_from)
        self.margin, self.gamma = float(margin), float(gamma)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        cosine = paddle.matmul(x, x, transpose_y=True)
        pull = masked_logsumexp(-self.gamma * cosine, positive)
        push = masked_logsumexp(self.gamma * (cosine + self.margin), negative)
        return row_mean(F.softplus(pull + push), positive.any(axis=1) & negative.any(axis=1))


class MultiSimilarity(PairLoss):
    """Multi-similarity loss with its pair mining (Wang et al. 2019, arXiv:1904.06627)."""

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        epsilon: float = 0.1,
        feature_from: str = "features",
    ) -> None:
        super().__init__(feature_from)
        self.alpha, self.beta, self.base, self.epsilon = float(alpha), float(beta), float(base), float(epsilon)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        positive, negative = masks(labels)
        cosine = paddle.matmul(x, x, transpose_y=True)
        fixed = cosine.detach()
        hardest_negative = largest(fixed, negative).reshape([-1, 1])
        hardest_positive = smallest(fixed, positive).reshape([-1, 1])
        positive = positive & (fixed - self.epsilon < hardest_negative)
        negative = negative & (fixed + self.epsilon > hardest_positive)
        pull = F.softplus(masked_logsumexp(-self.alpha * (cosine - self.base), positive)) / self.alpha
        push = F.softplus(masked_logsumexp(self.beta * (cosine - self.base), negative)) / self.beta
        return row_mean(pull + push, positive.any(axis=1) & negative.any(axis=1))


class EmlLoss(PairLoss):
    """Ensemble metric learning (Huang et al. 2012, arXiv:1212.6094), on features of any length.

    log(1 + β · mean_p,n exp(d_p - d_n)) / log(1 + β) with squared distances. It is computed from logarithms, so
    that nothing overflows.
    """

    THRESHOLD, BETA = 20.0, 100000.0

    def __init__(self, batch_size: int = 40, samples_each_class: int = 2, feature_from: str = "features") -> None:
        super().__init__(feature_from, normalize_feature=False)

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

    def __init__(self, reg_lambda: float = 0.01, feature_from: str = "features") -> None:
        super().__init__(feature_from, normalize_feature=False)
        self.reg_lambda = float(reg_lambda)

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        first, second = _couples(labels)
        penalty = 0.5 * self.reg_lambda * (x * x).sum(axis=1).mean()
        if not first:
            return penalty
        anchors = paddle.gather(x, paddle.to_tensor(first))
        positives = paddle.gather(x, paddle.to_tensor(second))
        logits = paddle.matmul(anchors, positives, transpose_y=True)
        return F.cross_entropy(logits, paddle.arange(len(first)).reshape([-1, 1])) + penalty


def _couples(labels: paddle.Tensor) -> tuple[list[int], list[int]]:
    """Disjoint couples of equal labels, in order of appearance."""
    waiting: dict[int, int] = {}
    first, second = [], []
    for index, label in enumerate(labels.numpy().tolist()):
        if label in waiting:
            first.append(waiting.pop(label))
            second.append(index)
        else:
            waiting[label] = index
    return first, second
