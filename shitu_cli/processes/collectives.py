"""The processes of a training run as seen from one of them: its rank, and collective operations over all."""

from __future__ import annotations

import functools
import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import paddle
from paddle import nn

from shitu_cli.processes.failures import ProcessGone
from shitu_cli.processes.sharing import Processes

# What Paddle raises when gloo or NCCL loses a connection; which one depends on timing (its External is an OSError).
CONNECTION_ERRORS = (RuntimeError, OSError, SystemError)
BLOCK_BYTES = 64 << 20  # of a matrix sent at once; gradients from this size on are summed in place


class Ranks(Processes):
    """A single process; every collective is the identity. `loss` is set once another process has been lost."""

    loss: ProcessGone | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        """Return the ranks themselves: a copied network belongs to the same processes."""
        return self

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @contextmanager
    def backward_pass(self) -> Iterator[None]:
        """Restore errors raised in a backward pass, which Paddle's engine turns into an OSError."""
        try:
            yield
        except OSError as error:
            if self.loss is None and "ResourceExhausted" in str(error):
                raise MemoryError(str(error)) from error.__cause__
            raise (self.loss or error) from error.__cause__

    def sum_vector(self, values: Sequence[float]) -> list[float]:
        """Return the element-wise sum over all ranks."""
        return list(values)

    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Replace every gradient by its sum over all ranks (absent gradients count as zero).

        Parameters that are divided over the ranks (`is_distributed`) already have their complete gradients.
        """

    def gather_columns(self, tensor: paddle.Tensor, widths: Sequence[int]) -> np.ndarray | None:
        """Return the columns [D, widths[r]] of all ranks r side by side on rank 0, None on the others."""
        return tensor.numpy()

    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the sum of a tensor over all ranks."""
        return value

    def max_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        """Return the element-wise maximum of a tensor over all ranks."""
        return value

    def row_counts(self, count: int) -> list[int]:
        """Return `count` of every rank, in order."""
        return [count]

    def gather_rows(self, rows: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
        """Return the rows [counts[r], ...] of all ranks r, one below the other."""
        return rows

    def broadcast_state(self, *layers: nn.Layer) -> None:
        """Copy the parameters and buffers of rank 0 to all ranks."""
        self.broadcast_tensors([tensor for layer in layers for tensor in layer.state_dict().values()])

    def broadcast_tensors(self, tensors: Sequence[paddle.Tensor]) -> None:
        """Copy these tensors of rank 0 to all ranks, in place."""


def _collective(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a failing collective raise ProcessGone: Paddle only reports a failed connection."""

    @functools.wraps(method)
    def run(group: Ranks, *args: Any) -> Any:
        try:
            return method(group, *args)
        except CONNECTION_ERRORS as error:
            group.loss = ProcessGone(error)
            raise group.loss from error

    return run


class ProcessGroup(Ranks):
    """Several processes, connected by Paddle's collectives (gloo on CPU, NCCL on GPUs)."""

    @_collective
    def __init__(self) -> None:
        import paddle.distributed as dist

        _init_quietly()
        self._dist = dist
        self.rank = dist.get_rank()
        self.world = dist.get_world_size()

    @_collective
    def sum_vector(self, values: Sequence[float]) -> list[float]:
        tensor = paddle.to_tensor(np.asarray(values, dtype=np.float64))
        self._dist.all_reduce(tensor)
        return [float(value) for value in tensor.numpy()]

    @_collective
    def sum_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        total = value.detach().clone()
        self._dist.all_reduce(total)
        return total

    @_collective
    def max_tensor(self, value: paddle.Tensor) -> paddle.Tensor:
        largest = value.detach().clone()
        self._dist.all_reduce(largest, op=self._dist.ReduceOp.MAX)
        return largest

    @_collective
    def row_counts(self, count: int) -> list[int]:
        sizes = paddle.zeros([self.world], dtype="int64")
        sizes[self.rank] = count
        self._dist.all_reduce(sizes)
        return [int(size) for size in sizes.numpy()]

    @_collective
    def gather_rows(self, rows: paddle.Tensor, counts: Sequence[int]) -> paddle.Tensor:
        """Pad to the largest number of rows: with different sizes, the collective crashes or returns garbage."""
        most = max(counts)
        missing = most - rows.shape[0]
        padded = rows.detach()
        if missing:
            padded = paddle.concat([padded, paddle.zeros([missing, *rows.shape[1:]], dtype=rows.dtype)])
        pieces: list[paddle.Tensor] = []
        self._dist.all_gather(pieces, padded.contiguous())
        return paddle.concat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @_collective
    def gather_columns(self, tensor: paddle.Tensor, widths: Sequence[int]) -> np.ndarray | None:
        """Gather in blocks of rows, padded to the widest rank; with gloo, send and receive hang from three ranks on."""
        height, most = tensor.shape[0], max(widths)
        bounds = np.cumsum([0, *widths])
        result = np.empty((height, bounds[-1]), dtype=tensor[:1].numpy().dtype) if self.is_main else None
        step = max(1, BLOCK_BYTES // (self.world * most * tensor.element_size()))
        for first in range(0, height, step):
            block = tensor[first : first + step].detach()
            missing = most - block.shape[1]
            if missing:
                block = paddle.concat([block, paddle.zeros([block.shape[0], missing], dtype=block.dtype)], axis=1)
            pieces: list[paddle.Tensor] = []
            self._dist.gather(block.contiguous(), pieces, dst=0)
            if result is not None:
                for rank, piece in enumerate(pieces):
                    result[first : first + step, bounds[rank] : bounds[rank + 1]] = piece.numpy()[:, : widths[rank]]
        return result

    @_collective
    def gather_array(self, rows: np.ndarray, counts: Sequence[int]) -> np.ndarray | None:
        """Gather in blocks of rows, padded to the number of rows of the largest rank."""
        starts = np.cumsum([0, *counts])
        result = np.empty((starts[-1], *rows.shape[1:]), rows.dtype) if self.is_main else None
        step = max(1, BLOCK_BYTES // (self.world * rows.itemsize * int(np.prod(rows.shape[1:]))))
        for first in range(0, max(counts), step):
            block = np.zeros((min(step, max(counts) - first), *rows.shape[1:]), rows.dtype)
            part = rows[first : first + step]
            block[: len(part)] = part
            pieces: list[paddle.Tensor] = []
            self._dist.gather(paddle.to_tensor(block), pieces, dst=0)
            if result is not None:
                for start, count, piece in zip(starts, counts, pieces, strict=False):
                    size = max(0, min(len(block), count - first))
                    result[start + first : start + first + size] = piece.numpy()[:size]
        return result

    @_collective
    def sum_gradients(self, parameters: Sequence[paddle.Tensor]) -> None:
        """Sum small gradients in one concatenated array and large ones in place."""
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

    @_collective
    def gather(self, value: Any) -> list[Any]:
        """Exchange JSON: Paddle's own gathering of objects would unpickle what comes over the network."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8)
        counts = self.row_counts(len(text))
        texts = self.gather_rows(paddle.to_tensor(text), counts).numpy().tobytes()
        bounds = np.cumsum([0, *counts]).tolist()
        return [json.loads(texts[start:stop]) for start, stop in itertools.pairwise(bounds)]

    @_collective
    def broadcast_tensors(self, tensors: Sequence[paddle.Tensor]) -> None:
        for tensor in tensors:
            self._dist.broadcast(tensor, src=0)


def join() -> Ranks:
    """Return the group that the environment names (see processes/launch.py), or this process alone."""
    return ProcessGroup() if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 else Ranks()


def _init_quietly() -> None:
    """Call init_parallel_env without its banner about flags, which it prints to sys.stderr."""
    import io

    import paddle.distributed as dist

    real, sys.stderr = sys.stderr, io.StringIO()
    try:
        dist.init_parallel_env()
    finally:
        sys.stderr = real
