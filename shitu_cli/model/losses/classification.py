"""Losses on class logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import paddle
import paddle.nn.functional as F
from paddle import nn

from shitu_cli.config.parts import losses as parts
from shitu_cli.errors import ConfigError

Outputs = Mapping[str, Any]


class CELoss(nn.Layer):
    """Cross entropy, the mean over the batch; `epsilon` smooths the target: (1 - ε) on the label, ε / C on all."""

    def __init__(self, part: parts.CELoss) -> None:
        super().__init__()
        self.epsilon = part.epsilon or 0.0

    def forward(self, outputs: Outputs, labels: paddle.Tensor) -> paddle.Tensor:
        sums = outputs.get("softmax")  # from a head of very many classes
        if sums is not None:
            loss, uniform = (sums.log_sum - sums.target).mean(), (sums.log_sum - sums.mean).mean()
            return loss * (1.0 - self.epsilon) + uniform * self.epsilon if self.epsilon else loss
        logits = outputs["logits"]
        if logits is None:
            raise ConfigError("Loss.CELoss needs logits, but the network has no head", hint="add Arch.Head")
        labels = outputs.get("logit_labels", labels)  # from a head that samples classes
        loss = F.cross_entropy(logits, labels.reshape([-1, 1]))
        if self.epsilon:
            uniform = -F.log_softmax(logits, axis=-1).mean()
            loss = loss * (1.0 - self.epsilon) + uniform * self.epsilon
        return loss
