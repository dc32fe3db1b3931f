"""The loss of learning from a teacher, whose answers for the images of a batch are among the outputs.

`outputs["teacher_labels"]` [N, C] are its probabilities of the classes, `outputs["teacher_features"]` [N, D] its unit
features.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.layers import Linear
from shitu_cli.model.losses.pairs import Outputs, unit


class TeacherLoss(nn.Layer):
    """Cross entropy with the teacher's probabilities (Hinton et al. 2015, arXiv:1503.02531), and a cosine.

    The cosine is that of the teacher's feature and a linear layer on the student's, which is trained with it and left
    out afterwards, as the two features have sizes of their own (Romero et al. 2015, arXiv:1412.6550). Rows beyond the
    labels are of images without any, whose probabilities count whole: there is no label to share with.
    """

    def __init__(self, part: parts.TeacherLoss) -> None:
        super().__init__()
        self.soft_labels, self.feature_weight = part.soft_labels, part.features
        self.link: nn.Layer | None = None

    def connect(self, student: int, teacher: int) -> None:
        """Create the linear layer between features of these sizes, if the loss compares features."""
        if self.feature_weight:
            self.link = Linear(student, teacher)

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        terms = []
        if self.soft_labels:
            values = self.cross_entropies(outputs["logits"], outputs["teacher_labels"])
            count = values.shape[0] if labels is None else labels.shape[0]
            total = self.soft_labels * values[:count].sum()
            if count < values.shape[0]:
                total = total + values[count:].sum()
            terms.append(total / values.shape[0])
        if self.link is not None:
            x = outputs["features"]
            x = self.link(x.reshape([x.shape[0], -1]))
            cosine = (unit(x) * outputs["teacher_features"]).sum(1).mean()
            terms.append(self.feature_weight * (1 - cosine))
        return sum(terms[1:], start=terms[0])

    def cross_entropies(self, logits: paddle.Tensor, probabilities: paddle.Tensor) -> paddle.Tensor:
        """Return those [N] of logits [N, C or more] with probabilities [N, C]; further classes of the head get none."""
        log_p = F.log_softmax(logits, axis=1)[:, : probabilities.shape[1]]
        return -(probabilities * log_p).sum(1)
