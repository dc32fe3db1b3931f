"""TopkAcc of a head: how often the class of an image is among its highest logits."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from shitu_cli.errors import DataError
from shitu_cli.training.classifying import _accuracies


class Head(paddle.nn.Layer):
    """Returns the features as logits."""

    class_num = 4

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return x


def part(features: list[list[float]], labels: list[int], skipped: dict[int, str] | None = None) -> SimpleNamespace:
    dataset = SimpleNamespace(labels=np.array(labels), list_path=Path("val.txt"))
    return SimpleNamespace(features=np.array(features, np.float32), dataset=dataset, skipped=skipped or {})


def test_the_right_class_among_the_first_k() -> None:
    logits = [[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 0, 0], [0, 0, 9, 0], [9, 0, 0, 0]]
    seen = part(logits, [0, 2, 1, 3, -1])
    # Right at once; second; ties go to the smaller class, so second; last of three ties, so fourth; of no class.
    assert _accuracies(Head(), seen, [1, 2, 3]) == {"top1": 0.25, "top2": 0.75, "top3": 0.75}
    assert _accuracies(Head(), part(logits, [0, 2, 1, 3, -1], {1: "broken"}), [1]) == {"top1": pytest.approx(1 / 3)}


def test_labels_that_the_head_has_not_are_named() -> None:
    with pytest.raises(DataError, match="labels up to 5, the head has 4 classes"):
        _accuracies(Head(), part([[1, 2, 3, 4]], [5]), [1])
