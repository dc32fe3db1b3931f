"""The weighted sum of losses; each is built from its part in `config/parts/losses.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import paddle
from paddle import nn

from shitu_cli.config.parts.losses import Loss, factors
from shitu_cli.config.schema import DistillationConfig
from shitu_cli.model.losses.teacher import TeacherLoss
from shitu_cli.model.peers import Peers
from shitu_cli.reporting import Reporter


class CombinedLoss(nn.Layer):
    """Weighted sum of losses: loss(outputs, labels) → {"loss": total, name: part, ...}, each a scalar tensor.

    The parts are returned with their weight applied. The state of a loss (centres, memories) is in state_dict, and
    that of the `peers`: the networks that losses compare the trained one with.

    Rows of outputs beyond the labels are of images without any. Only a TeacherLoss looks at them. The sum is a mean
    over all images, so that the other losses are multiplied by the share of those with labels.
    """

    def __init__(self, items: Sequence[Loss], peers: Peers | None = None) -> None:
        super().__init__()
        self.weights = factors(items)
        self.names = _unique([item.name for item in items])
        self.parts = nn.LayerList([item.build() for item in items])
        self.peers = peers

    def forward(self, outputs: Mapping[str, paddle.Tensor | None], labels: paddle.Tensor) -> dict[str, paddle.Tensor]:
        labels = labels.reshape([-1])
        count = labels.shape[0]
        tensors = {name: value for name, value in outputs.items() if isinstance(value, paddle.Tensor)}
        rows = max([count, *(value.shape[0] for value in tensors.values())])
        labelled = outputs
        if rows > count:
            labelled = {**outputs, **{name: value[:count] for name, value in tensors.items()}}
        values = {
            name: part(outputs, labels) * weight
            if isinstance(part, TeacherLoss)
            else part(labelled, labels) * (weight * count / rows)
            for name, part, weight in zip(self.names, self.parts, self.weights, strict=True)
        }
        total = sum(list(values.values())[1:], start=next(iter(values.values())))
        return {"loss": total, **values}


def build_loss(
    items: Sequence[Loss], distillation: DistillationConfig | None = None, reporter: Reporter | None = None
) -> CombinedLoss:
    """Build the weighted sum that the Loss block of a config describes, with the networks that it compares with.

    `reporter` shows the download of weights of these.
    """
    with paddle.utils.unique_name.guard("loss_"):
        return CombinedLoss(items, None if distillation is None else Peers(distillation, reporter))


def _unique(names: list[str]) -> list[str]:
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
