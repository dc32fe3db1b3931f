"""Limit the length of gradients, of which a process may hold only a part (training/sharded_head.py)."""

from __future__ import annotations

import math
from typing import Any

import paddle
from paddle.nn.clip import ClipGradBase

from shitu_cli.processes.collectives import Ranks


class NormClip(ClipGradBase):
    """Scales each gradient in place by clip_norm / max(norm, clip_norm), where norm is its own.

    It counts all parts of a parameter that is divided over the processes.
    """

    def __init__(self, clip_norm: float, ranks: Ranks) -> None:
        super().__init__()
        self.clip_norm, self._ranks = float(clip_norm), ranks
        self._alone = paddle.nn.ClipGradByNorm(self.clip_norm)

    @paddle.no_grad()
    def __call__(self, params_grads: list[tuple[paddle.Tensor, paddle.Tensor]]) -> list[Any]:
        divided = [pair for pair in params_grads if pair[0].is_distributed]
        shared = self._alone([pair for pair in params_grads if not pair[0].is_distributed])
        if not divided:
            return list(shared)
        lengths = [paddle.linalg.norm(grad.reshape([-1]).astype("float32")) for _, grad in divided]
        squares = [(length * length).numpy().item() for length in lengths]
        for (_, grad), square in zip(divided, self._ranks.sum_vector(squares), strict=True):
            if math.sqrt(square) > self.clip_norm:
                grad.scale_(self.clip_norm / math.sqrt(square))
        return [*shared, *divided]


class GlobalNormClip(ClipGradBase):
    """Scales all gradients in place by clip_norm / max(norm, clip_norm), where norm is that of all of them together.

    It includes all parts of parameters that are divided over the processes.
    """

    def __init__(self, clip_norm: float, ranks: Ranks) -> None:
        super().__init__()
        self.clip_norm, self._ranks = float(clip_norm), ranks

    @paddle.no_grad()
    def __call__(self, params_grads: list[tuple[paddle.Tensor, paddle.Tensor]]) -> list[Any]:
        squares: dict[bool, list[paddle.Tensor]] = {False: [], True: []}
        for parameter, grad in params_grads:
            length = paddle.linalg.norm(grad.reshape([-1]).astype("float32"))
            squares[parameter.is_distributed].append(length * length)
        shared, divided = (sum(squares[kind], start=paddle.zeros([])).numpy().item() for kind in (False, True))
        norm = math.sqrt(shared + self._ranks.sum_vector([divided])[0])
        if norm > self.clip_norm:
            for _, grad in params_grads:
                grad.scale_(self.clip_norm / norm)
        return params_grads
