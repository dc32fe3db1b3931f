"""The processes of one training run as seen from inside one of them: who am I, and the sums over all of us."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu_cli.train.distributed import exit_with_parent


class Ranks:
    """One process on its own; every collective is the identity."""

    rank = 0
    world = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum_vector(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over all ranks."""
        return list(values)

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Sum of a tensor over all ranks."""
        return value

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replace every gradient by its sum over all ranks (absent gradients count as zero)."""

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order; JSON-like values only."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0."""
        return value

    def broadcast_state(self, *layers: nn.Layer) -> None:
        """Make all ranks' parameters and buffers those of rank 0."""


class ProcessGroup(Ranks):
    """Several processes, joined through Paddle's own collectives (gloo on CPU, NCCL on GPUs)."""

    def __init__(self) -> None:
        import paddle.distributed as dist

        exit_with_parent()
        _init_quietly()
        self._dist = dist
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()

    def sum_vector(self, values: Sequence[float]) -> list[float]:
        tensor = paddle.to_tensor(np.asarray(values, dtype=np.float64))
        self._dist.all_reduce(tensor)
        return [float(value) for value in tensor.numpy()]

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        summed = value.detach().clone()
        self._dist.all_reduce(summed)
        return summed

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """One collective for all gradients: they are laid end to end, summed and cut up again."""
        parts = [
            (p.grad.reshape([-1]) if p.grad is not None else paddle.zeros([int(np.prod(p.shape))], p.dtype))
            for p in parameters
        ]
        flat = paddle.concat(parts)
        self._dist.all_reduce(flat)
        pieces = paddle.split(flat, [part.shape[0] for part in parts])
        for parameter, piece in zip(parameters, pieces, strict=True):
            summed = piece.reshape(parameter.shape)
            if parameter.grad is None:
                parameter.grad = summed
            else:
                parameter.grad.set_value(summed)

    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = []
        self._dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:
        box = [value]
        self._dist.broadcast_object_list(box, src=0)
        return box[0]

    def broadcast_state(self, *layers: nn.Layer) -> None:
        for layer in layers:
            for tensor in layer.state_dict().values():
                self._dist.broadcast(tensor, src=0)


def join() -> Ranks:
    """The group named by the environment (see train/distributed.py), or this process alone."""
    return ProcessGroup() if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 else Ranks()


def _init_quietly() -> None:
    """init_parallel_env without its banner about flags, which goes straight to sys.stderr."""
    import io

    import paddle.distributed as dist

    real, sys.stderr = sys.stderr, io.StringIO()
    try:
        dist.init_parallel_env()
    finally:
        sys.stderr = real
