"""Losses of deep hashing: features whose signs are compared (`Global.feature_binarize: sign`), of any length.

Pairs are all of a batch, an image with itself included, as PaddleClas averages them.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.classification import CELoss
from shitu_cli.model.losses.pairs import Outputs, PairLoss, squared_distances, unit


def _same(labels: paddle.Tensor) -> paddle.Tensor:
    """Return 1.0 for pairs of one class, else 0.0, as [N, N]."""
    return (labels.reshape([-1, 1]) == labels.reshape([1, -1])).astype("float32")


class DSHSDLoss(PairLoss):
    """Stable distribution hashing (Wu et al. 2019, doi:10.1109/ACCESS.2019.2900489): cross entropy and distances.

    Two images of different classes should be as far apart as two random codes of D bits, 2·D as a squared distance.
    """

    part: parts.DSHSDLoss
    normalize_feature = False

    def __init__(self, part: parts.DSHSDLoss) -> None:
        super().__init__(part)
        self.entropy = CELoss(parts.CELoss())

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        labels = labels.reshape([-1])
        return self.entropy(outputs, labels) + self.compute(self.features(outputs), labels) * self.part.alpha

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        distance, same = squared_distances(x, x), _same(labels)
        apart = F.relu(2.0 * x.shape[1] - distance)
        return (same * distance + (1 - same) * apart).mean() / 2


class LCDSHLoss(PairLoss):
    """Locality-constrained hashing (Zhu and Gao 2017, doi:10.24963/ijcai.2017/499)."""

    part: parts.LCDSHLoss
    normalize_feature = False
    LIMIT = 50.0  # of inner products, beyond which nothing changes

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        product = paddle.clip(paddle.matmul(x, x, transpose_y=True) * 0.5, -self.LIMIT, self.LIMIT)
        codes = paddle.sign(x)
        of_codes = paddle.matmul(codes, codes, transpose_y=True) * 0.5
        likelihood = F.softplus((1 - 2 * _same(labels)) * product)
        change = paddle.square(F.sigmoid(product) - F.sigmoid(of_codes))
        return likelihood.mean() + self.part._lambda * change.mean()


class DCHLoss(PairLoss):
    """Deep Cauchy hashing (Cao et al. 2018, CVPR): pairs of a class within a few bits, values near -1 and 1."""

    part: parts.DCHLoss
    normalize_feature = False
    NEAREST = 0.99  # cosine up to which images are drawn together

    def compute(self, x: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        gamma, same = self.part.gamma, _same(labels)
        share = same.mean()
        # Each kind of pair counts half; if a batch has one kind only, each pair counts once.
        weight = same / share + (1 - same) / (1 - share) if 0 < float(share) < 1 else paddle.ones_like(same)
        distance = self._distance(paddle.matmul(unit(x), unit(x), transpose_y=True), x.shape[1])
        pairs = weight * (same * paddle.log(distance / gamma) + paddle.log1p(gamma / distance))
        magnitudes = paddle.abs(x)
        to_code = self._distance(unit(magnitudes).mean(1) * x.shape[1] ** 0.5, x.shape[1])
        return pairs.mean() + self.part._lambda * paddle.log1p(to_code / gamma).mean()

    def _distance(self, cosine: paddle.Tensor, bits: int) -> paddle.Tensor:
        """Return the distance in bits between codes of this cosine."""
        return (1 - paddle.clip(cosine, max=self.NEAREST)) * (bits / 2)
