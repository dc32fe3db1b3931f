"""Cosines between features and class centres, the costly part of a margin head.

At 185 thousand classes the centres are 380 MB, so every temporary of their size counts. Training uses a
closed-form backward pass that allocates one such array, the gradient itself.
"""

from __future__ import annotations

# mypy: disable-error-code="override"
from typing import Any

import numpy as np
import paddle
from paddle.autograd import PyLayer

from shitu_cli.model import kernels

# Shorter vectors have no direction that training could follow: they are divided by this length, not by their own.
# So a feature of zeros gives cosines of zero and a finite gradient, where it would give NaN.
SHORTEST = 1e-6


def lengths(rows: paddle.Tensor, axis: int) -> paddle.Tensor:
    """Return the lengths of the vectors along `axis`, at least SHORTEST; that axis stays, with size 1."""
    return paddle.clip(paddle.sqrt((rows * rows).sum(axis, keepdim=True)), min=SHORTEST)


def cosine_logits(x: paddle.Tensor, weight: paddle.Tensor, chosen: np.ndarray | None = None) -> paddle.Tensor:
    """Return cos(x_i, w_j), [N, C], for x [N, D] and weight [D, C], of the columns `chosen` (sorted) or all."""
    if paddle.in_dynamic_mode() and not (x.stop_gradient and weight.stop_gradient):
        return _Cosines.apply(x, weight, chosen)
    return paddle.matmul(x / lengths(x, 1), weight) / lengths(weight, 0)


def replace_and_scale(
    values: paddle.Tensor, places: paddle.Tensor, replacement: paddle.Tensor, scale: float
) -> paddle.Tensor:
    """Return scale * values [N, C] with the entries at `places` [N, 1] replaced by `replacement` [N, 1]."""
    if paddle.in_dynamic_mode() and not values.stop_gradient and not replacement.stop_gradient:
        return _ReplaceAndScale.apply(values, places, replacement, scale)
    return paddle.put_along_axis(values, places, replacement, 1) * scale


def sample_centers(places: np.ndarray, class_num: int, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Choose the class centres for one step; return (sorted class ids, position of each label among them [N]).

    These are all classes of the batch and random others, ceil(ratio * class_num) together (more if the batch has
    more); Partial FC (An et al. 2022, arXiv:2203.15565). `places` [N] are the labels, -1 for none. Paddle's generator
    draws them, so that a resumed run draws the same.
    """
    batch_classes = np.unique(places[places >= 0])
    count = max(len(batch_classes), int(np.ceil(ratio * class_num)))
    order = paddle.randperm(class_num).numpy()
    is_chosen = np.zeros(class_num, dtype=bool)
    is_chosen[batch_classes] = True
    others = order[~is_chosen[order]][: count - len(batch_classes)]
    is_chosen[others] = True
    chosen = np.flatnonzero(is_chosen)
    return chosen, np.where(places >= 0, np.searchsorted(chosen, places), -1)


class _Cosines(PyLayer):
    """With u = x / |x|, v = w / |w| and c = u·v: dw_j = (Σ_i g_ij u_i - (Σ_i g_ij c_ij) v_j) / |w_j|, dx alike."""

    @staticmethod
    def forward(ctx: Any, x: paddle.Tensor, weight: paddle.Tensor, chosen: np.ndarray | None) -> paddle.Tensor:
        length = lengths(x, 1)
        unit = x / length
        columns = weight if chosen is None else take_columns(weight, chosen)
        inverse = inverse_lengths(columns)
        cosines = paddle.matmul(unit, columns).multiply_(inverse)
        ctx.save_for_backward(unit, length, inverse, cosines, weight)
        ctx.chosen, ctx.columns = chosen, None if chosen is None else columns
        ctx.needs_grad = [not t.stop_gradient for t in (x, weight)]
        return cosines

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        unit, length, inverse, cosines, weight = ctx.saved_tensor()
        columns = weight if ctx.chosen is None else ctx.columns
        dx = dw = None
        factor = (grad * cosines).sum(0, keepdim=True) * inverse * inverse
        scaled = grad * inverse
        if ctx.needs_grad[0]:
            du = paddle.matmul(scaled, columns, transpose_y=True)
            dx = (du - unit * (unit * du).sum(1, keepdim=True)) / length
        if ctx.needs_grad[1]:
            dw = paddle.matmul(unit, scaled, transpose_x=True)
            subtract_scaled(dw, columns, factor)
            if ctx.chosen is not None:
                dw = put_columns(weight, ctx.chosen, dw)
        return dx, dw


class _ReplaceAndScale(PyLayer):
    """Uses one array of the logits' size each way, where the two separate operators keep two."""

    @staticmethod
    def forward(
        ctx: Any, values: paddle.Tensor, places: paddle.Tensor, replacement: paddle.Tensor, scale: float
    ) -> paddle.Tensor:
        ctx.save_for_backward(places)
        ctx.scale = scale
        return (values * scale).put_along_axis_(places, replacement * scale, 1)

    @staticmethod
    def backward(ctx: Any, grad: paddle.Tensor) -> tuple[paddle.Tensor | None, ...]:
        (places,) = ctx.saved_tensor()
        target = paddle.take_along_axis(grad, places, 1) * ctx.scale
        rest = (grad * ctx.scale).put_along_axis_(places, paddle.zeros_like(target), 1)
        return rest, None, target


def fast(tensor: paddle.Tensor) -> bool:
    """Return whether the compiled loops may work on the memory of this tensor."""
    return tensor.place.is_cpu_place() and tensor.dtype == paddle.float32 and kernels.available()


def inverse_lengths(columns: paddle.Tensor) -> paddle.Tensor:
    """Return 1 / max(|column|, SHORTEST), [1, C]."""
    if not fast(columns):
        return 1.0 / lengths(columns, 0)
    from shitu_cli.model.kernels import columns as loops

    out = paddle.empty([1, columns.shape[1]], dtype="float32")
    loops.inverse_lengths(kernels.array(columns), SHORTEST, kernels.array(out)[0])
    return out


def subtract_scaled(dw: paddle.Tensor, columns: paddle.Tensor, factor: paddle.Tensor) -> None:
    """Compute dw -= columns * factor in place."""
    if not fast(dw):
        dw.subtract_(columns * factor)
        return
    from shitu_cli.model.kernels import columns as loops

    loops.subtract_scaled(kernels.array(dw), kernels.array(columns), kernels.array(factor)[0])


def require_columns(numbers: np.ndarray, count: int, *, lowest: int = 0) -> None:
    """Raise ValueError unless all numbers of columns are from `lowest` to count - 1: compiled loops do not look."""
    if numbers.size and not lowest <= int(numbers.min()) <= int(numbers.max()) < count:
        raise ValueError(f"columns {numbers.min()} to {numbers.max()} are asked for, there are {count}")


def take_columns(weight: paddle.Tensor, chosen: np.ndarray) -> paddle.Tensor:
    """Return the columns `chosen` of weight [D, C], as [D, len(chosen)]."""
    if not fast(weight):
        return paddle.index_select(weight, paddle.to_tensor(chosen), axis=1)
    from shitu_cli.model.kernels import columns as loops

    require_columns(chosen, weight.shape[1])
    out = paddle.empty([weight.shape[0], len(chosen)], dtype="float32")
    loops.take(kernels.array(weight), chosen, kernels.array(out))
    return out


def put_columns(weight: paddle.Tensor, chosen: np.ndarray, values: paddle.Tensor) -> paddle.Tensor:
    """Return zeros like `weight` with `values` in the columns `chosen`."""
    if not fast(weight):
        # rows are what scatter can address
        return paddle.scatter(
            paddle.zeros(weight.shape[::-1], dtype=weight.dtype), paddle.to_tensor(chosen), values.t()
        ).t()
    from shitu_cli.model.kernels import columns as loops

    require_columns(chosen, weight.shape[1])
    out = paddle.empty_like(weight)
    loops.put(kernels.array(values), chosen, kernels.array(out))
    return out
