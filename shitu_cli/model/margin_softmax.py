"""Softmax over very many classes, in one array of the logits' size.

A margin changes only the target's logit. So cross entropy needs only two numbers per image from the other classes,
the logarithm of their sum of exponentials and the sum of their logits; the target's cosine after the margin, and the
loss itself, are small arrays left to ordinary differentiation. The backward pass turns the stored cosines into their
gradients in place.

The classes may be divided over the processes of a run (An et al. 2022, arXiv:2203.15565): each process then
compares the images of all processes with its own classes.
"""

from __future__ import annotations

# mypy: disable-error-code="override"
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from shitu_cli.model import kernels
from shitu_cli.model.cosine import (
    fast,
    inverse_lengths,
    lengths,
    put_columns,
    require_columns,
    subtract_scaled,
    take_columns,
)
from shitu_cli.processes.collectives import Ranks

NONE = -1e30  # the logit of an excluded class


@dataclass(frozen=True)
class SoftmaxSums:
    """What cross entropy needs of logits that are not stored; each [N, 1]."""

    log_sum: paddle.Tensor  # log Σ_j exp(logit_j)
    target: paddle.Tensor  # the label's logit
    mean: paddle.Tensor  # of all logits


@dataclass(frozen=True)
class Targets:
    """The class of each image of all processes among the columns of this process: `places` [N], -1 for none.

    `counts` are the images per process; `chosen` (sorted) the columns to use, None for all; `classes` the number of
    columns in use over all processes.
    """

    places: np.ndarray
    counts: Sequence[int]
    chosen: np.ndarray | None
    classes: int


def softmax_sums(
    x: paddle.Tensor,
    weight: paddle.Tensor,
    targets: Targets,
    margin: Callable[[paddle.Tensor], paddle.Tensor],
    scale: float,
    group: Ranks,
) -> SoftmaxSums:
    """Return the sums over scale * cos(x_i, w_j) [n, C] for the n images of this process.

    `margin` is applied to the cosine of the target. `weight` [D, c] holds the classes of this process. Computed in
    float32, under mixed precision too.
    """
    with paddle.amp.auto_cast(enable=False):
        rest, total, cosine = _CosineSums.apply(x.astype("float32"), weight, targets, scale, group)
        target = margin(cosine) * scale
        log_sum = paddle.logsumexp(paddle.concat([rest, target], 1), 1, keepdim=True)
        return SoftmaxSums(log_sum, target, (total + target) / targets.classes)


class _CosineSums(PyLayer):
    """x [n, D], weight [D, c] → log Σ exp(s c_ij) and Σ s c_ij over all but the target, and c of the target."""

    @staticmethod
    def forward(
        ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, targets: Targets, scale: float, group: Ranks
    ) -> tuple[paddle.Tensor, ...]:
        every = group.gather_rows(x, targets.counts)
        length = lengths(every, 1)
        unit = every / length
        columns = weight if targets.chosen is None else take_columns(weight, targets.chosen)
        inverse = inverse_lengths(columns)
        cosines = _matmul(unit, columns)
        rest, total, target = _sums(cosines, inverse, targets.places, scale)
        top = group.max_tensor(rest)
        sums = group.sum_tensor(paddle.concat([paddle.exp(rest - top), total, target], 1))
        rest, total, target = top + paddle.log(sums[:, :1]), sums[:, 1:2], sums[:, 2:]
        ctx.save_for_backward(unit, length, inverse, weight)
        ctx.cosines, ctx.rest, ctx.columns = cosines, rest, None if targets.chosen is None else columns
        ctx.targets, ctx.scale, ctx.group = targets, scale, group
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight)]
        own = _own_rows(targets.counts, group.rank)
        return rest[own], total[own], target[own]

    @staticmethod
    def backward(ctx: Any, *gradients: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        if ctx.cosines is None:
            raise RuntimeError("the backward pass of this softmax can run only once")
        unit, length, inverse, weight = ctx.saved_tensor()
        targets, group, scaled = ctx.targets, ctx.group, ctx.cosines
        columns = weight if ctx.columns is None else ctx.columns
        ctx.cosines = ctx.columns = None  # overwritten below: the cosines become their gradients
        grads = group.gather_rows(paddle.concat(gradients, 1), targets.counts)
        factor = _gradients(scaled, inverse, targets.places, ctx.scale, ctx.rest, grads)
        dx = dw = None
        if ctx.needs_grad[0]:
            own = _own_rows(targets.counts, group.rank)
            du, unit_own = group.sum_tensor(_matmul(columns, scaled, transpose_y=True).t())[own], unit[own]
            dx = (du - unit_own * (unit_own * du).sum(1, keepdim=True)) / length[own]
        if ctx.needs_grad[1]:
            dw = _matmul(unit, scaled, transpose_x=True)
            subtract_scaled(dw, columns, factor)
            if targets.chosen is not None:
                dw = put_columns(weight, targets.chosen, dw)
        return dx, dw


def _matmul(x: paddle.Tensor, y: paddle.Tensor, transpose_x: bool = False, transpose_y: bool = False) -> paddle.Tensor:
    """Return the matrix product; on CPUs by numpy's BLAS, 2.5 times as fast for a few rows and 185,000 columns."""
    if not fast(x):
        return paddle.matmul(x, y, transpose_x, transpose_y)
    left, right = kernels.array(x), kernels.array(y)
    left, right = left.T if transpose_x else left, right.T if transpose_y else right
    out = paddle.empty([left.shape[0], right.shape[1]], dtype="float32")
    np.matmul(left, right, out=kernels.array(out))
    return out


def _own_rows(counts: Sequence[int], rank: int) -> slice:
    first = sum(counts[:rank])
    return slice(first, first + counts[rank])


def _sums(
    cosines: paddle.Tensor, inverse: paddle.Tensor, places: np.ndarray, scale: float
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Multiply products [N, C] by `inverse` [1, C] in place; return log-sum and sum of the others, target, [N, 1]."""
    if fast(cosines):
        from shitu_cli.model.kernels import columns as loops

        require_columns(places, cosines.shape[1], lowest=-1)
        out = [paddle.empty([len(places), 1], dtype="float32") for _ in range(3)]
        loops.margin_sums(
            kernels.array(cosines), kernels.array(inverse)[0], places, scale, *(kernels.array(t)[:, 0] for t in out)
        )
        return out[0], out[1], out[2]
    cosines.multiply_(inverse)
    at, there = _addresses(places)
    cosine = paddle.take_along_axis(cosines, at, 1)
    target = paddle.where(there, cosine, paddle.zeros_like(cosine))
    logits = cosines * scale
    total = logits.sum(1, keepdim=True) - target * scale
    logits.put_along_axis_(at, paddle.where(there, paddle.full_like(cosine, NONE), cosine * scale), 1)
    return paddle.logsumexp(logits, 1, keepdim=True), total, target


def _gradients(
    cosines: paddle.Tensor,
    inverse: paddle.Tensor,
    places: np.ndarray,
    scale: float,
    rest: paddle.Tensor,
    grads: paddle.Tensor,
) -> paddle.Tensor:
    """Turn cosines c [N, C] into g * inverse with g = dL/dc, in place; returns Σ_i g_ij c_ij inverse_j² [1, C].

    `rest` [N, 1] are the log-sums of all classes, `grads` [N, 3] the gradients of log-sum, sum and target's cosine.
    """
    if fast(cosines):
        from shitu_cli.model.kernels import columns as loops

        factor = paddle.empty_like(inverse)
        loops.margin_gradients(
            kernels.array(cosines), kernels.array(inverse)[0], places, scale, kernels.array(rest)[:, 0],
            kernels.array(grads), kernels.array(factor)[0],
        )  # fmt: skip
        return factor
    at, there = _addresses(places)
    logits = cosines * scale - rest
    kept = paddle.take_along_axis(logits, at, 1)
    logits.put_along_axis_(at, paddle.where(there, paddle.full_like(kept, NONE), kept), 1)
    g = logits.exp_().multiply_(grads[:, :1] * scale).add_(grads[:, 1:2] * scale)
    g.put_along_axis_(at, paddle.where(there, grads[:, 2:], paddle.take_along_axis(g, at, 1)), 1)
    factor = cosines.multiply_(g).sum(0, keepdim=True) * inverse * inverse
    paddle.assign(g.multiply_(inverse), cosines)
    return factor


def _addresses(places: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Return (column to read [N, 1], whether it is the target's [N, 1]); without a target, column 0 is read."""
    column = paddle.to_tensor(places).reshape([-1, 1])
    return column.clip(min=0), column >= 0
