"""How often the head is right on the batches that it learns from, as PaddleClas's Metric.Train logs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import paddle

from shitu_cli.config.parts.metrics import TopkAcc
from shitu_cli.config.schema import Config
from shitu_cli.model.heads import MarginHead

_USUAL = (1, 5)  # of PaddleClas


def topk_of_training(config: Config) -> tuple[int, ...]:
    """Return for which k training counts the images whose label is among the k largest logits; () for none."""
    return tuple(dict.fromkeys(k for metric in config.train_metrics for k in _numbers(metric)))


def _numbers(metric: TopkAcc) -> tuple[int, ...]:
    return (metric.topk,) if isinstance(metric.topk, int) else metric.topk or _USUAL


@paddle.no_grad()
def accuracies(outputs: Mapping[str, Any], labels: paddle.Tensor, topk: Sequence[int]) -> dict[str, paddle.Tensor]:
    """Return `top1`, `top5` and so on of a batch, scalars; {} where the head gives no logits of all classes.

    A k beyond the number of classes is left out, as in PaddleClas. With a margin head, the logits have their margin.
    """
    logits = outputs.get("logits")
    if not topk or logits is None or "logit_labels" in outputs:
        return {}
    some = [k for k in topk if k <= logits.shape[1]]
    if not some:
        return {}
    nearest = logits[: labels.shape[0]].topk(max(some), axis=1)[1]
    right = (nearest == labels.reshape([-1, 1])).astype("float32")
    return {f"top{k}": right[:, :k].sum(axis=1).mean() for k in some}


def accuracy_remarks(config: Config, head: Any) -> list[str]:
    """Return a remark if Metric.Train asks for what this head does not compute in training."""
    if not config.train_metrics or not isinstance(head, MarginHead) or not (head.fused or head.sample_ratio < 1):
        return []
    return ["Metric.Train has no effect: this head of many classes learns without computing the logits of all of them"]
