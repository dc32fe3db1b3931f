"""A lost connection is called by its name, wherever in a step it shows."""

from __future__ import annotations

import paddle
import pytest
from paddle.autograd import PyLayer

from shitu_cli.processes.collectives import ProcessGroup, Ranks
from shitu_cli.processes.failures import ProcessGone


class Broken:
    """Stands in for paddle.distributed after another process has ended."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def all_reduce(self, tensor: paddle.Tensor) -> None:
        raise self.error


def group_that_fails(error: Exception) -> ProcessGroup:
    group = ProcessGroup.__new__(ProcessGroup)
    group.rank, group.world, group._dist = 0, 2, Broken(error)
    return group


class SummedGradient(PyLayer):
    """Identity whose backward pass sums over all processes, as divided heads and synchronised norms do."""

    @staticmethod
    def forward(ctx: object, x: paddle.Tensor, group: Ranks) -> paddle.Tensor:
        ctx.group = group  # type: ignore[attr-defined]
        return x * 1

    @staticmethod
    def backward(ctx: object, gradient: paddle.Tensor) -> paddle.Tensor:
        return ctx.group.sum_tensor(gradient)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [RuntimeError, OSError, SystemError])
def test_every_error_of_a_collective_means_that_a_process_is_gone(kind: type[Exception]) -> None:
    group = group_that_fails(kind("gloo:\nConnection closed by peer"))
    with pytest.raises(ProcessGone, match="another process of the run has ended") as caught:
        group.sum_vector([1.0])
    assert caught.value.details == ["Connection closed by peer"] and group.loss is caught.value


def test_a_process_lost_in_a_backward_pass_is_called_so() -> None:
    x = paddle.ones([2])
    x.stop_gradient = False
    group = group_that_fails(RuntimeError("Connection reset by peer"))
    with pytest.raises(ProcessGone) as caught, group.backward_pass():
        SummedGradient.apply(x, group).sum().backward()
    assert caught.value.details == ["Connection reset by peer"]


def test_other_errors_of_a_backward_pass_stay_what_they_are() -> None:
    error = OSError("no space left")
    with pytest.raises(OSError, match="no space left") as caught, Ranks().backward_pass():
        raise error
    assert caught.value is error


def test_too_little_memory_in_a_backward_pass_is_called_so() -> None:
    """Paddle's engine hands it on as an OSError."""
    with pytest.raises(MemoryError, match="Fail to alloc"), Ranks().backward_pass():
        raise OSError("(External)\n MemoryError: (ResourceExhausted) Fail to alloc memory of 2949120 size")
