"""Losses between the outputs of several networks on the same images (`Arch.name: DistillationModel`).

`outputs["networks"]` holds the outputs of each by its name. Probabilities are compared as sums over the classes and
means over the images, as PaddleClas's recipes weigh them.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import losses as parts
from shitu_cli.model.losses.classification import CELoss, Outputs

TINY = 1e-12  # added to probabilities before a logarithm
FAR = 1000.0  # takes a class out of a softmax when it is subtracted from its logit


class DistillationGTCELoss(nn.Layer):
    """Cross entropy with the labels, summed over networks."""

    def __init__(self, part: parts.DistillationGTCELoss) -> None:
        super().__init__()
        self.names = part.model_names
        self.entropy = CELoss(parts.CELoss(epsilon=part.epsilon))

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        losses = [self.entropy(outputs["networks"][name], labels) for name in self.names]
        return sum(losses[1:], start=losses[0])


class PairDistillation(nn.Layer):
    """A loss between the output of a network and that of the one it learns from, summed over pairs."""

    part: parts.PairDistillation

    def __init__(self, part: parts.PairDistillation) -> None:
        super().__init__()
        self.part = part

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        networks, key = outputs["networks"], self.part.key
        losses = [self.compare(networks[a][key], networks[b][key], labels) for a, b in self.part.model_name_pairs]
        return sum(losses[1:], start=losses[0])

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        """Return the loss of x [N, ...] against `target` of the same shape, a scalar; labels are [N]."""
        raise NotImplementedError


class DistillationDMLLoss(PairDistillation):
    """Half the divergence of p from q and half that of q from p (Zhang et al. 2018, arXiv:1706.00384)."""

    part: parts.DistillationDMLLoss

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        if self.part.act == "softmax":
            p, q = F.softmax(x, axis=-1), F.softmax(target, axis=-1)
        else:
            p, q = F.sigmoid(x), F.sigmoid(target)
        return ((p - q) * (paddle.log(p + TINY) - paddle.log(q + TINY))).sum(-1).mean() / 2


class DistillationCELoss(PairDistillation):
    """Cross entropy with the probabilities of the other network as the target."""

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return -(F.softmax(target, axis=-1) * F.log_softmax(x, axis=-1)).sum(-1).mean()


class DistillationDistanceLoss(PairDistillation):
    """The mean over all values of |x - y|, (x - y)² or, smooth_l1, half the square up to a difference of 1."""

    part: parts.DistillationDistanceLoss

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        if self.part.mode == "l2":
            return F.mse_loss(x, target)
        return F.l1_loss(x, target) if self.part.mode == "l1" else F.smooth_l1_loss(x, target)


class DistillationKLDivLoss(PairDistillation):
    """T² times the divergence of softened probabilities (Hinton et al. 2015, arXiv:1503.02531)."""

    part: parts.DistillationKLDivLoss

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        temperature = self.part.temperature
        return _divergence(x / temperature, target / temperature) * temperature**2


class DistillationDKDLoss(PairDistillation):
    """Divergence in two parts (Zhao et al. 2022, arXiv:2203.08679): label against rest, and within the rest."""

    part: parts.DistillationDKDLoss

    def compare(self, x: paddle.Tensor, target: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        part = self.part
        x, target = x / part.temperature, target / part.temperature
        own = F.one_hot(labels, x.shape[-1])
        p, q = (F.softmax(logits, axis=-1) * own for logits in (x, target))
        p, q = p.sum(-1), q.sum(-1)  # probability of the label
        binary = q * (paddle.log(q + TINY) - paddle.log(p + TINY))
        binary += (1 - q) * (paddle.log(1 - q + TINY) - paddle.log(1 - p + TINY))
        rest = _divergence(x - FAR * own, target - FAR * own)
        return (part.alpha * binary.mean() + part.beta * rest) * part.temperature**2


def _divergence(x: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """Return the divergence of softmax(x) from softmax(target), the mean over rows."""
    log_p, log_q = F.log_softmax(x, axis=-1), F.log_softmax(target, axis=-1)
    return (paddle.exp(log_q) * (log_q - log_p)).sum(-1).mean()
