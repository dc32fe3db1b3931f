"""Clipping by norms, those of what is divided over processes counted whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import pytest

from shitu_cli.processes.collectives import Ranks
from shitu_cli.training.gradient_clip import GlobalNormClip, NormClip


class _Two(Ranks):
    """Two processes with the same values: every sum doubles."""

    world = 2

    def sum_vector(self, values: Sequence[float]) -> list[float]:
        return [2 * value for value in values]


def gradients(*, divided: bool) -> list[tuple[paddle.Tensor, paddle.Tensor]]:
    random = np.random.default_rng(1)
    pairs = []
    for shape in ([3, 4], [5], [2, 6]):
        parameter = paddle.create_parameter(shape, "float32")
        pairs.append((parameter, paddle.to_tensor(random.standard_normal(shape).astype("float32"))))
    pairs[-1][0].is_distributed = divided
    return pairs


@pytest.mark.parametrize(
    ("ours", "paddles"),
    [(GlobalNormClip, paddle.nn.ClipGradByGlobalNorm), (NormClip, paddle.nn.ClipGradByNorm)],
)
@pytest.mark.parametrize("limit", [0.5, 1000.0])
def test_one_process_clips_as_paddle_does(ours: Any, paddles: Any, limit: float) -> None:
    clipped, expected = ours(limit, Ranks())(gradients(divided=False)), paddles(limit)(gradients(divided=False))
    for (_, got), (_, want) in zip(clipped, expected, strict=True):
        assert np.allclose(got.numpy(), want.numpy(), rtol=1e-6)


def test_the_norm_counts_all_parts_of_what_is_divided() -> None:
    whole = [grad.numpy() for _, grad in gradients(divided=True)]
    norm = np.sqrt(sum((grad**2).sum() for grad in [*whole, whole[-1]]))
    for (_, got), want in zip(GlobalNormClip(0.5, _Two())(gradients(divided=True)), whole, strict=True):
        assert np.allclose(got.numpy(), want * 0.5 / norm, rtol=1e-5)


def test_the_norm_of_a_divided_gradient_counts_its_parts() -> None:
    whole = [grad.numpy() for _, grad in gradients(divided=True)]
    clipped = NormClip(0.5, _Two())(gradients(divided=True))
    for (_, got), want, parts in zip(clipped, whole, (1, 1, 2), strict=True):
        norm = np.sqrt(parts * (want**2).sum())
        assert np.allclose(got.numpy(), want * 0.5 / norm, rtol=1e-5)
