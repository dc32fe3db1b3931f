"""Losses by their published names, and their weighted sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import paddle
from paddle import nn

from shitu_cli.config.schema import LossItem
from shitu_cli.model.construct import construct
from shitu_cli.model.losses import centers, contrastive, triplet
from shitu_cli.model.losses.classification import CELoss

LOSSES: dict[str, Callable[..., nn.Layer]] = {
    "CELoss": CELoss,
    "TripletLoss": triplet.TripletLoss,
    "TripletLossV2": triplet.TripletLossV2,
    "TriHardLoss": triplet.TriHardLoss,
    "MSMLoss": triplet.MSMLoss,
    "TripletAngularMarginLoss": triplet.TripletAngularMarginLoss,
    "TripletAngularMarginLoss_XBM": triplet.TripletAngularMarginLoss_XBM,
    "ContrastiveLoss": contrastive.ContrastiveLoss,
    "ContrastiveLoss_XBM": contrastive.ContrastiveLoss_XBM,
    "SupConLoss": contrastive.SupConLoss,
    "PairwiseCosface": contrastive.PairwiseCosface,
    "MultiSimilarity": contrastive.MultiSimilarity,
    "EmlLoss": contrastive.EmlLoss,
    "NpairsLoss": contrastive.NpairsLoss,
    "CenterLoss": centers.CenterLoss,
    "ProxyAnchor": centers.ProxyAnchor,
}


class CombinedLoss(nn.Layer):
    """Weighted sum of losses: loss(outputs, labels) → {"loss": total, name: part, ...}, each a scalar tensor.

    The parts are shown with their weight applied. State that a loss keeps (centres, memories) is in state_dict.
    """

    def __init__(self, items: Sequence[LossItem]) -> None:
        super().__init__()
        self.weights = [float(item.weight) for item in items]
        self.names = _unique([item.name for item in items])
        self.parts = nn.LayerList([construct(f"Loss.{item.name}", LOSSES, item.name, item.args) for item in items])

    def forward(self, outputs: Mapping[str, paddle.Tensor | None], labels: paddle.Tensor) -> dict[str, paddle.Tensor]:
        labels = labels.reshape([-1])
        values = {
            name: part(outputs, labels) * weight
            for name, part, weight in zip(self.names, self.parts, self.weights, strict=True)
        }
        total = sum(list(values.values())[1:], start=next(iter(values.values())))
        return {"loss": total, **values}


def build_loss(items: Sequence[LossItem]) -> CombinedLoss:
    """The weighted sum that a config's Loss block describes; raises ConfigError for unknown names or arguments."""
    with paddle.utils.unique_name.guard("loss_"):
        return CombinedLoss(items)


def _unique(names: list[str]) -> list[str]:
    return [f"{name}_{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]
