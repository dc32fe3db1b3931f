"""The loss of learning from a teacher, whose features of the images of a batch are `outputs["teacher"]` [N, D]."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.pairs import FAR, Outputs, unit


class TeacherLoss(nn.Layer):
    """Cross entropy between how the teacher and the student rank the other images of the batch.

    Each image's cosines with all others become probabilities (softmax of cosine / temperature), in the features of
    the teacher and of the student, whose sizes may differ (as in Abbasi Koohpayegani et al. 2020, arXiv:2010.14713,
    with the batch in place of a memory). It is lowest where the student's neighbours are the teacher's.
    """

    def __init__(self, part: parts.TeacherLoss) -> None:
        super().__init__()
        self.temperature, self.feature_from = part.temperature, part.feature_from

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        x = outputs[self.feature_from]
        return self.compute(x.reshape([x.shape[0], -1]), outputs["teacher"])

    def compute(self, x: paddle.Tensor, teacher: paddle.Tensor) -> paddle.Tensor:
        """Return the loss of features x [N, D] given the teacher's [N, E], a scalar."""
        log_p, target = (self._log_ranking(features) for features in (x, teacher))
        return -(paddle.exp(target) * log_p).sum(1).mean()

    def _log_ranking(self, features: paddle.Tensor) -> paddle.Tensor:
        """Return logarithms of probabilities [N, N] of the others as the neighbour of each image."""
        features = unit(features)
        itself = paddle.eye(features.shape[0]) * FAR
        return F.log_softmax(paddle.matmul(features, features, transpose_y=True) / self.temperature - itself, axis=1)
