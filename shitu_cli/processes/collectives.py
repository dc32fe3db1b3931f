"""The processes of one training run as seen from inside one of them: who am I, and the sums over all of us."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu_cli.processes.group import Group
from shitu_cli.processes.launch import ProcessGone

# What Paddle raises when gloo or NCCL loses a connection; which of them depends on the moment (External is an OSError).
LOST = (RuntimeError, OSError, SystemError)
BLOCK_BYTES = 64 << 20  # what is sent at once of a matrix, and from what size on a gradient is summed where it is


class Ranks(Group):
    """One process on its own; every collective is the identity. `gone` is set once another process was lost."""

    gone: ProcessGone | None = None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        """Around a backward pass with collectives: Paddle's engine makes an OSError of whatever is raised in it."""
        try:
            yield
        except OSError as error:
            if self.gone is None and "ResourceExhausted" in str(error):
                raise MemoryError(str(error)) from error.__cause__
            raise (self.gone or error) from error.__cause__

    def sum_vector(self, values: Sequence[float]) -> list[float]:
        """Element-wise sum over all ranks."""
        return list(values)

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replace every gradient by its sum over all ranks (absent gradients count as zero).

        Parameters that are divided over the ranks (`is_distributed`) have their whole gradients already.
        """

    def gather_columns(self, tensor: paddle.Tensor, widths: Sequence[int]) -> np.ndarray | None:
        """The columns [D, widths[r]] of all ranks r beside each other, on rank 0; None on the others."""
        return tensor.numpy()

    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        """The rows [n, D] of all ranks under each other, counts[r] of rank r, on rank 0; None on the others."""
        return rows

    def gather(self, value: Any) -> list[Any]:
        """`value` of every rank, in rank order; JSON-like values only."""
        return [value]

    def broadcast(self, value: Any) -> Any:
        """The value of rank 0."""
        return value

    def broadcast_state(self, *layers: nn.Layer) -> None:
        """Make all ranks' parameters and buffers those of rank 0."""
        self.broadcast_tensors([tensor for layer in layers for tensor in layer.state_dict().values()])

    def broadcast_tensors(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Make these tensors those of rank 0, on all ranks."""


def _together(method: Callable[..., Any]) -> Callable[..., Any]:
    """A collective that says ProcessGone when it fails: Paddle only says that a connection did."""

    @functools.wraps(method)
    def run(group: Ranks, *args: Any) -> Any:
        try:
            return method(group, *args)
        except LOST as error:
            group.gone = ProcessGone(error)
            raise group.gone from error

    return run


class ProcessGroup(Ranks):
    """Several processes, joined through Paddle's own collectives (gloo on CPU, NCCL on GPUs)."""

    @_together
    def __init__(self) -> None:
        import paddle.distributed as dist

        _init_quietly()
        self._dist = dist
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()

    @_together
    def sum_vector(self, values: Sequence[float]) -> list[float]:
        tensor = paddle.to_tensor(np.asarray(values, dtype=np.float64))
        self._dist.all_reduce(tensor)
        return [float(value) for value in tensor.numpy()]

    @_together
    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        summed = value.detach().clone()
        self._dist.all_reduce(summed)
        return summed

    @_together
    def max_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        largest = value.detach().clone()
        self._dist.all_reduce(largest, op=self._dist.ReduceOp.MAX)
        return largest

    @_together
    def row_counts(self, count: int) -> list[int]:
        sizes = paddle.zeros([self.world], dtype="int64")
        sizes[self.rank] = count
        self._dist.all_reduce(sizes)
        return [int(size) for size in sizes.numpy()]

    @_together
    def gather_rows(self, rows: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
        """Every rank sends as many rows as the fullest has: pieces of different sizes end in a crash or in garbage."""
        most = max(counts)
        missing = most - rows.shape[0]
        sent = rows.detach()
        if missing:
            sent = paddle.concat([sent, paddle.zeros([missing, *rows.shape[1:]], dtype=rows.dtype)])
        pieces: list[paddle.Tensor] = []
        self._dist.all_gather(pieces, sent.contiguous())
        return paddle.concat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @_together
    def gather_columns(self, tensor: paddle.Tensor, widths: Sequence[int]) -> np.ndarray | None:
        """In blocks of rows, as wide on all as on the widest; sending in pairs hangs with gloo from three ranks on."""
        height, most = tensor.shape[0], max(widths)
        bounds = np.cumsum([0, *widths])
        whole = np.empty((height, bounds[-1]), dtype=tensor[:1].numpy().dtype) if self.is_main else None
        step = max(1, BLOCK_BYTES // (self.world * most * tensor.element_size()))
        for first in range(0, height, step):
            block = tensor[first : first + step].detach()
            missing = most - block.shape[1]
            if missing:
                block = paddle.concat([block, paddle.zeros([block.shape[0], missing], dtype=block.dtype)], axis=1)
            pieces: list[paddle.Tensor] = []
            self._dist.gather(block.contiguous(), pieces, dst=0)
            if whole is not None:
                for rank, piece in enumerate(pieces):
                    whole[first : first + step, bounds[rank] : bounds[rank + 1]] = piece.numpy()[:, : widths[rank]]
        return whole

    @_together
    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        """In blocks of as many rows on all ranks as on the fullest."""
        starts = np.cumsum([0, *counts])
        whole = np.empty((starts[-1], *rows.shape[1:]), rows.dtype) if self.is_main else None
        step = max(1, BLOCK_BYTES // (self.world * rows.itemsize * int(np.prod(rows.shape[1:]))))
        for first in range(0, max(counts), step):
            block = np.zeros((min(step, max(counts) - first), *rows.shape[1:]), rows.dtype)
            own = rows[first : first + step]
            block[: len(own)] = own
            pieces: list[paddle.Tensor] = []
            self._dist.gather(paddle.to_tensor(block), pieces, dst=0)
            if whole is not None:
                for start, count, piece in zip(starts, counts, pieces, strict=False):
                    filled = max(0, min(len(block), count - first))
                    whole[start + first : start + first + filled] = piece.numpy()[:filled]
        return whole

    @_together
    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Small gradients are laid end to end, summed and cut up again; large ones are summed where they are."""
        small = []
        for parameter in parameters:
            if parameter.is_distributed:
                continue
            if parameter.grad is None:
                parameter.grad = paddle.zeros(parameter.shape, parameter.dtype)
            if parameter.size * parameter.element_size() < BLOCK_BYTES:
                small.append(parameter.grad)
            else:
                self._dist.all_reduce(parameter.grad)
        if not small:
            return
        flat = paddle.concat([grad.reshape([-1]) for grad in small])
        self._dist.all_reduce(flat)
        for grad, piece in zip(small, paddle.split(flat, [grad.size for grad in small]), strict=True):
            grad.set_value(piece.reshape(grad.shape))

    @_together
    def gather(self, value: Any) -> list[Any]:
        gathered: list[Any] = []
        self._dist.all_gather_object(gathered, value)
        return gathered

    @_together
    def broadcast(self, value: Any) -> Any:
        box = [value]
        self._dist.broadcast_object_list(box, src=0)
        return box[0]

    @_together
    def broadcast_tensors(self, tensors: Sequence[paddle.Tensor]) -> None:
        for tensor in tensors:
            self._dist.broadcast(tensor, src=0)


def join() -> Ranks:
    """The group named by the environment (see processes/launch.py), or this process alone."""
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
